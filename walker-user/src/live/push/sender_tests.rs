//! What is sent when, to a store that answers as it is told.

use std::sync::{Mutex, mpsc};

use super::{
    super::test_store::{Store, target},
    *,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A sender to an address, and what it says.
fn sender(target: Target, spool: Option<Spool>) -> (Sender, mpsc::Receiver<String>) {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let settings = Settings {
        target,
        every: Duration::from_secs(1),
        spool,
    };
    let say = move |text: &str| said.lock().unwrap().send(text.to_owned()).unwrap();
    let sender = Sender::new(&settings, std::sync::Arc::new(say)).unwrap();
    (sender, heard)
}

fn batch(number: u8) -> Batch {
    let from_ms = 1_700_000_000_000 + u64::from(number) * 10_000;
    Batch {
        from_ms,
        until_ms: from_ms + 10_000,
        body: vec![0x1f, 0x8b, number],
    }
}

fn counted(sender: &Sender) -> [u64; 4] {
    let Pushed {
        made,
        sent,
        waiting,
        dropped,
    } = sender.pushed();
    assert_eq!(made, sent + waiting + dropped);
    [made, sent, waiting, dropped]
}

#[test]
fn batches_go_out_oldest_first_again_after_a_failure() {
    let store = Store::new();
    let (mut sender, said) = sender(store.target(), None);
    sender.add(batch(0));
    sender.add(batch(1));
    store.answer("503 Service Unavailable", "", "too busy\nmore");
    assert!(!sender.attempt(LIMIT));
    assert_eq!(counted(&sender), [2, 0, 2, 0]);
    let pause = sender.due_in(Instant::now()).unwrap();
    assert!(pause > Duration::ZERO && pause <= FIRST_PAUSE, "{pause:?}");
    store.answer("500 Internal Server Error", "", "");
    assert!(!sender.attempt(LIMIT));
    let pause = sender.due_in(Instant::now()).unwrap();
    assert!(pause > FIRST_PAUSE && pause <= 2 * FIRST_PAUSE, "{pause:?}");
    store.ok();
    assert!(sender.attempt(LIMIT));
    store.ok();
    assert!(!sender.attempt(LIMIT));
    assert_eq!(counted(&sender), [2, 2, 0, 0]);
    assert_eq!(sender.due_in(Instant::now()), None);
    for number in [0, 0, 0, 1] {
        let request = store.request();
        assert_eq!(request.body, batch(number).body);
        assert!(request.head.starts_with("POST /ingest?name=stackwalk%7B"));
        assert_eq!(request.parameter("format"), "pprof");
        let from = 1_700_000_000 + u64::from(number) * 10;
        assert_eq!(request.parameter("from"), from.to_string());
        assert_eq!(request.parameter("until"), (from + 10).to_string());
    }
    let said: Vec<String> = said.try_iter().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("503 Service Unavailable: too busy"),
        "{said:?}"
    );
    assert!(said[1].contains("again"), "{said:?}");
}

#[test]
fn pauses_double_up_to_a_minute() {
    let (mut sender, _said) = sender(target("127.0.0.1:1".parse().unwrap()), None);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        sender.wait("", None);
        assert_eq!(sender.pause.unwrap().0, Duration::from_secs(seconds));
    }
}

#[test]
fn what_is_refused_is_dropped_and_said_once() {
    let store = Store::new();
    let (mut sender, said) = sender(store.target(), None);
    for number in 0..3 {
        sender.add(batch(number));
    }
    store.answer("400 Bad Request", "", "name: invalid");
    assert!(sender.attempt(LIMIT));
    // It would have to be sent elsewhere, with all that proves who sends.
    store.answer(
        "307 Temporary Redirect",
        "Location: http://127.0.0.1:1/\r\n",
        "",
    );
    assert!(sender.attempt(LIMIT));
    store.ok();
    assert!(!sender.attempt(LIMIT));
    assert_eq!(counted(&sender), [3, 1, 0, 2]);
    let said: Vec<String> = said.try_iter().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("400 Bad Request: name: invalid"),
        "{said:?}"
    );
}

#[test]
fn a_store_says_how_long_to_wait() {
    let store = Store::new();
    let (mut sender, _said) = sender(store.target(), None);
    sender.add(batch(0));
    for (status, asked, seconds) in [
        ("429 Too Many Requests", "120", 120),
        ("503 Service Unavailable", "7", 7),
        ("408 Request Timeout", "Wed, 21 Oct 2015 07:28:00 GMT", 4),
        ("429 Too Many Requests", "99999999", 3600),
    ] {
        store.answer(status, &format!("Retry-After: {asked}\r\n"), "");
        assert!(!sender.attempt(LIMIT));
        let wait = sender.due_in(Instant::now()).unwrap();
        let wanted = Duration::from_secs(seconds);
        assert!(
            wait <= wanted && wait > wanted - Duration::from_secs(1),
            "{status} {wait:?}"
        );
    }
    assert_eq!(counted(&sender), [1, 0, 1, 0]);
}

#[test]
fn a_store_that_is_silent_or_gone_is_given_up() {
    let store = Store::new();
    let (mut sender, said) = sender(store.target(), None);
    sender.add(batch(0));
    let before = Instant::now();
    assert!(!sender.attempt(Duration::from_millis(200)));
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(counted(&sender), [1, 0, 1, 0]);
    assert_eq!(said.try_iter().count(), 1);
    // What is in memory ends with the process.
    sender.finish();
    assert_eq!(counted(&sender), [1, 0, 0, 1]);
}

#[test]
fn headers_are_sent() {
    let store = Store::new();
    let asked = super::super::target::Asked {
        url: format!("http://user:pass@{}/other", store.address),
        name: "my/app".to_owned(),
        labels: vec![("env".to_owned(), "a b".to_owned())],
        headers: vec![("X-Scope-OrgID".to_owned(), "7".to_owned())],
    };
    let (mut sender, _said) = sender(Target::new(&asked).unwrap(), None);
    sender.add(batch(0));
    store.ok();
    sender.attempt(LIMIT);
    let head = store.request().head.to_lowercase();
    assert!(head.starts_with("post /other?name=my%2fapp%7b"), "{head}");
    assert!(head.contains("%2cenv%3da%20b%7d&"), "{head}");
    assert!(head.contains("\r\nx-scope-orgid: 7\r\n"), "{head}");
    assert!(
        head.contains("\r\nauthorization: basic dxnlcjpwyxnz\r\n"),
        "{head}"
    );
}

#[test]
fn what_could_not_be_sent_is_sent_by_the_next_process() {
    let place = tempfile::tempdir().unwrap();
    let spool = Spool {
        folder: place.path().join("spool"),
        limit: 1000,
    };
    let gone = target("127.0.0.1:1".parse().unwrap());
    let (mut before, _said) = sender(gone, Some(spool.clone()));
    before.add(batch(0));
    before.add(batch(1));
    assert!(!before.attempt(LIMIT));
    before.finish();
    assert_eq!(counted(&before), [2, 0, 2, 0]);
    drop(before);

    let store = Store::new();
    let (mut sender, _said) = sender(store.target(), Some(spool.clone()));
    assert_eq!(counted(&sender), [2, 0, 2, 0]);
    sender.add(batch(2));
    for number in 0..3 {
        store.ok();
        assert_eq!(sender.attempt(LIMIT), number < 2);
        assert_eq!(store.request().body, batch(number).body);
    }
    assert_eq!(counted(&sender), [3, 3, 0, 0]);
    let files = std::fs::read_dir(spool.folder).unwrap();
    assert_eq!(files.count(), 1, "the lock alone is left");
}
