//! The steps without unwind information: over a signal frame by its layout, by the frame pointer,
//! and out of a jump through a bad pointer.
//!
//! Each demands all the proof that there is. If it is not there the walk ends, as an invented frame
//! is worse than a missing one.

use walker_common::wire::USER_CS;

use super::{
    mode::Mode,
    registers::{UserRegisters, dwarf},
    rule::Rule,
    stack::is_user_address,
    walk::{CodeKind, UserCode, Walk},
};
use crate::unwind::{FrameSource, StopReason};

/// Offset of the registers in the `struct ucontext` that the kernel puts behind the return address
/// of a signal handler (`arch/x86/include/uapi/asm/sigcontext.h`, `asm-generic/ucontext.h`).
const UCONTEXT_REGISTERS: u64 = 40;
/// The DWARF numbers of those registers, in their order.
const SIGCONTEXT_ORDER: [usize; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
/// The words after them: the flags, then the selectors, of which `cs` is the lowest 16 bits and
/// `ss` the highest.
const SIGCONTEXT_FLAGS: u64 = UCONTEXT_REGISTERS + 17 * 8;
const SIGCONTEXT_SELECTORS: u64 = SIGCONTEXT_FLAGS + 8;
/// Flags that are defined: the lowest 22 bits. Bit 1 is always set.
const FLAGS_MASK: u64 = (1 << 22) - 1;
const FLAGS_ONE: u64 = 1 << 1;
/// `__USER_DS`, `arch/x86/include/asm/segment.h`.
const USER_DS: u16 = 0x2b;
/// The flags in `uc_flags` that the kernel knows (`arch/x86/include/uapi/asm/ucontext.h`).
const UC_FLAGS: u64 = 0x7;

/// How many words above the stack pointer are looked at for the code that started a program. What
/// is between keeps less than that.
const START_WORDS: u64 = 64;
/// More arguments than a program that is not recognized may have.
const MAX_ARGUMENTS: u64 = 256;

impl<C: UserCode> Walk<'_, '_, C> {
    /// Leaves code that has no unwind information; `rule` tells what its instructions told.
    #[cold]
    pub(super) fn leave_unknown(&mut self, kind: CodeKind, rule: Rule) -> Result<(), StopReason> {
        let ip = self.registers.ip();
        let may_be_restorer = self.interrupted() || matches!(rule, Rule::Restorer | Rule::NoInfo);
        if kind == CodeKind::Object
            && may_be_restorer
            && let Some(registers) = self.signal_frame()
        {
            return self.go_to(registers, FrameSource::CfiSignal);
        }
        if let Rule::Exit(call) = rule {
            let mut registers = self.registers;
            let result = call.step(&mut registers, &mut self.stack);
            if let Err(stop @ StopReason::Truncated { .. }) = result {
                return Err(stop);
            }
            if result.is_ok() && self.can_return_to(registers.ip(), kind) {
                return self.go_to(registers, FrameSource::Code);
            }
        }
        let begins = match rule {
            // Where a thread begins the frame pointer is zero, as the psABI has it.
            Rule::Exits => !self.interrupted() && self.registers.get(dwarf::RBP) == Some(0),
            Rule::NoReturn => self.is_outermost()?,
            _ => false,
        } || self.stack.ends_at(self.registers.sp());
        if begins {
            return Err(StopReason::OutermostFrame);
        }
        if rule == Rule::Restorer {
            return Err(StopReason::NoUnwindInfo { ip });
        }
        let registers = self.frame_pointer()?;
        self.go_to(registers, FrameSource::FramePointer)
    }

    /// Whether this code, which does not return, is what started the program or the thread. Then
    /// the first word above on the stack that can be a return address is that of the code where
    /// either begins: the program's is what the kernel's words are above, and the thread's leaves
    /// it by a system call.
    fn is_outermost(&mut self) -> Result<bool, StopReason> {
        if self.interrupted() {
            return Ok(false);
        }
        let sp = self.registers.sp();
        for number in 0..START_WORDS {
            let address = sp.wrapping_add(self.word() * number);
            let word = self.needed(address)?;
            let Some(word) = word else {
                return Ok(false);
            };
            match self.rule_of_caller(word) {
                None | Some(Rule::NotCalled) => {}
                Some(Rule::Exits) => return Ok(true),
                Some(Rule::NoReturn) => {
                    return self.is_first_stack(address.wrapping_add(self.word()));
                }
                Some(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Whether from here on the stack is what the kernel starts a program with: how many arguments
    /// there are, pointers to them, and zero; or nothing, as none of this need be copied.
    fn is_first_stack(&mut self, address: u64) -> Result<bool, StopReason> {
        if self.stack.ends_at(address) {
            return Ok(address.is_multiple_of(16));
        }
        let Some(count @ 1..MAX_ARGUMENTS) = self.needed(address)? else {
            return Ok(false);
        };
        let end = address.wrapping_add(self.word() * (count + 1));
        let first = self.needed(address.wrapping_add(self.word()))?;
        let points_up = first.is_some_and(|first| first > end && is_user_address(first));
        Ok(address.is_multiple_of(16) && points_up && self.needed(end)? == Some(0))
    }

    /// A word of the stack; an error if it was not copied for its length.
    fn needed(&mut self, address: u64) -> Result<Option<u64>, StopReason> {
        match self.stack.word(address) {
            Some(word) => Ok(Some(word)),
            None => match self.stack.missing(address) {
                stop @ StopReason::Truncated { .. } => Err(stop),
                _ => Ok(None),
            },
        }
    }

    /// Whether this can be where code of this kind returns to: code behind a call, or what returns
    /// from a signal handler.
    fn can_return_to(&mut self, address: u64, from: CodeKind) -> bool {
        // JIT compilers have conventions of their own, so there must be proof.
        let proved = from == CodeKind::Object || self.is_behind_call(address) == Some(true);
        proved
            && is_user_address(address)
            && self
                .rule_of_caller(address)
                .is_some_and(|rule| rule != Rule::NotCalled)
    }

    /// The registers in a signal frame, if that is what the stack pointer points to: the code is
    /// then what the C library gave the kernel to return from a handler to (static musl has no
    /// unwind information for it).
    pub(super) fn signal_frame(&mut self) -> Option<UserRegisters> {
        let (ip, sp) = (self.registers.ip(), self.registers.sp());
        // That of 32-bit code is told by the vDSO, which has the code to return by.
        let other_mode = self.registers.mode() != Mode::Bits64;
        if other_mode || !self.interrupted() && self.is_behind_call(ip) == Some(true) {
            return None;
        }
        let mut word = |offset: u64| self.stack.word(sp.checked_add(offset)?);
        let uc_flags = word(0)?;
        let flags = word(SIGCONTEXT_FLAGS)?;
        let [cs0, cs1, _, _, _, _, ss0, ss1] = word(SIGCONTEXT_SELECTORS)?.to_le_bytes();
        let plausible = uc_flags & !UC_FLAGS == 0
            && flags & !FLAGS_MASK == 0
            && flags & FLAGS_ONE != 0
            && u64::from(u16::from_le_bytes([cs0, cs1])) == USER_CS
            && u16::from_le_bytes([ss0, ss1]) == USER_DS;
        if !plausible {
            return None;
        }
        let mut registers = UserRegisters::new(0, 0);
        let mut offset = UCONTEXT_REGISTERS;
        for number in SIGCONTEXT_ORDER {
            registers.set(number, Some(word(offset)?));
            offset += 8;
        }
        Some(registers)
    }

    /// The caller's registers by the frame pointer: it points to the caller's, and the return
    /// address follows.
    fn frame_pointer(&mut self) -> Result<UserRegisters, StopReason> {
        let (ip, sp) = (self.registers.ip(), self.registers.sp());
        let no_info = StopReason::NoUnwindInfo { ip };
        let rbp = self.registers.get(dwarf::RBP).ok_or(no_info)?;
        if rbp % self.word() != 0 || rbp < sp || !is_user_address(rbp) {
            return Err(no_info);
        }
        let return_slot = rbp + self.word();
        let Some(return_address) = self.stack.word(return_slot) else {
            return Err(self.stack.missing(return_slot));
        };
        let Some(next) = self.stack.word(rbp) else {
            return Err(self.stack.missing(rbp));
        };
        if return_address == 0 && next == 0 && !self.interrupted() {
            return Err(StopReason::OutermostFrame);
        }
        if !self.is_return_address(return_address, |follows| follows != Some(false)) {
            return Err(StopReason::BadReturnAddress { ip: return_address });
        }
        let has_rule = matches!(
            self.rule_of_caller(return_address),
            Some(Rule::Call(_) | Rule::Slow | Rule::Outermost)
        );
        if next != 0 && next <= rbp && !has_rule {
            return Err(no_info);
        }
        let mut caller = UserRegisters::new(return_address, return_slot + self.word())
            .in_mode(self.registers.mode());
        caller.set(dwarf::RBP, Some(next));
        Ok(caller)
    }

    /// Leaves an instruction pointer that is in no code: what called through a bad pointer, if the
    /// topmost word of the stack proves that it was a call.
    #[cold]
    pub(super) fn leave_bad_jump(&mut self) -> Result<(), StopReason> {
        let (ip, sp) = (self.registers.ip(), self.registers.sp());
        let unmapped = StopReason::Unmapped { ip };
        let return_address = self.stack.word(sp).ok_or(unmapped)?;
        if !self.is_return_address(return_address, |follows| follows == Some(true)) {
            return Err(unmapped);
        }
        let mut caller = self.registers;
        caller.forget_caller_saved();
        caller.set(dwarf::RA, Some(return_address));
        caller.set(dwarf::RSP, Some(sp.wrapping_add(self.word())));
        // The word may also be left from before, if it was a jump and not a call.
        self.reliable = false;
        self.go_to(caller, FrameSource::Scan)
    }

    /// Whether this is in code, and `accept` takes what is known of the bytes before it.
    fn is_return_address(
        &mut self,
        address: u64,
        accept: impl FnOnce(Option<bool>) -> bool,
    ) -> bool {
        is_user_address(address)
            && address
                .checked_sub(1)
                .is_some_and(|call| self.code.code_at(call).is_some())
            && accept(self.is_behind_call(address))
    }
}
