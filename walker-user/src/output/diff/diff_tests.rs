use std::time::Duration;

use roxmltree::Document;

use super::{Compared, Diff, Measure, Options, Refused, folded, svg, write, write_json};
use crate::{
    output::report::Sort,
    profile::{Meta, Profile, Unit, filter::Filter, fixture},
};

const SECOND: Duration = Duration::from_secs(1);

fn compared(profile: &Profile) -> Compared<'_> {
    Compared {
        profile,
        duration: SECOND,
    }
}

fn diff(before: &Profile, after: &Profile, measure: Measure) -> Result<Diff, Refused> {
    Diff::new(compared(before), compared(after), measure)
}

/// The samples of the fixture that are in the NMI: 20 of 100.
fn in_nmi() -> Profile {
    let filter = Filter {
        grep: Some(regex::Regex::new("nmi").unwrap()),
        ..Filter::default()
    };
    fixture::timeline().filtered(&filter).profile
}

/// The lines of the table.
fn lines(diff: &Diff, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    write(diff, options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let (_, table) = text.rsplit_once("\n\n").unwrap();
    table.lines().map(str::to_owned).collect()
}

#[test]
fn what_changed_most_comes_first() {
    let diff = diff(&fixture::profile(), &in_nmi(), Measure::Share).unwrap();
    let options = Options {
        limit: Some(5),
        ..Options::default()
    };
    assert_eq!(
        lines(&diff, &options),
        [
            "Changes in percent of all:",
            " Self     now  change  relative  Total     now  change  Stack     Module     Function",
            "20.00  100.00  +80.00  +400.0 %  20.00  100.00  +80.00  [k] NMI   [kernel]   \
             perf_event_nmi_handler",
            "50.00    0.00  -50.00      gone  92.00  100.00   +8.00  [u]       cc1        \
             parse<int; char>(a)",
            "10.00    0.00  -10.00      gone  42.00  100.00  +58.00  [k] TASK  [kernel]   \
             do_syscall_64",
            " 7.00    0.00   -7.00      gone  27.00  100.00  +73.00  [k] IRQ   [kernel]   \
             __sysvec_apic_timer_interrupt",
            " 6.00    0.00   -6.00      gone   6.00    0.00   -6.00  [u]       libc.so.6  \
             libc.so.6+0x1d",
            "6 more functions changed",
        ]
    );
    let options = Options {
        sort: Sort::Total,
        limit: Some(2),
        width: None,
    };
    let lines = lines(&diff, &options);
    assert!(lines[3].ends_with("20.00  100.00  +80.00  [k] NMI  [kernel]  asm_exc_nmi"));
}

#[test]
fn a_second_is_compared_with_a_second() {
    let (before, after) = (fixture::profile(), in_nmi());
    let [before, after] = [(&before, 10), (&after, 1)].map(|(profile, seconds)| Compared {
        profile,
        duration: SECOND * seconds,
    });
    let diff = Diff::new(before, after, Measure::PerSecond).unwrap();
    let lines = lines(&diff, &Options::default());
    assert_eq!(lines[0], "Changes in samples per second:");
    assert!(
        lines[2].starts_with("2.00  20.00  +18.00  +900.0 %   2.00  20.00"),
        "{lines:#?}"
    );
}

#[test]
fn a_recording_is_no_different_from_itself() {
    let profile = fixture::profile();
    let diff = diff(&profile, &profile, Measure::Share).unwrap();
    assert_eq!(lines(&diff, &Options::default()), ["no function changed"]);

    let mut out = Vec::new();
    write_json(&diff, &Options::default(), &mut out).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["rows"], serde_json::json!([]));
    assert_eq!(object["rows_unchanged"], 11);

    for line in folded_lines(&diff) {
        let mut counts = line.rsplit(' ');
        assert_eq!(counts.next(), counts.next(), "{line}");
    }
    for (class, _) in frames(&diff, svg::Widths::After) {
        assert!(class.starts_with("f d4"), "{class}");
    }
}

fn folded_lines(diff: &Diff) -> Vec<String> {
    let mut out = Vec::new();
    folded::write(diff, &crate::output::folded::Options::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn folded_stacks_have_two_counts_of_the_same_sum() {
    let diff = diff(&fixture::profile(), &in_nmi(), Measure::Share).unwrap();
    let lines = folded_lines(&diff);
    let counts = lines.iter().map(|line| {
        let mut counts = line
            .rsplit(' ')
            .map(|count| count.parse::<u64>().unwrap_or(0));
        let after = counts.next().unwrap();
        (counts.next().unwrap(), after)
    });
    let (before, after): (Vec<u64>, Vec<u64>) = counts.unzip();
    assert_eq!(before, [50, 10, 5, 7, 20, 2, 6]);
    assert_eq!(after, [0, 0, 0, 0, 100, 0, 0]);
    assert_eq!(lines[0], "cc1;_start;parse<int: char>(a) 50 0");
}

/// The class and the text of every frame that is drawn.
fn frames(diff: &Diff, widths: svg::Widths) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let options = crate::output::svg::Options::default();
    svg::write(diff, widths, &options, &mut out).unwrap();
    let svg = String::from_utf8(out).unwrap();
    let document = Document::parse(&svg).unwrap();
    let titles = document.descendants();
    titles
        .filter(|node| node.has_tag_name("title"))
        .filter_map(|node| {
            let class = node.parent()?.attribute("class")?;
            Some((class.to_owned(), node.text()?.to_owned()))
        })
        .collect()
}

#[test]
fn frames_have_the_colour_of_their_change() {
    let diff = diff(&fixture::profile(), &in_nmi(), Measure::Share).unwrap();
    let before = frames(&diff, svg::Widths::Before);
    for (class, text) in [
        (
            "f d8",
            "perf_event_nmi_handler\n20.00 to 100.00 % (+80.00), own 20.00 to 100.00 % (+80.00), \
             on the NMI stack",
        ),
        (
            "f d1",
            "parse<int; char>(a)\n92.00 to 100.00 % (+8.00), own 50.00 to 0.00 % (-50.00), \
             user space\ncc1",
        ),
        (
            "f d4",
            "make\n8.00 to 0.00 % (-8.00), own 0.00 to 0.00 % (0.00), process",
        ),
    ] {
        let frame = (class.to_owned(), text.to_owned());
        assert!(before.contains(&frame), "{frame:?} in {before:#?}");
    }
    // What is gone has no width in the second.
    let after = frames(&diff, svg::Widths::After);
    assert_eq!(after.len(), 12);
    assert!(after.iter().all(|(_, text)| !text.starts_with("make")));
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let of = |events: &[&str], unit| {
        let mut profile = fixture::profile();
        profile.meta.events = events.iter().map(|&event| event.to_owned()).collect();
        profile.meta.unit = unit;
        profile
    };
    let refusal = |before: &Profile, after: &Profile| {
        let refused = diff(before, after, Measure::Share).unwrap_err();
        refused.to_string()
    };
    let clock = of(&["cpu-clock"], Unit::Samples);
    let time = refusal(&clock, &of(&["cpu-clock"], Unit::Nanoseconds));
    assert!(
        time.contains("is in samples, the second in nanoseconds"),
        "{time}"
    );
    let events = refusal(&clock, &of(&["page-faults"], Unit::Samples));
    assert!(
        events.contains("is of cpu-clock, the second of page-faults"),
        "{events}"
    );
    let empty = refusal(
        &clock,
        &Profile::new(Meta {
            events: vec!["cpu-clock".to_owned()],
            ..Meta::default()
        }),
    );
    assert!(
        empty.contains("the second recording has no samples"),
        "{empty}"
    );
    // One of its events alone has samples.
    let both = of(&["cpu-clock", "irq"], Unit::Samples);
    assert!(diff(&clock, &both, Measure::Share).is_ok());

    let [before, after] = [SECOND, Duration::ZERO].map(|duration| Compared {
        profile: &clock,
        duration,
    });
    let refused = Diff::new(before, after, Measure::PerSecond).unwrap_err();
    assert_eq!(refused, Refused::NoDuration("second"));
}
