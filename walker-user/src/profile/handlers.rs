//! Which handler of an interrupt or exception a stack is in, and whom it interrupted: told from
//! the functions on the stack.
//!
//! The names are those of x86: entries of `arch/x86/include/asm/idtentry.h`, `irq_exit_rcu()` and
//! `handle_softirqs()` (`__do_softirq()` before 6.10) of `kernel/softirq.c`,
//! `__handle_irq_event_percpu()` of `kernel/irq/handle.c`, as they are from 5.15 to 6.18. A kernel
//! where they differ still shows interrupts by the function that is outermost on their stack.

use walker_common::StackKind;

use super::{FrameClass, Profile, WeightedStack};

/// What runs softirqs.
const RUNS_SOFTIRQS: [&str; 2] = ["handle_softirqs", "__do_softirq"];
/// What runs the handlers of a device's interrupt.
const RUNS_HANDLERS: &str = "__handle_irq_event_percpu";
/// What leads from the interrupted code, or from the interrupt, to the softirqs.
const LEADS_TO_SOFTIRQS: [&str; 7] = [
    "do_softirq",
    "do_softirq_own_stack",
    "invoke_softirq",
    "irq_exit",
    "irq_exit_rcu",
    "__irq_exit_rcu",
    "call_on_stack",
];

/// What a stack is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handling {
    /// The innermost handler.
    pub handler: String,
    /// How many frames, counted from the root, belong to what it interrupted.
    pub interrupted: usize,
}

/// The function itself, of one that the compiler made a part or a clone of.
fn plain(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The entry of an interrupt that a function is part of.
fn entry(name: &str) -> Option<&str> {
    let name = plain(name);
    let name = name.strip_prefix("asm_").unwrap_or(name);
    let name = name.trim_start_matches('_');
    let is_entry =
        name.starts_with("sysvec_") || name == "common_interrupt" || name == "spurious_interrupt";
    is_entry.then_some(name)
}

/// The kind of a stack that interrupts and exceptions run on.
fn interrupt_stack(class: FrameClass) -> Option<StackKind> {
    match class {
        FrameClass::Kernel(kind) if is_of_interrupts(kind) => Some(kind),
        _ => None,
    }
}

/// Whether interrupts or exceptions run on a kind of stack.
pub(crate) const fn is_of_interrupts(kind: StackKind) -> bool {
    kind.is_exception() || matches!(kind, StackKind::Irq | StackKind::SoftIrq)
}

/// Whether a function leads from what was interrupted to the stack of the interrupt.
pub(super) fn leads_to_interrupts(name: &str) -> bool {
    name.starts_with("asm_") || entry(name).is_some() || LEADS_TO_SOFTIRQS.contains(&plain(name))
}

/// Reads a stack from its root on.
#[derive(Default)]
struct Reader<'a> {
    handler: Option<String>,
    interrupted: usize,
    /// The entry that the frames are in which have just been read.
    in_entry: Option<&'a str>,
    /// What the next function is a handler of.
    runs: Option<&'static str>,
    /// Where the frames begin that lead to softirqs, if the last ones do.
    leads_from: Option<usize>,
    stack: Option<StackKind>,
}

impl<'a> Reader<'a> {
    fn open(&mut self, handler: String, interrupted: usize) {
        self.handler = Some(handler);
        self.interrupted = interrupted;
    }

    fn read(&mut self, index: usize, name: &'a str, class: FrameClass) {
        let stack = interrupt_stack(class);
        let is_new_stack = stack.is_some() && stack != self.stack;
        self.stack = stack;
        let runs = self.runs.take();
        let leads_from = self.leads_from.take();

        if let Some(entry) = entry(name) {
            if self.in_entry != Some(entry) {
                self.open(entry.to_owned(), index);
            }
            self.in_entry = Some(entry);
            return;
        }
        let in_entry = self.in_entry.take();
        if LEADS_TO_SOFTIRQS.contains(&plain(name)) {
            // After an interrupt, its softirqs interrupted the same as itself.
            let after_interrupt = in_entry.map(|_| self.interrupted);
            self.leads_from = Some(leads_from.or(after_interrupt).unwrap_or(index));
        } else if RUNS_SOFTIRQS.contains(&plain(name)) {
            let after_interrupt = in_entry.map(|_| self.interrupted);
            let interrupted = leads_from.or(after_interrupt).unwrap_or(index);
            self.open("softirqs".to_owned(), interrupted);
            self.runs = Some("softirq");
        } else if plain(name) == RUNS_HANDLERS && self.handler.is_some() {
            self.runs = Some("irq");
        } else if let Some(what) = runs {
            self.handler = Some(format!("{what} {name}"));
        } else if is_new_stack && (in_entry.is_none() || stack.is_some_and(StackKind::is_exception))
        {
            let entry = plain(name).trim_start_matches("asm_");
            self.open(entry.to_owned(), index);
        }
    }
}

impl Profile {
    /// What `stack` is in the middle of, if that is an interrupt, a softirq, or an exception that
    /// has a stack of its own.
    #[must_use]
    pub fn handling(&self, stack: &WeightedStack) -> Option<Handling> {
        let mut reader = Reader::default();
        for (index, &id) in stack.frames.iter().enumerate() {
            let class = self.frame(id).class;
            if matches!(class, FrameClass::Kernel(_)) {
                reader.read(index, self.text(self.label(id).name), class);
            }
        }
        let Reader {
            handler,
            interrupted,
            ..
        } = reader;
        handler.map(|handler| Handling {
            handler,
            interrupted,
        })
    }
}

#[cfg(test)]
mod tests {
    use walker_common::StackKind;

    use super::Handling;
    use crate::profile::{FrameClass, Profile, WeightedStack, fixture};

    /// What the last stack of these functions is in; `u:` is a function of user space, `i:` and
    /// `n:` are on the IRQ and the NMI stack.
    fn handling(functions: &str) -> Option<(String, usize)> {
        let mut profile = Profile::new(crate::profile::Meta::default());
        let frames = functions.split(' ').map(|function| {
            let (class, name) = match function.split_once(':') {
                Some(("u", name)) => (FrameClass::User, name),
                Some(("i", name)) => (FrameClass::Kernel(StackKind::Irq), name),
                Some(("n", name)) => (FrameClass::Kernel(StackKind::Nmi), name),
                _ => (FrameClass::Kernel(StackKind::Task), function),
            };
            fixture::frame(&mut profile, class, name, None)
        });
        let frames = frames.collect();
        let stack = WeightedStack {
            process: profile.intern("sh"),
            comm: profile.intern("sh"),
            pid: None,
            frames,
            event: 0,
            samples: 1,
            weight: 1,
            stop: "end of stack",
            complete: true,
        };
        let handling = profile.handling(&stack);
        handling.map(
            |Handling {
                 handler,
                 interrupted,
             }| (handler, interrupted),
        )
    }

    #[test]
    fn the_innermost_handler_counts() {
        for (functions, handler, interrupted) in [
            (
                "u:main asm_sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt i:__sysvec_apic_timer_interrupt i:hrtimer_interrupt",
                "sysvec_apic_timer_interrupt",
                1,
            ),
            // A device's interrupt, and who handled it.
            (
                "u:main vfs_read asm_common_interrupt common_interrupt i:__common_interrupt i:handle_edge_irq i:__handle_irq_event_percpu i:vring_interrupt i:vp",
                "irq vring_interrupt",
                2,
            ),
            // Softirqs of an interrupt interrupted the same as itself.
            (
                "u:main asm_common_interrupt common_interrupt i:irq_exit_rcu i:__irq_exit_rcu i:handle_softirqs i:net_rx_action i:napi_poll",
                "softirq net_rx_action",
                1,
            ),
            (
                "u:main asm_common_interrupt common_interrupt i:handle_softirqs i:net_rx_action",
                "softirq net_rx_action",
                1,
            ),
            // Of a task that let them run.
            (
                "u:main sendto __dev_queue_xmit __local_bh_enable_ip i:do_softirq.part.0 i:handle_softirqs i:net_rx_action",
                "softirq net_rx_action",
                4,
            ),
            (
                "kthread run_ksoftirqd handle_softirqs rcu_core",
                "softirq rcu_core",
                2,
            ),
            ("kthread __do_softirq", "softirqs", 1),
            // An interrupt of a softirq, on the same stack.
            (
                "u:main x i:do_softirq i:handle_softirqs i:net_rx_action i:napi i:asm_sysvec_apic_timer_interrupt i:sysvec_apic_timer_interrupt",
                "sysvec_apic_timer_interrupt",
                6,
            ),
            // One interrupt in another of the same kind of stack, and an NMI in that.
            (
                "u:main asm_common_interrupt i:__common_interrupt i:ack n:asm_exc_nmi n:exc_nmi",
                "exc_nmi",
                4,
            ),
            (
                "u:main asm_common_interrupt i:__common_interrupt n:asm_exc_nmi",
                "exc_nmi",
                3,
            ),
            ("u:main n:end_repeat_nmi n:perf", "end_repeat_nmi", 1),
        ] {
            let told = handling(functions);
            assert_eq!(told, Some((handler.to_owned(), interrupted)), "{functions}");
        }
    }

    #[test]
    fn no_interrupt_is_told_where_there_is_none() {
        assert_eq!(handling("u:main do_syscall_64 handle_softirq_stats"), None);
        assert_eq!(handling("u:main asm_exc_page_fault exc_page_fault"), None);
    }
}
