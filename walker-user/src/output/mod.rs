//! A [`Profile`] written for people and for other tools.
//!
//! Each format is a module with an `Options` and a function
//! `write(profile, options, out) -> io::Result<()>`, or one that takes a
//! [`Timeline`](crate::profile::timeline::Timeline) where the format has single samples; those for
//! terminals have `write_json` beside it. Nothing is read back, and nothing here asks the system for
//! anything. This module holds what the formats share.

pub mod depth;
pub mod diff;
mod entries;
pub mod firefox;
pub mod folded;
pub mod gate;
mod heading;
pub mod html;
pub mod json;
pub(crate) mod json_text;
pub(crate) mod limit;
mod palette;
pub mod perf_script;
pub mod pprof;
pub mod report;
pub mod speedscope;
mod streamed;
pub mod svg;
mod svg_look;
mod table;
pub mod text;
mod threads;

use crate::profile::{FrameClass, Missing, Profile, SymbolId, Totals, Unit};

/// `name` without what would break lines, escape sequences of terminals or XML, or turn the order of
/// what stands beside it: control characters, separators of lines, marks and embeddings of the other
/// direction, what has no width. Each becomes `_`.
pub(crate) fn printable(name: &str) -> String {
    let replace = |c: char| if misleads(c) { '_' } else { c };
    name.chars().map(replace).collect()
}

/// Whether a character is one of those that [`printable`] replaces.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// Characters as they may stand in HTML or XML, between tags or quotes.
fn escaped(text: impl Iterator<Item = char>) -> String {
    let mut safe = String::with_capacity(text.size_hint().0);
    for c in text {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A source file and, if it is known, the line in it: `file.c:123`.
fn place(profile: &Profile, (file, line): (SymbolId, u32)) -> String {
    let file = printable(profile.text(file));
    match line {
        0 => file,
        line => format!("{file}:{line}"),
    }
}

/// `part` of `whole` in percent; 0 of 0 is 0 %.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A weight with its unit.
fn weighed(profile: &Profile, weight: u64) -> String {
    match profile.meta.unit {
        Unit::Samples => format!("{} samples", grouped(weight)),
        Unit::Events => format!("{} events", grouped(weight)),
        Unit::Nanoseconds => duration(weight),
    }
}

/// `1234567` bytes as `1.2 MB`.
pub(crate) fn byte_size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A weight as it stands in a column: with its unit only if that is a time.
fn amount(unit: Unit, weight: u64) -> String {
    match unit {
        Unit::Samples | Unit::Events => grouped(weight),
        Unit::Nanoseconds => duration(weight),
    }
}

/// Nanoseconds, to three or four digits.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let (unit, name) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let amount = nanoseconds as f64 / unit;
    let digits = match amount {
        amount if amount < 10.0 => 3,
        amount if amount < 100.0 => 2,
        _ => 1,
    };
    format!("{amount:.digits$} {name}")
}

/// What kind of code or stack a frame is on, in words.
fn stands_for(class: FrameClass, inlined: bool) -> String {
    match class {
        FrameClass::Process => "process".to_owned(),
        FrameClass::User if inlined => "user space, inlined".to_owned(),
        FrameClass::User => "user space".to_owned(),
        FrameClass::Kernel(kind) => format!("on the {} stack", kind.name()),
        FrameClass::Marker(kind) => format!("switch to the {} stack", kind.name()),
        FrameClass::Event => "event".to_owned(),
        FrameClass::Note => "about the event".to_owned(),
    }
}

/// What a picture of the recording is called.
fn title(profile: &Profile) -> &str {
    match profile.meta.title.as_str() {
        "" => "Flame graph",
        title => title,
    }
}

/// How the recording was made, and how much there is of it, in one line.
fn recording(profile: &Profile) -> String {
    let meta = &profile.meta;
    let mut phrases = Vec::new();
    if !meta.events.is_empty() {
        phrases.push(printable(&meta.events.join(" and ")));
    }
    if let Some(frequency) = meta.frequency {
        phrases.push(format!("{} Hz", grouped(frequency)));
    }
    if !meta.duration.is_zero() {
        phrases.push(format!("{:.1} s", meta.duration.as_secs_f64()));
    }
    let samples = profile.samples();
    let complete = percent(profile.complete_samples(), samples);
    phrases.push(format!("{} samples", grouped(samples)));
    if meta.unit != Unit::Samples {
        phrases.push(weighed(profile, profile.weight()));
    }
    phrases.push(format!("{complete:.2} % walked to the end"));
    phrases.join(", ")
}

/// Where the samples went, in one line. What was lost is always said, also if it is nothing.
fn whereabouts(totals: &Totals) -> String {
    let (taken, delivered) = (grouped(totals.taken), grouped(totals.delivered));
    let lost = match sum(&totals.lost) {
        0 => "none lost".to_owned(),
        lost => {
            let (share, reasons) = (percent(lost, totals.taken), reasons(&totals.lost));
            format!("{} lost ({share:.2} %): {reasons}", grouped(lost))
        }
    };
    let filtered = match sum(&totals.filtered) {
        0 => String::new(),
        filtered => {
            let reasons = reasons(&totals.filtered);
            format!("; {} filtered out: {reasons}", grouped(filtered))
        }
    };
    format!("{taken} taken, {delivered} delivered; {lost}{filtered}")
}

fn sum(missing: &[Missing]) -> u64 {
    missing.iter().map(|entry| entry.samples).sum()
}

fn reasons(missing: &[Missing]) -> String {
    let some = missing.iter().filter(|entry| entry.samples > 0);
    let phrases = some.map(|entry| format!("{} {}", grouped(entry.samples), entry.reason));
    phrases.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod docs_tests;
#[cfg(test)]
mod tests {
    use super::{duration, grouped, percent, printable, whereabouts};
    use crate::profile::{Totals, fixture};

    #[test]
    fn digits_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn times_have_a_fitting_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.500 µs");
        assert_eq!(duration(23_456_000), "23.46 ms");
        assert_eq!(duration(61_000_000_000), "61.00 s");
        assert_eq!(duration(600_000_000_000), "600.0 s");
    }

    #[test]
    fn nothing_of_nothing_is_no_share() {
        assert_eq!(percent(0, 0), 0.0);
        assert_eq!(percent(1, 4), 25.0);
    }

    #[test]
    fn control_characters_do_not_get_through() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{85}c"), "a_[31m_b_c");
        assert_eq!(printable("a\u{202e}b\u{2066}c"), "a_b_c");
    }

    #[test]
    fn losses_are_told_by_reason() {
        let profile = fixture::profile();
        assert_eq!(
            whereabouts(&profile.meta.totals),
            "110 taken, 100 delivered; 6 lost (5.45 %): 5 ring buffer full, 1 no memory; \
             4 filtered out: 4 idle"
        );
        let nothing = Totals::default();
        assert_eq!(whereabouts(&nothing), "0 taken, 0 delivered; none lost");
    }
}
