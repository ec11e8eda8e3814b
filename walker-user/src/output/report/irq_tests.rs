use serde_json::Value;
use walker_common::StackKind;

use super::{Options, write, write_json};
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

/// A recording with `--irq`, with a sample of each of these interrupts: what it is, its time in
/// nanoseconds, its process and the stack below the interrupt, then a sample of the clock.
fn measured() -> Timeline {
    let mut profile = Profile::new(Meta {
        events: vec!["cpu-clock".to_owned(), "irq".to_owned()],
        unit: Unit::Nanoseconds,
        ..Meta::default()
    });
    let mut points = Vec::new();
    let timer: &[_] = &[
        "asm_sysvec_apic_timer_interrupt",
        "sysvec_apic_timer_interrupt",
    ];
    for (note, weight, comm, below, entry) in [
        ("[local timer interrupt]", 3_000, "dd", "copy_page", timer),
        ("[local timer interrupt]", 9_000, "dd", "copy_page", timer),
        (
            "[local timer interrupt]",
            6_000,
            "swapper/0",
            "default_idle",
            timer,
        ),
        ("[local timer interrupt]", 1_000, "cat", "read", timer),
        ("[softirq BLOCK]", 5_000, "dd", "some_driver", &[]),
        ("", 1_000_000, "dd", "copy_page", &[]),
    ] {
        let task = FrameClass::Kernel(StackKind::Task);
        let irq = FrameClass::Kernel(StackKind::Irq);
        let mut frames = vec![fixture::frame(&mut profile, task, below, None)];
        for name in entry {
            frames.push(fixture::frame(&mut profile, irq, name, None));
        }
        if !note.is_empty() {
            frames.push(profile.note(note));
        }
        points.push(Point {
            time_ns: points.len() as u64,
            stack: points.len() as u32,
            tid: 1,
            cpu: 0,
            number: points.len() as u32 + 1,
            weight,
            first_use: 0,
            use_count: 0,
        });
        let comm = profile.intern(comm);
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames,
            event: usize::from(!note.is_empty()),
            samples: 1,
            weight,
            stop: "end of stack",
            complete: true,
        });
    }
    Timeline {
        profile,
        points,
        uses: Vec::new(),
        began: None,
    }
}

#[test]
fn measured_interrupts_have_a_time_and_victims() {
    let options = Options {
        victims: 2,
        ..Options::default()
    };
    assert_eq!(
        lines(&measured(), &options),
        [
            "times are measured",
            "",
            "Share %      Time  Count      Mean       Max  Handler, and whom it interrupted",
            "  79.17  19.00 µs      4  4.750 µs  9.000 µs  [local timer interrupt]",
            "  50.00  12.00 µs      2                        dd: copy_page",
            "  25.00  6.000 µs      1                        swapper/0: default_idle",
            "                                                1 more",
            "  20.83  5.000 µs      1  5.000 µs  5.000 µs  [softirq BLOCK]",
            "  20.83  5.000 µs      1                        dd: some_driver",
        ]
    );
}

#[test]
fn sampled_interrupts_have_a_time_that_is_said_to_be_estimated() {
    let lines_of = |timeline: &Timeline| lines(timeline, &Options::default());
    let mut timeline = fixture::timeline();
    assert_eq!(
        lines_of(&timeline),
        [
            "times are estimated from how often samples were taken; `stackwalk record --irq` \
             measures them",
            "",
            "Share %      Time  Count  Mean  Max  Handler, and whom it interrupted",
            "  74.07  20.06 ms     20     -    -  exc_nmi",
            "  74.07  20.06 ms     20               cc1: __sysvec_apic_timer_interrupt",
            "  25.93  7.021 ms      7     -    -  sysvec_apic_timer_interrupt",
            "  25.93  7.021 ms      7               cc1: do_syscall_64",
        ]
    );
    // A sample of an event stands for no time.
    timeline.profile.meta.events = vec!["page-faults".to_owned()];
    let lines = lines_of(&timeline);
    assert!(lines[0].contains("is not known"), "{lines:#?}");
    assert_eq!(lines[3], "  74.07     -     20     -    -  exc_nmi");
}

#[test]
fn no_interrupt_is_said() {
    let mut timeline = fixture::timeline();
    timeline = timeline.filtered(&crate::profile::filter::Filter {
        comm: vec!["make".to_owned()],
        ..Default::default()
    });
    let lines = lines(&timeline, &Options::default());
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("no sample is in an interrupt"));
}

#[test]
fn programs_are_told_the_same() {
    let mut out = Vec::new();
    let options = Options {
        limit: Some(1),
        victims: 1,
        ..Options::default()
    };
    write_json(&measured(), &options, &mut out).unwrap();
    let object: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["times"], "measured");
    assert_eq!(
        object["rows"],
        serde_json::json!([{
            "handler": "[local timer interrupt]",
            "samples": 4, "time_ns": 19_000, "mean_ns": 4_750, "max_ns": 9_000,
            "victims": [
                {"comm": "dd", "function": "copy_page", "samples": 2, "time_ns": 12_000}
            ],
            "victims_left_out": 2,
        }])
    );
    assert_eq!(object["rows_left_out"], 1);
}
