//! How much of the kernel's stacks was in use, by the calls that used it, the deepest first.
//!
//! Every sample tells how deep each kernel stack was that was in play. A stack that was deeper
//! between two samples was not seen.

use std::cmp::Reverse;
use std::io::{self, Write};

use rustc_hash::FxHashMap;
use serde::Serialize;
use walker_common::StackKind;

use super::{
    grouped,
    heading::{self, Recording},
    json_text, percent, printable,
    svg::wrapped,
    table::{Side, Table},
};
use crate::profile::{
    FrameClass, Profile, SymbolId,
    functions::Functions,
    timeline::{StackUse, Timeline},
};

/// In how many parts a stack is divided to show how often it is used how far.
const PARTS: usize = 16;
/// From few to many samples; none is [`EMPTY`].
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// No sample.
const EMPTY: char = '·';
/// Between the functions of a call path.
const ARROW: &str = " > ";

/// What to show.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many call paths of each kind of stack; `None` for all of them.
    pub limit: Option<usize>,
    /// Columns of the terminal; `None` to break no line.
    pub width: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: Some(10),
            width: None,
        }
    }
}

/// The frames that samples have on one kind of stack.
#[derive(Debug, Clone, Serialize)]
struct CallPath<'a> {
    /// Bytes that the deepest sample used.
    used: u32,
    size: u32,
    room: u32,
    used_percent: f64,
    samples: u64,
    /// The process of the deepest sample.
    comm: &'a str,
    /// From the outermost to the innermost.
    functions: Vec<&'a str>,
}

/// A kind of stack.
#[derive(Debug, Clone, Serialize)]
struct Kind<'a> {
    stack: &'static str,
    size: u32,
    /// Samples in which a stack of this kind was in use.
    samples: u64,
    /// Samples that left less than a quarter of it.
    below_quarter: u64,
    /// Samples by how far they used it, in sixteenths.
    histogram: [u64; PARTS],
    paths: Vec<CallPath<'a>>,
    paths_left_out: usize,
}

/// The JSON object.
#[derive(Debug, Serialize)]
struct Object<'a> {
    format: &'static str,
    version: u32,
    recording: Recording<'a>,
    stacks: Vec<Kind<'a>>,
}

/// What is known of the samples of one call path.
#[derive(Clone, Copy)]
struct Deepest {
    used: StackUse,
    comm: SymbolId,
    samples: u64,
}

/// The call paths of a profile, as lists of functions, and which each stack has on which kind.
struct Paths {
    list: Vec<Vec<u32>>,
    of_stack: Vec<Vec<(StackKind, u32)>>,
    functions: Functions,
}

impl Paths {
    fn of(profile: &Profile) -> Self {
        let functions = Functions::of(profile);
        let mut ids: FxHashMap<Vec<u32>, u32> = FxHashMap::default();
        // Samples can lack the frames of a stack that was in use.
        ids.insert(Vec::new(), 0);
        let mut list = vec![Vec::new()];
        let of_stack = profile.stacks().iter().map(|stack| {
            let mut by_kind: Vec<(StackKind, Vec<u32>)> = Vec::new();
            for &id in &stack.frames {
                let FrameClass::Kernel(kind) = profile.frame(id).class else {
                    continue;
                };
                let function = functions.index(id) as u32;
                match by_kind.iter_mut().find(|(other, _)| *other == kind) {
                    Some((_, path)) => path.push(function),
                    None => by_kind.push((kind, vec![function])),
                }
            }
            let with_ids = by_kind.into_iter().map(|(kind, path)| {
                let next = list.len() as u32;
                let id = *ids.entry(path).or_insert_with_key(|path| {
                    list.push(path.clone());
                    next
                });
                (kind, id)
            });
            with_ids.collect()
        });
        Self {
            of_stack: of_stack.collect(),
            list,
            functions,
        }
    }

    fn names<'a>(&self, profile: &'a Profile, path: u32) -> Vec<&'a str> {
        let functions = self.list[path as usize].iter();
        let functions = functions.map(|&index| self.functions.list()[index as usize].name);
        functions.map(|name| profile.text(name)).collect()
    }
}

/// The kinds of stack that were in use, in the order of their numbers.
fn kinds<'a>(timeline: &'a Timeline, limit: Option<usize>) -> Vec<Kind<'a>> {
    let profile = &timeline.profile;
    let paths = Paths::of(profile);
    let mut kinds: Vec<Kind<'a>> = Vec::new();
    let mut found: FxHashMap<(StackKind, u32), Deepest> = FxHashMap::default();
    for point in &timeline.points {
        for &used in timeline.uses_of(point) {
            let stack = used.kind.name();
            let place = kinds.iter().position(|kind| kind.stack == stack);
            let place = place.unwrap_or_else(|| {
                kinds.push(Kind {
                    stack,
                    size: 0,
                    samples: 0,
                    below_quarter: 0,
                    histogram: [0; PARTS],
                    paths: Vec::new(),
                    paths_left_out: 0,
                });
                kinds.len() - 1
            });
            let kind = &mut kinds[place];
            kind.size = kind.size.max(used.size);
            kind.samples += 1;
            kind.below_quarter += u64::from(is_tight(used));
            let part = u64::from(used.used) * PARTS as u64 / u64::from(used.size.max(1));
            kind.histogram[(part as usize).min(PARTS - 1)] += 1;

            let of_stack = &paths.of_stack[point.stack as usize];
            let path = of_stack.iter().find(|(kind, _)| *kind == used.kind);
            let path = path.map_or(0, |&(_, path)| path);
            let comm = profile.stacks()[point.stack as usize].comm;
            let deepest = found.entry((used.kind, path)).or_insert(Deepest {
                used,
                comm,
                samples: 0,
            });
            deepest.samples += 1;
            if used.used > deepest.used.used {
                (deepest.used, deepest.comm) = (used, comm);
            }
        }
    }
    for ((kind, path), deepest) in found {
        let kind = kinds.iter_mut().find(|other| other.stack == kind.name());
        let used = deepest.used;
        kind.expect("it was counted above").paths.push(CallPath {
            used: used.used,
            size: used.size,
            room: used.room(),
            used_percent: percent(used.used.into(), used.size.into()),
            samples: deepest.samples,
            comm: profile.text(deepest.comm),
            functions: paths.names(profile, path),
        });
    }
    for kind in &mut kinds {
        kind.paths.sort_by(|a, b| {
            Reverse(a.used)
                .cmp(&Reverse(b.used))
                .then_with(|| a.functions.cmp(&b.functions))
        });
        let shown = limit.unwrap_or(usize::MAX).min(kind.paths.len());
        kind.paths_left_out = kind.paths.len() - shown;
        kind.paths.truncate(shown);
    }
    kinds.sort_by_key(|kind| {
        let number = StackKind::ALL.iter();
        number
            .take_while(|other| other.name() != kind.stack)
            .count()
    });
    kinds
}

/// Whether less than a quarter of a stack was left.
const fn is_tight(used: StackUse) -> bool {
    used.room() < used.size / 4
}

/// Writes the tables.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    heading::write(&timeline.profile, options.width, out)?;
    let kinds = kinds(timeline, options.limit);
    if kinds.is_empty() {
        return writeln!(
            out,
            "no sample has a kernel stack: record without --no-kernel, and what enters the kernel"
        );
    }
    for (number, kind) in kinds.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        write_kind(kind, options.width, out)?;
    }
    for kind in kinds.iter().filter(|kind| kind.below_quarter > 0) {
        let (samples, stack) = (grouped(kind.below_quarter), kind.stack);
        writeln!(
            out,
            "\nwarning: {samples} samples left less than a quarter of the {stack} stack (marked !)"
        )?;
    }
    Ok(())
}

fn write_kind(kind: &Kind<'_>, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    let size = grouped(kind.size.into());
    let samples = grouped(kind.samples);
    writeln!(
        out,
        "{} stack of {size} bytes, {samples} samples",
        kind.stack
    )?;
    writeln!(out, "use  0 {} {size}", bars(&kind.histogram))?;
    let mut table = Table::new(vec![
        ("Used", Side::Right),
        ("Used %", Side::Right),
        ("Room", Side::Right),
        ("Samples", Side::Right),
        ("Process", Side::Left),
    ]);
    for path in &kind.paths {
        let tight = if path.room < path.size / 4 { "!" } else { "" };
        let row = vec![
            grouped(path.used.into()),
            format!("{:.2}", path.used_percent),
            format!("{tight}{}", grouped(path.room.into())),
            grouped(path.samples),
            printable(path.comm),
        ];
        let names: Vec<_> = path.functions.iter().map(|name| printable(name)).collect();
        let names = match names.is_empty() {
            true => "[not known]".to_owned(),
            false => names.join(ARROW),
        };
        let columns = width.map_or(usize::MAX, |width| width.saturating_sub(4));
        let lines = wrapped(&names, columns).into_iter();
        table.push_with(row, lines.map(|line| format!("    {line}")).collect());
    }
    table.write(width, out)?;
    match kind.paths_left_out {
        0 => Ok(()),
        left_out => writeln!(out, "{} more call paths", grouped(left_out as u64)),
    }
}

/// How many samples used each part of a stack, as bars.
fn bars(histogram: &[u64; PARTS]) -> String {
    let most = histogram.iter().copied().max().unwrap_or(0).max(1);
    let bar = |samples: &u64| match samples {
        0 => EMPTY,
        samples => BARS[(u128::from(*samples) * 7 / u128::from(most)) as usize],
    };
    histogram.iter().map(bar).collect()
}

/// Writes the tables as one JSON object.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_json(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let object = Object {
        format: "stackwalk-depth",
        version: 1,
        recording: Recording::of(&timeline.profile),
        stacks: kinds(timeline, options.limit),
    };
    json_text::write_pretty(&object, out)
}

#[cfg(test)]
mod tests {
    use super::{Options, bars, write, write_json};
    use crate::profile::{filter::Filter, fixture, timeline::Timeline};

    fn text(timeline: &Timeline, options: &Options) -> String {
        let mut out = Vec::new();
        write(timeline, options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (_, tables) = text.split_once("\n\n").unwrap();
        tables.to_owned()
    }

    #[test]
    fn the_deepest_use_of_each_stack_comes_first() {
        let mut timeline = fixture::timeline();
        // One of the samples in the interrupt found the IRQ stack all but full.
        let point = timeline.points.iter().find(|point| point.stack == 2);
        let irq = point.unwrap().first_use as usize;
        timeline.uses[irq].used = 16_000;
        let options = Options {
            limit: Some(2),
            width: Some(60),
        };
        assert_eq!(
            text(&timeline, &options),
            "\
TASK stack of 16,384 bytes, 44 samples
use  0 █··············· 16,384
Used  Used %    Room  Samples  Process
 300    1.83  16,084        5  cc1
    entry_SYSCALL_64_after_hwframe > do_syscall_64 > [not
    unwound]
 300    1.83  16,084       27  cc1
    entry_SYSCALL_64_after_hwframe > do_syscall_64 >
    asm_sysvec_apic_timer_interrupt
2 more call paths

IRQ stack of 16,384 bytes, 27 samples
use  0 █··············▁ 16,384
  Used  Used %  Room  Samples  Process
16,000   97.66  !384       27  cc1
    __sysvec_apic_timer_interrupt

NMI stack of 16,384 bytes, 20 samples
use  0 █··············· 16,384
Used  Used %    Room  Samples  Process
 200    1.22  16,184       20  cc1
    asm_exc_nmi > perf_event_nmi_handler

warning: 1 samples left less than a quarter of the IRQ stack (marked !)
"
        );
    }

    #[test]
    fn without_kernel_stacks_it_is_said_what_to_record() {
        let mut timeline = fixture::timeline();
        timeline.points.retain(|point| point.use_count == 0);
        let text = text(&timeline, &Options::default());
        assert!(text.starts_with("no sample has a kernel stack"), "{text}");
    }

    #[test]
    fn few_samples_are_a_low_bar() {
        let mut histogram = [0; 16];
        histogram[0] = 1_000_000;
        histogram[1] = 500_000;
        histogram[15] = 1;
        assert_eq!(bars(&histogram), "█▄·············▁");
    }

    #[test]
    fn programs_are_told_the_same() {
        let timeline = fixture::timeline().filtered(&Filter {
            stack_kind: vec![walker_common::StackKind::Nmi],
            ..Filter::default()
        });
        let mut out = Vec::new();
        write_json(&timeline, &Options::default(), &mut out).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let stacks = object["stacks"].as_array().unwrap();
        assert_eq!(stacks.len(), 3);
        assert_eq!(stacks[2]["stack"], "NMI");
        assert_eq!(stacks[2]["histogram"][0], 20);
        assert_eq!(
            stacks[2]["paths"],
            serde_json::json!([{
                "used": 200, "size": 16384, "room": 16184, "used_percent": 1.220_703_125,
                "samples": 20, "comm": "cc1",
                "functions": ["asm_exc_nmi", "perf_event_nmi_handler"],
            }])
        );
    }
}
