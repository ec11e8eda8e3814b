//! What arrives at a store while samples go on.

use super::{
    super::{
        prepare,
        test_store::{self, Store},
    },
    *,
};
use crate::{
    kernel::kallsyms::Kallsyms,
    live::{
        Window,
        hub::{self, Counted, Intake, LiveSample, Subject},
    },
    recording::head::{EventHead, Head},
    stack_tree::{Place, Process},
    sys::clock::monotonic_ns,
    unwind::StopReason,
};

/// A hub, to which the samples of one process go.
fn hub() -> (Intake, Arc<Live>) {
    let kallsyms = "ffffffff81000000 T _stext\nffffffff82000000 T _etext\n";
    let (intake, live) = hub::start(Subject {
        head: Head {
            events: vec![EventHead::counted("cpu-clock", Some(100))],
            ..Head::default()
        },
        cpus: vec![0],
        kallsyms: Arc::new(Kallsyms::read(kallsyms.as_bytes()).unwrap()),
        addresses: false,
    })
    .unwrap();
    let batch = hub::Batch {
        processes: vec![Process {
            pid: 7,
            name: *b"program\0\0\0\0\0\0\0\0\0",
            comm: *b"program\0\0\0\0\0\0\0\0\0",
        }],
        ..hub::Batch::default()
    };
    intake.offer(Box::new(batch)).unwrap();
    (intake, live)
}

fn sample(intake: &Intake, count: usize) {
    let sample = LiveSample {
        time_ns: monotonic_ns(),
        cpu: 0,
        event: 0,
        place: Place::Process(0),
        stop: StopReason::NoUnwindInfo { ip: 1 },
        weight: 1,
    };
    let batch = hub::Batch {
        samples: vec![sample; count],
        counted: Counted::default(),
        ..hub::Batch::default()
    };
    intake.offer(Box::new(batch)).unwrap();
}

fn settings(store: &Store, every: Duration) -> Settings {
    Settings {
        target: store.target(),
        every,
        spool: None,
    }
}

/// Waits until the hub has something new.
fn flushed(live: &Live) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut changes = live.changes();
    changes.mark_unchanged();
    runtime.block_on(changes.changed()).unwrap();
}

fn quiet() -> Say {
    Arc::new(|_: &str| {})
}

/// The samples of a request.
fn samples(request: &test_store::Request) -> i64 {
    pprof::samples(&request.body)
}

#[test]
fn every_sample_arrives_once_in_spans_without_a_gap() {
    let (intake, live) = hub();
    let store = Store::new();
    let settings = settings(&store, Duration::from_secs(1));
    let pusher = prepare(Some(settings), quiet()).unwrap();
    let pusher = pusher.start(Arc::clone(&live)).unwrap();
    let (mut sent, mut spans, mut got) = (0, Vec::new(), 0);
    let mut take = |request: test_store::Request| {
        got += samples(&request);
        let time = |name| request.parameter(name).parse::<u64>().unwrap();
        spans.push((time("from"), time("until")));
        got
    };
    for _ in 0..10 {
        store.ok();
    }
    // Samples are added all the time, so that some are near the ends of spans.
    for _ in 0..3 {
        let mut request = None;
        while request.is_none() {
            sample(&intake, 3);
            sent += 3;
            flushed(&live);
            request = store.next();
        }
        take(request.unwrap());
    }
    pusher.end();
    let mut all = 0;
    while let Some(request) = store.next() {
        all = take(request);
    }
    assert_eq!(all, sent);
    for pair in spans.windows(2) {
        assert!(
            pair[0].1 == pair[1].0 || pair[0].1 == pair[1].0 + 1,
            "{spans:?}"
        );
    }
    let pushed = live.pushed().unwrap();
    assert_eq!(pushed.sent, spans.len() as u64);
    assert_eq!((pushed.waiting, pushed.dropped), (0, 0));
}

#[test]
fn nothing_is_sent_of_an_empty_span_and_the_end_sends_the_rest() {
    let (intake, live) = hub();
    let store = Store::new();
    let pusher = prepare(Some(settings(&store, Duration::from_millis(50))), quiet()).unwrap();
    let pusher = pusher.start(Arc::clone(&live)).unwrap();
    // Twice the time after which a span is past.
    while live.slot() < 2 * LATE {
        flushed(&live);
    }
    assert_eq!(store.more(), 0);
    sample(&intake, 4);
    store.ok();
    pusher.end();
    assert_eq!(samples(&store.request()), 4);
    assert_eq!(live.pushed().unwrap().sent, 1);
}

#[test]
fn a_store_that_never_answers_holds_nothing_else_up() {
    let (intake, live) = hub();
    let store = Store::new();
    let pusher = prepare(Some(settings(&store, Duration::from_millis(100))), quiet()).unwrap();
    let pusher = pusher.start(Arc::clone(&live)).unwrap();
    sample(&intake, 1);
    // It has come, and is not answered.
    assert_eq!(samples(&store.request()), 1);
    let before = Instant::now();
    assert!(pusher.change(None));
    sample(&intake, 1);
    let slot = live.slot();
    while live.slot() == slot {
        flushed(&live);
    }
    assert!(before.elapsed() < PATIENCE / 2, "{:?}", before.elapsed());
    let waiting = live.pushed().map(|pushed| pushed.waiting);
    assert_eq!(waiting, Some(1));
}

#[test]
fn other_settings_hold_for_what_is_sampled_after_them() {
    let (intake, live) = hub();
    let (first, second) = (Store::new(), Store::new());
    let every = Duration::from_millis(50);
    let pusher = prepare(None, quiet()).unwrap();
    let pusher = pusher.start(Arc::clone(&live)).unwrap();
    // Nobody wants these.
    sample(&intake, 1);
    while live.window(Window::Start).meta.totals.delivered < 1 {
        flushed(&live);
    }
    flushed(&live);
    assert_eq!(live.pushed(), None);
    assert!(pusher.change(Some(settings(&first, every))));
    while live.pushed().is_none() {
        flushed(&live);
    }
    sample(&intake, 2);
    assert_eq!(samples(&first.request()), 2);
    first.answer("503 Service Unavailable", "Retry-After: 3600\r\n", "");
    while live.pushed().unwrap().waiting == 0 {
        flushed(&live);
    }
    // What waits goes to the other at once.
    assert!(pusher.change(Some(settings(&second, every))));
    second.ok();
    assert_eq!(samples(&second.request()), 2);
    sample(&intake, 3);
    second.ok();
    assert_eq!(samples(&second.request()), 3);
    pusher.end();
    let pushed = live.pushed().unwrap();
    assert_eq!((pushed.made, pushed.sent), (2, 2));
    assert_eq!(first.more() + second.more(), 0);
}

#[test]
fn a_clock_that_is_set_is_followed() {
    let began = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let after = |seconds| began + Duration::from_secs(seconds);
    // 100 slots are five seconds.
    assert_eq!(corrected(began, 100, after(6)), began);
    assert_eq!(corrected(began, 100, after(4)), began);
    assert_eq!(corrected(began, 100, after(3605)), after(3600));
    assert_eq!(corrected(after(3600), 100, after(5)), began);
}
