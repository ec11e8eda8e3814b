//! Text in the shape of `perf script -F +pid,+period --ns`, which `stackcollapse-perf.pl`, inferno,
//! the Firefox Profiler, speedscope and many scripts read.
//!
//! ```text
//! comm pid/tid [cpu] time: period event:
//! <tab>address symbol+0xoffset (file)
//! ```
//!
//! Frames are leaf first, an empty line ends a sample; functions that were inlined have
//! `(inlined)` in place of the file, as in `sample__fprintf_callchain()` of perf
//! (`tools/perf/util/evsel_fprintf.c`, Linux 6.1). The kernel is `[kernel.kallsyms]`, a module
//! `[ext4]`. User addresses are as linked, as perf's are.
//!
//! What perf does not have is written so that its readers pass over it: the recording's totals and,
//! before each sample whose walk did not reach the end, `# stop: REASON`, as comments. Times are
//! seconds since the recording began. The period is what the sample weighs: 1, occurrences of the
//! event, or nanoseconds.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    entries::{Entry, entries},
    printable, recording, whereabouts,
};
use crate::profile::{
    Frame, FrameClass, NOT_UNWOUND, Profile,
    timeline::{Point, Timeline},
};

/// How to write the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether to write a change of stack as a frame of its own, such as `[IRQ]`.
    pub markers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { markers: true }
    }
}

/// What perf writes where it does not know a symbol or a file.
const UNKNOWN: &str = "[unknown]";

/// Writes all samples in the order of time.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let profile = &timeline.profile;
    // The first line is what the Firefox Profiler knows the format by.
    writeln!(out, "# ========")?;
    writeln!(out, "# stackwalk: {}", printable(&profile.meta.title))?;
    writeln!(out, "# {}", recording(profile))?;
    writeln!(out, "# {}", whereabouts(&profile.meta.totals))?;
    writeln!(out, "# ========\n#")?;
    let events: Vec<_> = profile.meta.events.iter().map(|name| word(name)).collect();
    for point in &timeline.points {
        write_sample(profile, &events, point, options.markers, out)?;
    }
    Ok(())
}

fn write_sample(
    profile: &Profile,
    events: &[String],
    point: &Point,
    markers: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let stack = &profile.stacks()[point.stack as usize];
    if !stack.complete {
        writeln!(out, "# stop: {}", printable(stack.stop))?;
    }
    let Point {
        tid, cpu, weight, ..
    } = point;
    let (seconds, nanoseconds) = (point.time_ns / 1_000_000_000, point.time_ns % 1_000_000_000);
    let event = events.get(stack.event).map_or("unknown", String::as_str);
    let comm = comm(profile.text(stack.comm), *tid);
    let pid = stack.pid.unwrap_or(*tid);
    writeln!(
        out,
        "{comm} {pid:5}/{tid:<5} [{cpu:03}] {seconds:5}.{nanoseconds:09}: {weight:10} {event}: "
    )?;
    for entry in entries(profile, stack, markers).iter().rev() {
        match entry {
            Entry::Code(frames) => {
                for &id in frames.iter().rev() {
                    write_frame(profile, profile.frame(id), out)?;
                }
            }
            Entry::NotUnwound(frames) => {
                let address = frames.last().map_or(0, |&id| profile.frame(id).address);
                writeln!(out, "\t{address:16x} {NOT_UNWOUND} ({UNKNOWN})")?;
            }
            Entry::Marker(kind) => writeln!(out, "\t{:16x} [{}] ({UNKNOWN})", 0, kind.name())?,
            Entry::Note(id) => {
                let name = symbol(profile.text(profile.label(*id).name));
                writeln!(out, "\t{:16x} {name} ({UNKNOWN})", 0)?;
            }
        }
    }
    writeln!(out)
}

fn write_frame(profile: &Profile, frame: &Frame, out: &mut impl Write) -> io::Result<()> {
    let Frame {
        address, offset, ..
    } = frame;
    write!(out, "\t{address:16x} ")?;
    match frame.name {
        None => write!(out, "{UNKNOWN}")?,
        Some(name) => write!(out, "{}+{offset:#x}", symbol(profile.text(name)))?,
    }
    if frame.inlined {
        return writeln!(out, " (inlined)");
    }
    writeln!(out, " ({})", file(profile, frame))
}

/// The name of a process, which can be anything. Readers take a line that begins with `#` for a
/// comment and one that begins with a space for a frame.
fn comm(comm: &str, tid: u32) -> String {
    let text = printable(comm);
    match text.chars().next() {
        // As perf writes a process whose name it does not know.
        None => format!(":{tid}"),
        Some(first) if first == '#' || first.is_whitespace() => {
            format!("_{}", &text[first.len_utf8()..])
        }
        Some(_) => text,
    }
}

fn symbol(name: &str) -> Cow<'static, str> {
    match name.trim() {
        "" => UNKNOWN.into(),
        name => printable(name).into(),
    }
}

/// The file of a frame. Some readers find it by the last parenthesis, some by the last space, so it
/// may not have any.
fn file(profile: &Profile, frame: &Frame) -> Cow<'static, str> {
    let module = frame.module.map(|module| profile.text(module));
    let text = match (frame.class, frame.object, module) {
        (FrameClass::Kernel(_), _, None) => return "[kernel.kallsyms]".into(),
        (FrameClass::Kernel(_), _, Some(module)) if !module.starts_with('[') => {
            format!("[{module}]")
        }
        (_, Some(object), _) => profile.object(object).path.display().to_string(),
        (_, None, Some(module)) => module.to_owned(),
        (_, None, None) => return UNKNOWN.into(),
    };
    match text.as_str() {
        "" => UNKNOWN.into(),
        text => word(text).replace('(', "[").replace(')', "]").into(),
    }
}

/// `name` as one word.
fn word(name: &str) -> String {
    let replace = |c: char| match c.is_whitespace() || c.is_control() {
        true => '_',
        false => c,
    };
    match name {
        "" => "unknown".to_owned(),
        name => name.chars().map(replace).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Options, comm, word, write};
    use crate::profile::{fixture, timeline::Timeline};

    fn text(timeline: &Timeline) -> String {
        let mut out = Vec::new();
        write(timeline, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn samples_look_like_those_of_perf() {
        let text = text(&fixture::timeline());
        assert!(
            text.starts_with(
                "# ========\n# stackwalk: make -j2\n# cpu-clock, 997 Hz, 1.5 s, 100 samples, \
                 92.00 % walked to the end\n# 110 taken, 100 delivered; 6 lost"
            ),
            "{text}"
        );
        let nmi = "\
cc1    42/43    [001]     0.045000000:          1 cpu-clock: 
\tffffffff8100001d perf_event_nmi_handler+0x1d ([kernel.kallsyms])
\tffffffff8100001d asm_exc_nmi+0x1d ([kernel.kallsyms])
\t               0 [NMI] ([unknown])
\tffffffff8100001d __sysvec_apic_timer_interrupt+0x1d ([kernel.kallsyms])
\t               0 [IRQ] ([unknown])
\tffffffff8100001d asm_sysvec_apic_timer_interrupt+0x1d ([kernel.kallsyms])
\tffffffff8100001d do_syscall_64+0x1d ([kernel.kallsyms])
\tffffffff8100001d entry_SYSCALL_64_after_hwframe+0x1d ([kernel.kallsyms])
\t          55001d parse<int; char>(a)+0x1d (cc1)
\t          55001d _start+0x1d (cc1)

";
        assert!(text.contains(nmi), "{text}");
        assert!(text.contains(
            "# stop: no unwind information\nmake    42/43    [001]     0.075000000:          1 \
             cpu-clock: \n\t          55001d [unknown] (libc.so.6)\n\n"
        ));
        assert!(text.contains("\n\tffffffff8100001d [not unwound] ([unknown])\n"));
        assert_eq!(text.matches("# stop: ").count(), 8);
    }

    #[test]
    fn inlined_functions_have_no_file() {
        let profile = fixture::inlined();
        let mut timeline = fixture::timeline();
        timeline.points.truncate(3);
        timeline.profile = profile;
        let text = text(&timeline);
        assert!(
            text.contains(
                ": \n\t          550010 step+0x10 (inlined)\n\t          550010 main+0x10 (a)\n\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn names_forge_neither_comments_nor_frames() {
        assert_eq!(comm("# x", 7), "_ x");
        assert_eq!(comm("\tx\n", 7), "_x_");
        assert_eq!(comm("", 7), ":7");
        assert_eq!(word("a b\nc"), "a_b_c");
    }

    proptest! {
        #[test]
        fn there_are_as_many_samples_as_points(timeline in fixture::any_timeline()) {
            let text = text(&timeline);
            let samples: Vec<_> = text.split("\n#\n").nth(1).unwrap().lines().collect();
            let heads = samples.iter().filter(|line| {
                !line.is_empty() && !line.starts_with('\t') && !line.starts_with('#')
            });
            prop_assert_eq!(heads.count(), timeline.points.len());
            let ends = samples.iter().filter(|line| line.is_empty());
            prop_assert_eq!(ends.count(), timeline.points.len());
            for line in samples.iter().filter(|line| line.starts_with('\t')) {
                let (address, rest) = line.trim_start().split_once(' ').unwrap();
                prop_assert!(u64::from_str_radix(address, 16).is_ok());
                let (symbol, file) = rest.rsplit_once(" (").unwrap();
                prop_assert!(!symbol.is_empty() && file.ends_with(')'));
            }
        }
    }
}
