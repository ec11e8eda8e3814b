//! Stacks as text, the way an oops shows them, the heaviest first.
//!
//! For people, and for `scripts/decode_stacktrace.sh` of the kernel, which reads
//! `symbol+0xoffset/0xsize [module]`. Behind that stand the source line and `(inlined)` where they
//! apply; an inlined function has the offset of the function it is inlined into. Not for further counting: that is what
//! [`folded`](super::folded) is for.

use std::cmp::Reverse;
use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::{percent, place, printable, recording, weighed, whereabouts};
use crate::profile::{Frame, FrameClass, Label, Profile, SymbolId, Unit, WeightedStack};

/// How to write stacks as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How many stacks to write; `None` for all of them.
    pub limit: Option<usize>,
}

/// Stacks that are shown as one: those of the same functions that ended in the same way.
struct Group<'a> {
    /// The one that is shown; the others may have other offsets.
    shown: &'a WeightedStack,
    /// The samples of all of them.
    samples: u64,
    /// What they weigh.
    weight: u64,
}

/// Writes a summary of the recording, then its stacks.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(profile: &Profile, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let total = profile.weight();
    writeln!(out, "{}", printable(&profile.meta.title))?;
    writeln!(out, "{}", recording(profile))?;
    writeln!(out, "{}", whereabouts(&profile.meta.totals))?;

    let groups = groups(profile);
    let limit = options.limit.unwrap_or(groups.len()).min(groups.len());
    let (shown, left_out) = groups.split_at(limit);
    for group in shown {
        writeln!(out)?;
        write_group(profile, group, total, out)?;
    }
    if !left_out.is_empty() {
        let samples: u64 = left_out.iter().map(|group| group.samples).sum();
        let share = percent(left_out.iter().map(|group| group.weight).sum(), total);
        let count = left_out.len();
        writeln!(
            out,
            "\n{count} more stacks  {samples} samples  {share:.2} %"
        )?;
    }
    Ok(())
}

/// The stacks to show, the heaviest first.
fn groups(profile: &Profile) -> Vec<Group<'_>> {
    type Key = (usize, SymbolId, Vec<Label>, &'static str, bool);
    let mut groups: FxHashMap<Key, Group<'_>> = FxHashMap::default();
    for stack in profile.stacks().iter().filter(|stack| stack.samples > 0) {
        let labels = stack.frames.iter().map(|&id| profile.label(id)).collect();
        let key = (
            stack.event,
            stack.process,
            labels,
            stack.stop,
            stack.complete,
        );
        let group = groups.entry(key).or_insert(Group {
            shown: stack,
            samples: 0,
            weight: 0,
        });
        group.samples += stack.samples;
        group.weight += stack.weight;
        if stack.weight > group.shown.weight {
            group.shown = stack;
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    // Equally heavy stacks are ordered by what they show, not by how they were hashed.
    groups.sort_by(|a, b| {
        let end = |group: &Group<'_>| (group.shown.stop, group.shown.complete);
        Reverse(a.weight)
            .cmp(&Reverse(b.weight))
            .then_with(|| names(profile, a.shown).cmp(names(profile, b.shown)))
            .then_with(|| end(a).cmp(&end(b)))
    });
    groups
}

fn names<'a>(
    profile: &'a Profile,
    stack: &'a WeightedStack,
) -> impl Iterator<Item = (&'a str, FrameClass, bool, bool)> {
    let path = profile.path(stack, true);
    path.map(|label| {
        let name = profile.text(label.name);
        (name, label.class, label.reliable, label.inlined)
    })
}

fn write_group(
    profile: &Profile,
    group: &Group<'_>,
    total: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let comm = printable(profile.text(group.shown.process));
    let samples = group.samples;
    let share = percent(group.weight, total);
    let event = match profile.meta.events.as_slice() {
        [] | [_] => String::new(),
        events => {
            let name = events.get(group.shown.event).map_or("", String::as_str);
            format!("{}  ", printable(name))
        }
    };
    let weight = match profile.meta.unit {
        Unit::Samples => String::new(),
        _ => format!("  {}", weighed(profile, group.weight)),
    };
    let verdict = match group.shown.complete {
        true => "complete",
        false => "incomplete",
    };
    let stop = group.shown.stop;
    writeln!(
        out,
        "{event}{comm}  {samples} samples{weight}  {share:.2} %  ({verdict}: {stop})"
    )?;
    writeln!(out, "Call Trace:")?;
    let mut open = None;
    for &id in group.shown.frames.iter().rev() {
        let frame = profile.frame(id);
        let name = bracket(frame.class);
        if open != Some(name) {
            if let Some(open) = open {
                writeln!(out, " </{open}>")?;
            }
            writeln!(out, " <{name}>")?;
            open = Some(name);
        }
        write_frame(profile, frame, profile.label(id), out)?;
    }
    if let Some(open) = open {
        writeln!(out, " </{open}>")?;
    }
    Ok(())
}

fn bracket(class: FrameClass) -> &'static str {
    match class {
        FrameClass::Process | FrameClass::Event => "PROCESS",
        FrameClass::Note => "EVENT",
        FrameClass::User => "USER",
        FrameClass::Kernel(kind) | FrameClass::Marker(kind) => kind.name(),
    }
}

fn write_frame(
    profile: &Profile,
    frame: &Frame,
    label: Label,
    out: &mut impl Write,
) -> io::Result<()> {
    let doubt = if frame.reliable { "" } else { "? " };
    write!(out, "  {doubt}")?;
    let Frame {
        address,
        offset,
        size,
        ..
    } = *frame;
    match frame.name {
        // Without the object, an address in it says more than one in a process that is gone.
        None if frame.class == FrameClass::User && frame.module.is_some() && offset != 0 => {
            write!(out, "{}", printable(profile.text(label.name)))?;
        }
        None => write!(out, "{address:#018x}")?,
        Some(name) if frame.class == FrameClass::Note => {
            write!(out, "{}", printable(profile.text(name)))?;
        }
        Some(name) => {
            write!(out, "{}+{offset:#x}", printable(profile.text(name)))?;
            if size != 0 {
                write!(out, "/{size:#x}")?;
            }
        }
    }
    if let Some(module) = frame.module {
        let module = printable(profile.text(module));
        match module.starts_with('[') {
            true => write!(out, " {module}")?,
            false => write!(out, " [{module}]")?,
        }
    }
    if let Some(source) = frame.source {
        write!(out, " {}", place(profile, source))?;
    }
    if frame.inlined {
        write!(out, " (inlined)")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::{Options, write};
    use crate::profile::fixture;

    fn text(limit: Option<usize>) -> String {
        let mut out = Vec::new();
        write(&fixture::profile(), &Options { limit }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stacks_look_like_an_oops() {
        assert_eq!(
            text(Some(2)),
            "\
make -j2
cpu-clock, 997 Hz, 1.5 s, 100 samples, 92.00 % walked to the end
110 taken, 100 delivered; 6 lost (5.45 %): 5 ring buffer full, 1 no memory; 4 filtered out: 4 idle

cc1  50 samples  50.00 %  (complete: end of stack)
Call Trace:
 <USER>
  parse<int; char>(a)+0x1d/0x40 [cc1]
  _start+0x1d/0x40 [cc1]
 </USER>

cc1  20 samples  20.00 %  (complete: end of stack)
Call Trace:
 <NMI>
  perf_event_nmi_handler+0x1d/0x40
  asm_exc_nmi+0x1d/0x40
 </NMI>
 <IRQ>
  __sysvec_apic_timer_interrupt+0x1d/0x40
 </IRQ>
 <TASK>
  asm_sysvec_apic_timer_interrupt+0x1d/0x40
  do_syscall_64+0x1d/0x40
  entry_SYSCALL_64_after_hwframe+0x1d/0x40
 </TASK>
 <USER>
  parse<int; char>(a)+0x1d/0x40 [cc1]
  _start+0x1d/0x40 [cc1]
 </USER>

5 more stacks  30 samples  30.00 %
"
        );
    }

    #[test]
    fn inlined_functions_and_source_lines_are_shown() {
        let mut out = Vec::new();
        write(&fixture::inlined(), &Options::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with(
                "\n <USER>\n  step+0x10/0x40 [a] /src/a.h:3 (inlined)\n  \
                 main+0x10/0x40 [a] /src/a.c:7\n </USER>\n\n\
                 a  2 samples  33.33 %  (complete: end of stack)\nCall Trace:\n \
                 <USER>\n  step+0x10/0x40 [a] /src/a.c:1\n  \
                 main+0x10/0x40 [a] /src/a.c\n </USER>\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn doubt_and_missing_symbols_are_shown() {
        let text = text(None);
        assert!(text.contains(
            "\n <TASK>\n  ? ext4_file_read_iter+0x1d/0x40 [ext4]\n  do_syscall_64+0x1d/0x40\n"
        ));
        assert!(text.contains(
            "\nmake  6 samples  6.00 %  (incomplete: no unwind information)\nCall Trace:\n <USER>\n  \
             libc.so.6+0x1d [libc.so.6]\n </USER>\n"
        ));
        assert!(text.ends_with("\n <TASK>\n  0xffffffff8100001d\n </TASK>\n"));
    }
}
