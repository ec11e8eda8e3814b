//! Reads of stack words under the kernel's rules: only on a known stack, each stack once.
//!
//! This is `stack_access_ok()` and the `deref_stack_*()` helpers of
//! `arch/x86/kernel/unwind_orc.c` (6.18), over captured bytes.

use walker_common::StackKind;

use super::{StopReason, memory::SampleMemory};
use crate::classify::{Memory as _, StackError, StackInfo, StackSet, VisitMask};

/// Offset of `ip` in `struct pt_regs`, where the part that `iret` uses begins.
pub(super) const PT_REGS_IP: u64 = 16 * 8;
/// Bytes of the `iret` frame.
pub(super) const IRET_FRAME_BYTES: u64 = 5 * 8;
/// Bytes of `struct pt_regs`.
pub(super) const PT_REGS_BYTES: u64 = PT_REGS_IP + IRET_FRAME_BYTES;

/// What an interrupted context left on a stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct IretFrame {
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) user_mode: bool,
}

/// The current stack, and which kinds of stack were already entered.
pub(super) struct StackCursor<'a> {
    stacks: &'a StackSet<'a>,
    memory: &'a SampleMemory<'a>,
    info: Option<StackInfo>,
    visited: VisitMask,
}

impl<'a> StackCursor<'a> {
    /// A cursor on the stack that holds `sp`, or on none if no known stack does.
    pub(super) fn new(
        stacks: &'a StackSet<'a>,
        memory: &'a SampleMemory<'a>,
        sp: u64,
    ) -> Result<Self, StopReason> {
        let mut cursor = Self {
            stacks,
            memory,
            info: None,
            visited: VisitMask::default(),
        };
        cursor.allow(sp, 1)?;
        Ok(cursor)
    }

    /// The stacks it moves on.
    pub(super) fn stacks(&self) -> &'a StackSet<'a> {
        self.stacks
    }

    /// Their bytes.
    pub(super) fn memory(&self) -> &'a SampleMemory<'a> {
        self.memory
    }

    /// The kind of the stack the cursor is on.
    pub(super) fn kind(&self) -> StackKind {
        self.info.map_or(StackKind::Unknown, |info| info.kind)
    }

    /// The kinds entered so far.
    pub(super) fn visited(&self) -> VisitMask {
        self.visited
    }

    /// The kind of stack `sp` is on. Looking does not count as entering.
    pub(super) fn kind_at(&self, sp: u64) -> StackKind {
        match self.info {
            Some(info) if info.on_stack(sp, 1) => info.kind,
            _ => self
                .stacks
                .get_stack_info(self.memory, sp, None)
                .map_or(StackKind::Unknown, |info| info.kind),
        }
    }

    /// Whether these bytes are on the current stack.
    #[inline]
    pub(super) fn holds(&self, address: u64, length: u64) -> bool {
        self.info.is_some_and(|info| info.on_stack(address, length))
    }

    /// Makes sure that `length` bytes at `address` are on the current stack, or enters the one
    /// that holds them.
    #[inline]
    pub(super) fn allow(&mut self, address: u64, length: u64) -> Result<(), StopReason> {
        if self.holds(address, length) {
            Ok(())
        } else {
            self.enter(address, length)
        }
    }

    /// The rare part of [`StackCursor::allow`].
    #[cold]
    fn enter(&mut self, address: u64, length: u64) -> Result<(), StopReason> {
        match self
            .stacks
            .get_stack_info(self.memory, address, Some(&mut self.visited))
        {
            Ok(info) => self.info = Some(info),
            Err(StackError::Revisited { kind, .. }) => return Err(StopReason::Loop { kind }),
            Err(_) => return Err(StopReason::UnknownStack { address }),
        }
        if self.holds(address, length) {
            Ok(())
        } else {
            Err(StopReason::UnknownStack { address })
        }
    }

    /// Reads one word.
    #[inline]
    pub(super) fn word(&mut self, address: u64) -> Result<u64, StopReason> {
        self.allow(address, 8)?;
        self.captured(address)
    }

    /// Reads what `iret` would pop at `address`.
    pub(super) fn iret_frame(&mut self, address: u64) -> Result<IretFrame, StopReason> {
        self.allow(address, IRET_FRAME_BYTES)?;
        Ok(IretFrame {
            ip: self.captured(address)?,
            user_mode: self.captured(address.wrapping_add(8))? & 3 != 0,
            sp: self.captured(address.wrapping_add(24))?,
        })
    }

    /// Reads a word of the size of these stacks' words, of a stack that was entered before.
    pub(super) fn captured_word(&self, address: u64) -> Result<u64, StopReason> {
        self.memory
            .read_word(address, self.stacks.word)
            .ok_or(StopReason::MissingBytes { address })
    }

    /// Reads a 64-bit word of a stack that was entered before, such as a saved register.
    #[inline]
    pub(super) fn captured(&self, address: u64) -> Result<u64, StopReason> {
        self.memory
            .read_u64(address)
            .ok_or(StopReason::MissingBytes { address })
    }
}
