//! The markers that stand around the frames of a stack in a printed trace.

use walker_common::StackKind;

/// The lines an oops has before and after the frames of a stack of this kind, such as `<IRQ>` and
/// `</IRQ>`: [`StackKind::name`] in the form that `show_trace_log_lvl()` prints
/// (`arch/x86/kernel/dumpstack.c`, 6.18).
///
/// They are the counterpart of `stack_type_str()` of the kernel commit that brought in
/// `get_stack_info()`, whose pairs still were `IRQ` and `EOI`, or an exception's name and `EOE`.
#[must_use]
pub const fn markers(kind: StackKind) -> (&'static str, &'static str) {
    macro_rules! around {
        ($name:literal) => {
            (concat!("<", $name, ">"), concat!("</", $name, ">"))
        };
    }
    match kind {
        StackKind::Unknown => around!("UNKNOWN"),
        StackKind::Task => around!("TASK"),
        StackKind::Irq => around!("IRQ"),
        StackKind::SoftIrq => around!("SOFTIRQ"),
        StackKind::Entry => around!("ENTRY_TRAMPOLINE"),
        StackKind::DoubleFault => around!("#DF"),
        StackKind::Nmi => around!("NMI"),
        StackKind::Debug => around!("#DB"),
        StackKind::MachineCheck => around!("#MC"),
        StackKind::Vc => around!("#VC"),
        StackKind::Vc2 => around!("#VC2"),
        StackKind::User => around!("USER"),
    }
}

#[cfg(test)]
mod tests {
    use super::{StackKind, markers};

    #[test]
    fn the_markers_of_every_kind_carry_its_name() {
        for kind in StackKind::ALL {
            let name = kind.name();
            let (begin, end) = markers(kind);
            assert_eq!(begin, format!("<{name}>"));
            assert_eq!(end, format!("</{name}>"));
        }
    }
}
