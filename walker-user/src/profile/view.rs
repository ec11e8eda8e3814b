//! A profile as somebody wants to see it: a side of it or inlined functions hidden, interrupts apart
//! from whom they interrupted, processes by name, one by one, or all together.
//!
//! The same as the toggles of the pages (`tree.js`). Whether changes of stack are shown is a matter of
//! the outputs; which samples there are is that of [`super::filter`].

use rustc_hash::FxHashMap;
use walker_common::StackKind;

use super::{FrameClass, FrameId, Profile, WeightedStack, handlers};

/// What stands for the process where processes are not told apart.
pub const ALL_PROCESSES: &str = "[all processes]";

/// Which processes are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Processes {
    /// Those of different names; their PIDs are kept, for outputs that tell them.
    #[default]
    Name,
    /// All: the name is followed by the PID.
    Id,
    /// Those of different names, and in them the threads of different names.
    Thread,
    /// None.
    Merged,
}

impl Processes {
    /// What this is called in requests: `name`, `id`, `thread` or `none`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "name" => Some(Self::Name),
            "id" => Some(Self::Id),
            "thread" => Some(Self::Thread),
            "none" => Some(Self::Merged),
            _ => None,
        }
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Functions of the kernel.
    pub kernel: bool,
    /// Functions of user space.
    pub user: bool,
    /// Inlined functions.
    pub inlined: bool,
    /// Interrupts and exceptions stand for themselves, with what led to them, under the name of their
    /// stack in the place of a process.
    pub apart: bool,
    /// How processes are told apart.
    pub processes: Processes,
}

impl Default for View {
    fn default() -> Self {
        Self {
            kernel: true,
            user: true,
            inlined: true,
            apart: false,
            processes: Processes::Name,
        }
    }
}

impl View {
    /// The profile as it is seen. Stacks of a process that look the same become one.
    #[must_use]
    pub fn of(&self, profile: &Profile) -> Profile {
        let mut seen = profile.clone();
        let mut numbers: FxHashMap<WeightedStack, usize> = FxHashMap::default();
        seen.stacks.clear();
        for stack in &profile.stacks {
            let mut shown = WeightedStack {
                samples: 0,
                weight: 0,
                ..stack.clone()
            };
            let interrupt = self.apart.then(|| interrupt(profile, stack)).flatten();
            let frames = match interrupt {
                Some((kind, from)) => {
                    shown.process = seen.intern(&format!("[{}]", kind.name()));
                    shown.comm = shown.process;
                    shown.pid = None;
                    &stack.frames[from..]
                }
                None => {
                    self.name_process(&mut seen, &mut shown);
                    &stack.frames[..]
                }
            };
            let visible = |id: &FrameId| self.shows(profile, *id);
            shown.frames = frames.iter().copied().filter(visible).collect();
            let number = *numbers.entry(shown).or_insert_with_key(|shown| {
                seen.stacks.push(shown.clone());
                seen.stacks.len() - 1
            });
            let sum = &mut seen.stacks[number];
            sum.samples += stack.samples;
            sum.weight = sum.weight.saturating_add(stack.weight);
        }
        seen
    }

    fn name_process(&self, seen: &mut Profile, shown: &mut WeightedStack) {
        match (self.processes, shown.pid) {
            (Processes::Thread, _) => {
                let name = thread_name(seen.text(shown.process), seen.text(shown.comm));
                shown.process = seen.intern(&name);
            }
            (Processes::Id, Some(pid)) => {
                let name = format!("{} ({pid})", seen.text(shown.process));
                shown.process = seen.intern(&name);
            }
            (Processes::Merged, _) => {
                shown.process = seen.intern(ALL_PROCESSES);
                shown.comm = shown.process;
                shown.pid = None;
            }
            (Processes::Name, _) | (Processes::Id, None) => {}
        }
    }

    fn shows(&self, profile: &Profile, id: FrameId) -> bool {
        let frame = profile.frame(id);
        match frame.class {
            FrameClass::User if !self.user => false,
            FrameClass::Kernel(_) if !self.kernel => false,
            _ => self.inlined || !frame.inlined,
        }
    }
}

/// What a thread of a process is called where threads of different names are told apart.
pub(crate) fn thread_name(process: &str, comm: &str) -> String {
    match process == comm {
        true => process.to_owned(),
        false => format!("{process}: {comm}"),
    }
}

/// The innermost interrupt or exception that a stack is in: the stack it runs on, and its first frame.
fn interrupt(profile: &Profile, stack: &WeightedStack) -> Option<(StackKind, usize)> {
    let mut current = StackKind::Task;
    let mut found = None;
    for (index, &id) in stack.frames.iter().enumerate() {
        let before = current;
        current = match profile.frame(id).class {
            FrameClass::Kernel(kind) => kind,
            FrameClass::Note => before,
            _ => StackKind::Task,
        };
        if current != before && handlers::is_of_interrupts(current) {
            found = Some((current, index));
        }
    }
    let (kind, first) = found?;
    // What leads to it is on the stack of whom it interrupted.
    let leads = stack.frames[..first].iter().rev().take_while(|&&id| {
        let frame = profile.frame(id);
        let name = profile.text(profile.label(id).name);
        matches!(frame.class, FrameClass::Kernel(_)) && handlers::leads_to_interrupts(name)
    });
    Some((kind, first - leads.count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Frame, Meta, fixture::frame};

    /// Two processes of a name and one of another, which interrupts hit.
    fn profile() -> Profile {
        const TASK: FrameClass = FrameClass::Kernel(StackKind::Task);
        let mut profile = Profile::new(Meta::default());
        let main = frame(&mut profile, FrameClass::User, "main", None);
        let inlined = frame(&mut profile, FrameClass::User, "inlined", None);
        let inlined = profile.intern_frame(Frame {
            inlined: true,
            ..*profile.frame(inlined)
        });
        let syscall = frame(&mut profile, TASK, "do_syscall_64", None);
        let read = frame(&mut profile, TASK, "vfs_read", None);
        let entry = ["asm_common_interrupt", "common_interrupt"];
        let entry = entry.map(|name| frame(&mut profile, TASK, name, None));
        let irq = FrameClass::Kernel(StackKind::Irq);
        let handler = frame(&mut profile, irq, "handle_irq_event", None);
        let hit = [entry[0], entry[1], handler];
        let mut push = |comm, pid, frames: Vec<FrameId>, samples| {
            let comm = profile.intern(comm);
            profile.push(WeightedStack {
                process: comm,
                comm,
                pid: Some(pid),
                frames,
                event: 0,
                samples,
                weight: samples,
                stop: "end of stack",
                complete: true,
            });
        };
        push("app", 7, vec![main, inlined, syscall, read], 4);
        push("app", 8, vec![main, inlined, syscall, read], 3);
        push("app", 7, [&[main, inlined, syscall][..], &hit].concat(), 2);
        push("other", 9, [&[main][..], &hit].concat(), 1);
        profile
    }

    fn seen(view: View) -> Vec<String> {
        let profile = profile();
        let seen = view.of(&profile);
        assert_eq!(seen.weight(), profile.weight());
        assert_eq!(seen.samples(), profile.samples());
        let mut lines: Vec<String> = { seen.stacks().iter() }
            .map(|stack| {
                let labels = seen.path(stack, false).map(|label| seen.text(label.name));
                format!("{} {}", labels.collect::<Vec<_>>().join(";"), stack.samples)
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn all_is_seen_if_nothing_else_is_asked_for() {
        assert_eq!(
            seen(View::default()),
            [
                "app;main;inlined;do_syscall_64;asm_common_interrupt;common_interrupt;handle_irq_event 2",
                "app;main;inlined;do_syscall_64;vfs_read 3",
                "app;main;inlined;do_syscall_64;vfs_read 4",
                "other;main;asm_common_interrupt;common_interrupt;handle_irq_event 1",
            ]
        );
    }

    #[test]
    fn sides_and_inlined_functions_are_hidden() {
        let view = View {
            kernel: false,
            inlined: false,
            ..View::default()
        };
        assert_eq!(seen(view), ["app;main 3", "app;main 6", "other;main 1"]);
        let view = View {
            user: false,
            processes: Processes::Merged,
            ..View::default()
        };
        assert_eq!(
            seen(view),
            [
                "[all processes];asm_common_interrupt;common_interrupt;handle_irq_event 1",
                "[all processes];do_syscall_64;asm_common_interrupt;common_interrupt;handle_irq_event 2",
                "[all processes];do_syscall_64;vfs_read 7",
            ]
        );
    }

    #[test]
    fn interrupts_stand_apart_with_what_leads_to_them() {
        let view = View {
            apart: true,
            processes: Processes::Id,
            ..View::default()
        };
        assert_eq!(
            seen(view),
            [
                "[IRQ];asm_common_interrupt;common_interrupt;handle_irq_event 3",
                "app (7);main;inlined;do_syscall_64;vfs_read 4",
                "app (8);main;inlined;do_syscall_64;vfs_read 3",
            ]
        );
    }
}
