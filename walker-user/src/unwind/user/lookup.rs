//! Which rule a frame is left by: the one that is remembered, or what is found by looking for
//! unwind information, at the bytes before a return address, and at the code itself.
//!
//! What is done with the rule is the job of `walk` and `fallback`.

use super::{
    call::follows_call,
    entry::NoRow,
    exit::{Exit, is_restorer},
    mode::Mode,
    rule::Rule,
    walk::{CodeKind, ModuleId, UserCode, Walk},
};

/// What sets the rules of an object in the 32-bit mode apart. The same bytes mean something else
/// there, and who maps a file need not run it in the mode it was made for.
const BITS_32: u32 = 1 << 31;

/// What code is a part of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) module: ModuleId,
    pub(super) address: u64,
    pub(super) kind: CodeKind,
}

impl<C: UserCode> Walk<'_, '_, C> {
    /// What the code at an address is a part of.
    #[inline]
    pub(super) fn place(&mut self, lookup: u64) -> Option<Place> {
        let mode = self.registers.mode();
        self.code.code_at(lookup).map(|code| Place {
            module: match (mode, code.module) {
                (Mode::Bits32, ModuleId(id)) if code.module != ModuleId::NONE => {
                    ModuleId(id | BITS_32)
                }
                (_, module) => module,
            },
            address: code.address,
            kind: code.kind,
        })
    }

    /// The rule for the code at `lookup`, which is at `place`. It is [`Rule::NotCalled`] if this
    /// is `returned` to by what was called from there, and cannot be.
    #[inline]
    pub(super) fn rule(
        &mut self,
        place: Place,
        lookup: u64,
        returned: bool,
    ) -> Result<Rule, NoRow> {
        if place.module != ModuleId::NONE
            && let Some(rule) = self.walker.cache.get(place.module, place.address, returned)
        {
            return Ok(rule);
        }
        self.look_up(place, lookup, returned)
    }

    #[cold]
    fn look_up(&mut self, place: Place, lookup: u64, returned: bool) -> Result<Rule, NoRow> {
        let mode = self.registers.mode();
        let (mut rule, signal) = self.row_rule(lookup)?;
        let next = lookup.wrapping_add(1);
        if returned && rule == Rule::NoInfo && self.row_rule(next)? == (Rule::Slow, true) {
            // What returns from a signal handler is never called: the handler's return address
            // is its first instruction. Not every C library has unwind information for it from
            // a byte earlier.
            rule = Rule::SlowAfter;
        } else if rule == Rule::NoInfo {
            let begin = if returned { next } else { lookup };
            rule = if mode == Mode::Bits64 && is_restorer(self.code, begin) {
                Rule::Restorer
            } else if returned && self.is_behind_call(next) == Some(false) {
                Rule::NotCalled
            } else if mode == Mode::Bits32 {
                // The code of 32 bits is not followed.
                Rule::NoInfo
            } else {
                let exits = &mut self.walker.exits;
                match exits.find(self.code, begin, returned, place.kind, &mut self.budget) {
                    Exit::Returns(call) => Rule::Exit(call),
                    Exit::Never => Rule::NoReturn,
                    Exit::Exits => Rule::Exits,
                    Exit::Unknown => Rule::NoInfo,
                }
            };
        } else if returned
            // The outermost functions are entered by what looks like a call from nowhere.
            && !(signal || rule == Rule::Outermost)
            && self.is_behind_call(next) == Some(false)
        {
            rule = Rule::NotCalled;
        }
        if place.module != ModuleId::NONE {
            let cache = &mut self.walker.cache;
            cache.put(place.module, place.address, returned, rule);
        }
        Ok(rule)
    }

    /// Whether a call is before this address; `None` if that cannot be told, or says nothing: V8
    /// lets frames return to where it leaves code that it has given up.
    pub(super) fn is_behind_call(&mut self, address: u64) -> Option<bool> {
        let code = self.code.code_at(address.wrapping_sub(1))?;
        let kind = code.kind;
        let follows = follows_call(self.code, address);
        follows.filter(|follows| *follows || kind == CodeKind::Object)
    }

    /// The rule that the unwind information has for the code at `lookup`, and whether that is
    /// called by the kernel to handle a signal.
    pub(super) fn row_rule(&mut self, lookup: u64) -> Result<(Rule, bool), NoRow> {
        let Some(code) = self.code.code_at(lookup) else {
            return Ok((Rule::NoInfo, false));
        };
        let mode = self.registers.mode();
        let Some(cfi) = code.cfi.filter(|cfi| cfi.mode() == mode) else {
            return Ok((Rule::NoInfo, false));
        };
        if cfi.switches_stacks(code.address) {
            return Ok((Rule::StackSwitch, false));
        }
        let context = &mut self.walker.context;
        match cfi.row(code.address, context, &mut self.budget) {
            Ok(Some(row)) => Ok((Rule::of(&row), row.signal)),
            Ok(None) => Ok((Rule::NoInfo, false)),
            Err(NoRow::Malformed) => Ok((Rule::Malformed, false)),
            // It says nothing of the code, so it is not remembered.
            Err(NoRow::Budget) => Err(NoRow::Budget),
        }
    }

    /// The rule for the code that returns to this address; `None` if there is no code.
    pub(super) fn rule_of_caller(&mut self, return_address: u64) -> Option<Rule> {
        let lookup = return_address.checked_sub(1)?;
        let place = self.place(lookup)?;
        self.rule(place, lookup, true).ok()
    }
}
