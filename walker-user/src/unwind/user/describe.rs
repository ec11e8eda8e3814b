//! Unwind rules in words, for people who want to check a walk. Nothing is walked here.

use std::fmt::Write as _;

use gimli::{CfaRule, RegisterRule};

use super::tables::{CfiTables, RowContext};

/// How much work a description may spend on programs, in bytes of them.
const BUDGET: u32 = 1 << 18;
/// DWARF's names of the registers of x86_64, by number (System V ABI, figure 3.36).
const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "ra",
];

/// A row of unwind information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowText {
    /// The row in words.
    pub text: String,
    /// Where the return address is, from the CFA, in bytes; `None` if it takes more than that.
    pub return_address: Option<i64>,
}

fn name(register: gimli::Register) -> String {
    match NAMES.get(usize::from(register.0)) {
        Some(name) => (*name).to_owned(),
        None => format!("r{}", register.0),
    }
}

impl CfiTables {
    /// The row for the code at `address`, as linked, in words; `None` if there is none that can be
    /// used.
    #[must_use]
    pub fn describe(&self, address: u64) -> Option<RowText> {
        let mut context = RowContext::new_in();
        let mut budget = BUDGET;
        let row = self.row(address, &mut context, &mut budget).ok()??;
        let mut text = match row.rules.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                format!("CFA = {}{offset:+}", name(*register))
            }
            CfaRule::Expression(_) => "CFA = expression".to_owned(),
        };
        let mut return_address = None;
        for (register, rule) in row.rules.registers() {
            let rule = match rule {
                RegisterRule::Undefined => "undefined".to_owned(),
                RegisterRule::SameValue => "the same".to_owned(),
                RegisterRule::Offset(offset) => {
                    if *register == row.return_column {
                        return_address = Some(*offset);
                    }
                    format!("[CFA{offset:+}]")
                }
                RegisterRule::ValOffset(offset) => format!("CFA{offset:+}"),
                RegisterRule::Register(other) => name(*other),
                RegisterRule::Expression(_) => "[expression]".to_owned(),
                RegisterRule::ValExpression(_) => "expression".to_owned(),
                _ => "another rule".to_owned(),
            };
            // A String takes everything.
            let _written = write!(text, ", {} = {rule}", name(*register));
        }
        if row.signal {
            text.push_str(", signal frame");
        }
        Some(RowText {
            text,
            return_address,
        })
    }
}
