use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<EventKind, EventError> {
    text.parse::<EventSpec>().map(|event| event.kind)
}

fn perf(text: &str) -> PerfEvent {
    match parse(text).unwrap() {
        EventKind::Perf(event) => event,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn perfs_names_are_known() {
    assert_eq!(perf("cpu-clock").kind, bindings::PERF_TYPE_SOFTWARE);
    assert!(perf("cpu-clock").is_clock() && perf("task-clock").is_clock());
    assert_eq!(perf("cs"), perf("context-switches"));
    assert!(perf("cs").is_of_scheduler() && !perf("faults").is_of_scheduler());
    assert_eq!(perf("cycles").kind, bindings::PERF_TYPE_HARDWARE);
    assert!(perf("cycles").is_hardware() && !perf("cs").is_hardware());
    assert_eq!(perf("LLC-load-misses").config, 2 | 1 << 16);
    assert_eq!(perf("dTLB-stores").config, 3 | 1 << 8);
    let raw = perf("r1a8");
    assert_eq!((raw.kind, raw.config), (bindings::PERF_TYPE_RAW, 0x1a8));
}

#[test]
fn modifiers_say_where_it_counts() {
    let modifiers = perf("cycles:upp").modifiers;
    assert!(modifiers.user && !modifiers.kernel);
    assert_eq!(modifiers.precise, 2);
    assert!(perf("page-faults:k").modifiers.kernel);
    assert!(matches!(parse("cycles:z"), Err(EventError::Unknown(_))));
    assert!(matches!(parse("cycles:"), Err(EventError::Unknown(_))));
}

#[test]
fn tracepoints_and_probes() {
    assert_eq!(
        parse("sched:sched_switch").unwrap(),
        EventKind::Tracepoint {
            category: "sched".to_owned(),
            name: "sched_switch".to_owned(),
        }
    );
    assert_eq!(
        parse("kprobe:vfs_read+0x10").unwrap(),
        EventKind::Kprobe {
            function: "vfs_read".to_owned(),
            offset: 16,
            returns: false,
        }
    );
    let entry = EventKind::Entry {
        function: "vfs_read".to_owned(),
    };
    assert_eq!(parse("fentry:vfs_read").unwrap(), entry);
    let uprobe = |symbol: Option<&str>, offset, returns| EventKind::Uprobe {
        binary: "/bin/a:b".into(),
        symbol: symbol.map(str::to_owned),
        offset,
        returns,
    };
    let asked = |text: &str| parse(text).unwrap();
    assert_eq!(
        asked("uprobe:/bin/a:b:main"),
        uprobe(Some("main"), 0, false)
    );
    assert_eq!(asked("uretprobe:/bin/a:b:f"), uprobe(Some("f"), 0, true));
    assert_eq!(asked("uprobe:/bin/a:b:0x1130"), uprobe(None, 0x1130, false));
}

#[test]
fn watchpoints() {
    let watch = |text: &str| match parse(text).unwrap() {
        EventKind::Watch(watch) => watch,
        other => panic!("{text}: {other:?}"),
    };
    let plain = watch("mem:0x1000");
    assert_eq!(plain.place, WatchPlace::Address(0x1000));
    assert_eq!((plain.length, plain.access), (4, READ | WRITE));
    let full = watch("mem:0x1008/8:w");
    assert_eq!((full.length, full.access), (8, WRITE));
    assert_eq!(watch("mem:0x1001:x").length, 8);
    let variable = watch("mem:count@./a/b:c/8:w");
    let expected = WatchPlace::Binary {
        symbol: "count".to_owned(),
        binary: "./a/b:c".into(),
    };
    assert_eq!((variable.place, variable.length), (expected, 8));
    let member = watch("mem:softnet_data.processed:rw");
    let name = "softnet_data.processed".to_owned();
    assert_eq!(member.place, WatchPlace::Symbol(name));
}

#[test]
fn nonsense_is_refused_with_what_would_be_right() {
    for (text, say) in [
        ("", "no event is called"),
        ("nonsense", "cpu-clock"),
        ("a b:c", "no event is called"),
        ("kprobe:", "kprobe:FUNCTION"),
        ("fexit:", "fexit:FUNCTION"),
        ("uprobe:main", "uprobe:BINARY:SYMBOL"),
        ("uprobe::main", "uprobe:BINARY:SYMBOL"),
        ("mem:", "no address"),
        ("mem:@b", "no address"),
        ("mem:a@/4:w", "no address"),
        ("mem:0x1000/3", "1, 2, 4 or 8"),
        ("mem:0x1001/4", "multiple of its length"),
        ("mem:0x1000:q", "r, w and x"),
        ("mem:0x1000:rx", "x alone"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(say), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_an_event_or_an_error(text in "[a-z0-9:/+._x-]{0,30}") {
        let _either = parse(&text);
    }
}
