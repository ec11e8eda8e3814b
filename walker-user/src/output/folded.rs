//! Folded stacks, one line per distinct stack: the input of `flamegraph.pl`, inferno, speedscope
//! and many others.
//!
//! A line is `comm;outermost;…;innermost count`, with the event before it if there are several; the
//! count is in samples, events, or microseconds, as `offcputime` of bcc has it. Readers split it at `;` and at the last space, so
//! names may hold spaces but neither `;` nor line breaks. Kernel functions have the suffix `_[k]`
//! that `flamegraph.pl` colours by; an unreliable frame has the prefix `?`. An inlined function is
//! a frame like any other, as in the output of `stackcollapse-perf.pl` without its `--inline`.

use std::io::{self, Write};

use super::{
    limit::{most_bytes, too_long},
    printable,
};
use crate::profile::{FrameClass, Label, Profile, Unit};

/// How to write folded stacks.
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

/// Writes the stacks in alphabetical order, each line once.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(profile: &Profile, options: &Options, out: &mut impl Write) -> io::Result<()> {
    for (stack, count) in lines(profile, options)? {
        writeln!(out, "{stack} {count}")?;
    }
    Ok(())
}

/// The stacks in alphabetical order, each once, with their counts.
///
/// # Errors
///
/// If they are [too long](super::limit) together.
pub(super) fn lines(profile: &Profile, options: &Options) -> io::Result<Vec<(String, u64)>> {
    let most = most_bytes(profile.stacks().len());
    let mut bytes = 0;
    let mut lines: Vec<(String, u64)> = Vec::with_capacity(profile.stacks().len());
    for stack in profile.stacks().iter().filter(|stack| stack.samples > 0) {
        let mut line = String::new();
        for label in profile.picture(stack, options.markers) {
            if !line.is_empty() {
                line.push(';');
            }
            push_frame(&mut line, profile, label);
        }
        bytes += line.len() as u64;
        if bytes > most {
            return Err(too_long(most));
        }
        lines.push((line, stack.weight));
    }
    lines.sort_unstable();
    lines.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
    if profile.meta.unit == Unit::Nanoseconds {
        for (_, count) in &mut lines {
            *count = count.div_ceil(1000);
        }
    }
    Ok(lines)
}

fn push_frame(line: &mut String, profile: &Profile, label: Label) {
    if !label.reliable {
        line.push('?');
    }
    match profile.text(label.name) {
        // A frame without a name would be dropped by some readers.
        "" => line.push('_'),
        name => line.push_str(&printable(name).replace(';', ":")),
    }
    if matches!(label.class, FrameClass::Kernel(_)) {
        line.push_str("_[k]");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walker_common::StackKind;

    use super::{Options, write};
    use crate::profile::{Frame, FrameClass, Meta, Profile, WeightedStack, fixture};

    fn folded(profile: &Profile, markers: bool) -> String {
        let mut out = Vec::new();
        write(profile, &Options { markers }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_nmi_in_an_interrupt_in_a_system_call() {
        assert_eq!(
            folded(&fixture::profile(), true),
            "\
cc1;_start;parse<int: char>(a) 50
cc1;_start;parse<int: char>(a);entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k] 10
cc1;_start;parse<int: char>(a);entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k];?[not unwound]_[k] 5
cc1;_start;parse<int: char>(a);entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k];asm_sysvec_apic_timer_interrupt_[k];[IRQ];__sysvec_apic_timer_interrupt_[k] 7
cc1;_start;parse<int: char>(a);entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k];asm_sysvec_apic_timer_interrupt_[k];[IRQ];__sysvec_apic_timer_interrupt_[k];[NMI];asm_exc_nmi_[k];perf_event_nmi_handler_[k] 20
make;[unknown]_[k] 2
make;libc.so.6+0x1d 6
"
        );
    }

    #[test]
    fn an_inlined_function_is_a_frame_like_any_other() {
        assert_eq!(folded(&fixture::inlined(), true), "a;main;step 6\n");
    }

    #[test]
    fn without_markers_only_the_markers_are_missing() {
        let profile = fixture::profile();
        let with = folded(&profile, true);
        let without = folded(&profile, false);
        assert_eq!(without, with.replace("[IRQ];", "").replace("[NMI];", ""));
    }

    #[test]
    fn lines_that_differ_only_in_the_stack_are_merged_without_markers() {
        let mut profile = Profile::new(Meta::default());
        let comm = profile.intern("a");
        for kind in [StackKind::Task, StackKind::Irq] {
            let name = Some(profile.intern("f"));
            let frame = profile.intern_frame(Frame {
                name,
                module: None,
                class: FrameClass::Kernel(kind),
                reliable: true,
                inlined: false,
                source: None,
                address: 0,
                offset: 0,
                size: 0,
                object: None,
            });
            profile.push(WeightedStack {
                process: comm,
                comm,
                pid: None,
                frames: vec![frame],
                event: 0,
                samples: 2,
                weight: 2,
                stop: "end of stack",
                complete: true,
            });
        }
        assert_eq!(folded(&profile, true), "a;[IRQ];f_[k] 2\na;f_[k] 2\n");
        assert_eq!(folded(&profile, false), "a;f_[k] 4\n");
    }

    proptest! {
        #[test]
        fn any_profile_parses_back(profile in fixture::any_profile()) {
            let text = folded(&profile, false);
            let mut samples = 0;
            let mut previous = "";
            for line in text.lines() {
                let (stack, count) = line.rsplit_once(' ').unwrap();
                prop_assert!(stack > previous, "sorted, and each stack once");
                prop_assert!(stack.split(';').all(|frame| !frame.is_empty()));
                let depth = stack.split(';').count() - 1;
                prop_assert!(profile.stacks().iter().any(|stack| stack.frames.len() >= depth));
                samples += count.parse::<u64>().unwrap();
                previous = stack;
            }
            prop_assert_eq!(samples, profile.samples());
        }
    }
}
