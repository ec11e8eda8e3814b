//! ORC entries in words, for people who want to check a walk.

use std::fmt;

use super::orc::{OrcEntry, OrcKind, OrcRegister};

impl fmt::Display for OrcEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.sp_offset;
        match self.kind {
            OrcKind::Undefined => return write!(f, "cannot be unwound"),
            OrcKind::EndOfStack => return write!(f, "end of the stack"),
            OrcKind::Call | OrcKind::Regs | OrcKind::RegsPartial => {}
        }
        match self.sp_reg {
            OrcRegister::SpIndirect => write!(f, "CFA = [sp]{offset:+}")?,
            OrcRegister::SpIndirectOffsetFirst => write!(f, "CFA = [sp{offset:+}]")?,
            OrcRegister::BpIndirect => write!(f, "CFA = [bp{offset:+}]")?,
            register => write!(f, "CFA = {}{offset:+}", name(register))?,
        }
        match self.kind {
            OrcKind::Regs => return write!(f, ", registers at the CFA"),
            OrcKind::RegsPartial => return write!(f, ", iret frame at the CFA"),
            _ => write!(f, ", return address = [CFA-8]")?,
        }
        let offset = self.bp_offset;
        match self.bp_reg {
            OrcRegister::Undefined => write!(f, ", bp the same")?,
            OrcRegister::PrevSp => write!(f, ", bp = [CFA{offset:+}]")?,
            register => write!(f, ", bp = [{}{offset:+}]", name(register))?,
        }
        match self.signal {
            true => write!(f, ", interrupted"),
            false => Ok(()),
        }
    }
}

/// A register's name.
const fn name(register: OrcRegister) -> &'static str {
    match register {
        OrcRegister::Undefined => "nothing",
        OrcRegister::PrevSp => "CFA",
        OrcRegister::Sp | OrcRegister::SpIndirect | OrcRegister::SpIndirectOffsetFirst => "sp",
        OrcRegister::Bp | OrcRegister::BpIndirect => "bp",
        OrcRegister::Ax => "ax",
        OrcRegister::Dx => "dx",
        OrcRegister::Di => "di",
        OrcRegister::R10 => "r10",
        OrcRegister::R13 => "r13",
        OrcRegister::Invalid => "an unknown register",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_entries_read_like_the_rules_they_are() {
        assert_eq!(
            OrcEntry::FRAME_POINTER.to_string(),
            "CFA = bp+16, return address = [CFA-8], bp = [CFA-16]"
        );
        let interrupted = OrcEntry {
            kind: OrcKind::Regs,
            sp_reg: OrcRegister::SpIndirect,
            sp_offset: 8,
            ..OrcEntry::FRAME_POINTER
        };
        assert_eq!(
            interrupted.to_string(),
            "CFA = [sp]+8, registers at the CFA"
        );
    }
}
