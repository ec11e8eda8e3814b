use proptest::prelude::*;
use serde_json::Value;

use super::{By, Options, Sort, write, write_json};
use crate::profile::{
    FrameClass, Meta, Profile, Unit, WeightedStack, fixture,
    timeline::{Point, Timeline},
};

/// The lines of a report below the heading of the recording.
fn lines(timeline: &Timeline, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    write(timeline, options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let (_, table) = text.split_once("\n\n").unwrap();
    table.lines().map(str::to_owned).collect()
}

fn by(by: By) -> Options {
    Options {
        by,
        ..Options::default()
    }
}

#[test]
fn functions_are_in_the_order_of_what_they_weigh_by_themselves() {
    assert_eq!(
        lines(&fixture::timeline(), &by(By::Function)),
        [
            "Self %  Self  Total %  Total  Stack     Module     Function",
            " 50.00    50    92.00     92  [u]       cc1        parse<int; char>(a)",
            " 20.00    20    20.00     20  [k] NMI   [kernel]   perf_event_nmi_handler",
            " 10.00    10    42.00     42  [k] TASK  [kernel]   do_syscall_64",
            "  7.00     7    27.00     27  [k] IRQ   [kernel]   __sysvec_apic_timer_interrupt",
            "  6.00     6     6.00      6  [u]       libc.so.6  libc.so.6+0x1d",
            "  5.00     5     5.00      5  [k] TASK  [kernel]   [not unwound]",
            "  2.00     2     2.00      2  [k] TASK  [kernel]   [unknown]",
            "  0.00     0    92.00     92  [u]       cc1        _start",
            "  0.00     0    42.00     42  [k] TASK  [kernel]   entry_SYSCALL_64_after_hwframe",
            "  0.00     0    27.00     27  [k] TASK  [kernel]   asm_sysvec_apic_timer_interrupt",
            "  0.00     0    20.00     20  [k] NMI   [kernel]   asm_exc_nmi",
        ]
    );
}

#[test]
fn by_total_and_only_some() {
    let options = Options {
        sort: Sort::Total,
        limit: Some(3),
        width: Some(60),
        ..Options::default()
    };
    assert_eq!(
        lines(&fixture::timeline(), &options),
        [
            "Self %  Self  Total %  Total  Stack     Module    Function",
            " 50.00    50    92.00     92  [u]       cc1       parse<in…har>(a)",
            "  0.00     0    92.00     92  [u]       cc1       _start",
            " 10.00    10    42.00     42  [k] TASK  [kernel]  do_syscall_64",
            "8 more rows, 40.00 %",
        ]
    );
}

#[test]
fn samples_by_what_they_have_in_common() {
    let timeline = fixture::timeline();
    assert_eq!(
        lines(&timeline, &by(By::Thread)),
        [
            "Share %  Weight  PID  TID  Thread",
            "  62.00      62   42   42  cc1",
            "  30.00      30   42   43  cc1",
            "   6.00       6   42   43  make",
            "   2.00       2   42   42  make",
        ]
    );
    assert_eq!(
        lines(&timeline, &by(By::Process))[1..],
        ["  92.00      92   42  cc1", "   8.00       8   42  make"]
    );
    assert_eq!(
        lines(&timeline, &by(By::Cpu))[1..],
        ["  50.00      50    0", "  50.00      50    1"]
    );
    assert_eq!(
        lines(&timeline, &by(By::Event))[1..],
        [" 100.00     100  cpu-clock"]
    );
    // A sample counts once for each kind of stack that it is on.
    assert_eq!(
        lines(&timeline, &by(By::Stack))[1..],
        [
            " 56.00    56    98.00     98  [u]",
            " 20.00    20    20.00     20  [k] NMI",
            " 17.00    17    44.00     44  [k] TASK",
            "  7.00     7    27.00     27  [k] IRQ",
        ]
    );
    assert_eq!(
        lines(&timeline, &by(By::Module))[1..],
        [
            " 50.00    50    92.00     92  cc1",
            " 44.00    44    44.00     44  [kernel]",
            "  6.00     6     6.00      6  libc.so.6",
        ]
    );
}

/// A recording of one sample, of a function with this name.
fn named(name: &str, unit: Unit) -> Timeline {
    let mut profile = Profile::new(Meta {
        unit,
        ..Meta::default()
    });
    let frame = fixture::frame(&mut profile, FrameClass::User, name, Some("\u{1b}[2J"));
    let comm = profile.intern("a");
    profile.push(WeightedStack {
        process: comm,
        comm,
        pid: None,
        frames: vec![frame],
        event: 0,
        samples: 1,
        weight: 1_500_000,
        stop: "end of stack",
        complete: true,
    });
    let point = Point {
        time_ns: 0,
        stack: 0,
        tid: 1,
        cpu: 0,
        number: 1,
        weight: 1_500_000,
        first_use: 0,
        use_count: 0,
    };
    Timeline {
        profile,
        points: vec![point],
        uses: Vec::new(),
        began: None,
    }
}

#[test]
fn weights_have_their_unit_and_names_do_no_harm() {
    let name = "f\u{1b}]0;x\u{7}\u{202e}g";
    let row = |unit| lines(&named(name, unit), &by(By::Function)).pop();
    assert_eq!(
        row(Unit::Nanoseconds).unwrap(),
        "100.00  1.500 ms   100.00  1.500 ms  [u]    _[2J    f_]0;x__g"
    );
    assert_eq!(
        row(Unit::Events).unwrap(),
        "100.00  1,500,000   100.00  1,500,000  [u]    _[2J    f_]0;x__g"
    );
    let process = lines(&named(name, Unit::Samples), &by(By::Process)).pop();
    assert_eq!(process.unwrap(), " 100.00  1,500,000    -  a");
}

#[test]
fn programs_are_told_the_same() {
    let options = Options {
        limit: Some(2),
        ..Options::default()
    };
    let mut out = Vec::new();
    write_json(&fixture::timeline(), &options, &mut out).unwrap();
    let object: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["format"], "stackwalk-report");
    assert_eq!(object["by"], "function");
    assert_eq!(object["rows_left_out"], 9);
    assert_eq!(object["recording"]["samples"], 100);
    assert_eq!(
        object["rows"][1],
        serde_json::json!({
            "stack": "[k] NMI", "module": "[kernel]", "function": "perf_event_nmi_handler",
            "self": 20, "self_percent": 20.0, "total": 20, "total_percent": 20.0, "samples": 20,
        })
    );
}

proptest! {
    #[test]
    fn weights_add_up(profile in fixture::any_profile()) {
        let whole = profile.weight();
        let empty = profile.stacks().iter().filter(|stack| stack.frames.is_empty());
        let empty: u64 = empty.map(|stack| stack.weight).sum();
        let timeline = Timeline { profile, points: Vec::new(), uses: Vec::new(), began: None };
        for by in [By::Function, By::Stack, By::Module] {
            let rows = by.rows(&timeline);
            let own: u64 = rows.iter().map(|row| row.own).sum();
            prop_assert_eq!(own, whole - empty);
            prop_assert!(rows.iter().all(|row| row.own <= row.total && row.total <= whole));
        }
    }
}
