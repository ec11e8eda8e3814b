//! The kinds of stack an x86 CPU can be on, numbered as the kernel numbers them.
//!
//! This is only the naming; deciding which kind an address belongs to is the job of the
//! classifier in `walker-user`.

/// A kind of stack.
///
/// The numbers are those of the kernel's `enum stack_type`
/// (`arch/x86/include/asm/stacktrace.h`, the same in 6.1, 6.12 and 6.18): the exception stacks
/// follow [`StackKind::Entry`] in the order of `enum exception_stack_ordering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StackKind {
    /// On no stack that is known.
    Unknown = 0,
    /// The kernel stack of a task.
    Task = 1,
    /// The hard-interrupt stack; on x86_64 softirqs run on it too.
    Irq = 2,
    /// The softirq stack. Only x86_32 has one.
    SoftIrq = 3,
    /// The entry trampoline stack.
    Entry = 4,
    /// The `#DF` (double fault) stack.
    DoubleFault = 5,
    /// The NMI stack.
    Nmi = 6,
    /// The `#DB` (debug) stack.
    Debug = 7,
    /// The `#MC` (machine check) stack.
    MachineCheck = 8,
    /// The `#VC` (VMM communication) stack of SEV-ES and SEV-SNP guests.
    Vc = 9,
    /// The fall-back `#VC` stack.
    Vc2 = 10,
    /// A stack in user space. The kernel has no number for it.
    User = 11,
}

impl StackKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::Unknown,
        Self::Task,
        Self::Irq,
        Self::SoftIrq,
        Self::Entry,
        Self::DoubleFault,
        Self::Nmi,
        Self::Debug,
        Self::MachineCheck,
        Self::Vc,
        Self::Vc2,
        Self::User,
    ];

    /// The kind with this number, or `None` if there is none.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() {
            Some(Self::ALL[number as usize])
        } else {
            None
        }
    }

    /// The name the kernel prints between `<` and `>` in an oops (`stack_type_name()`,
    /// `arch/x86/kernel/dumpstack_64.c`), except that [`StackKind::Unknown`], for which the
    /// kernel prints nothing, is `UNKNOWN`, and that [`StackKind::User`] is not among them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Task => "TASK",
            Self::Irq => "IRQ",
            Self::SoftIrq => "SOFTIRQ",
            Self::Entry => "ENTRY_TRAMPOLINE",
            Self::DoubleFault => "#DF",
            Self::Nmi => "NMI",
            Self::Debug => "#DB",
            Self::MachineCheck => "#MC",
            Self::Vc => "#VC",
            Self::Vc2 => "#VC2",
            Self::User => "USER",
        }
    }

    /// Whether this is one of the exception stacks of x86_64.
    #[must_use]
    pub const fn is_exception(self) -> bool {
        Self::DoubleFault as u8 <= self as u8 && self as u8 <= Self::Vc2 as u8
    }
}

#[cfg(test)]
mod tests {
    use super::StackKind;

    #[test]
    fn numbers_and_kinds_map_both_ways() {
        for (number, kind) in StackKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(StackKind::from_number(number as u8), Some(kind));
        }
        assert_eq!(StackKind::from_number(12), None);
        assert_eq!(StackKind::from_number(255), None);
    }

    #[test]
    fn only_the_ist_stacks_are_exception_stacks() {
        assert!(!StackKind::Entry.is_exception());
        assert!(StackKind::DoubleFault.is_exception());
        assert!(StackKind::Vc2.is_exception());
        assert!(!StackKind::User.is_exception());
    }
}
