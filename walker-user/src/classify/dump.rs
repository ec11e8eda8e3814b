//! A walk over all stacks of a context without unwind tables: by scanning, or by frame pointers.
//!
//! This is the counterpart of the kernel's `dump_trace()` with `print_context_stack()` and
//! `print_context_stack_bp()` (`arch/x86/kernel/dumpstack.c`, 4.8) and of the scan that
//! `show_trace_log_lvl()` does today (same file, 6.18). It finds candidates for frames. It does
//! not know about registers saved by an interrupt, so a chain of frame pointers ends at one that
//! encodes `pt_regs`; exact walks are the `unwind` module's.

use std::ops::ControlFlow;

use walker_common::StackKind;

use super::{Memory, StackError, StackInfo, StackSet, VisitMask, WordSize};

/// Guard pages of x86 stacks are of this size.
const PAGE_SIZE: u64 = 4096;

/// The registers to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Start {
    /// The interrupted instruction. It is the first frame if it is kernel text.
    pub ip: u64,
    /// The stack pointer. One that is not aligned is rounded up to a word.
    pub sp: u64,
    /// The frame pointer. It may be anything: kernels without frame pointers use the register for
    /// other values.
    pub bp: u64,
}

/// How to look for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every word that is an address in kernel text, as `print_context_stack()` does.
    Scan,
    /// The return addresses of the chain of frame pointers, as `print_context_stack_bp()` does.
    FramePointer,
}

/// How far a frame can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// It is the interrupted instruction, or a return address in the chain of frame pointers.
    Reliable,
    /// A word that looks like a return address. It may be left over from an earlier call. An oops
    /// shows it with a `?`.
    Unreliable,
}

/// A possible frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceFrame {
    /// The address in kernel text.
    pub address: u64,
    /// Address of the word where it was found; `None` for the interrupted instruction.
    pub slot: Option<u64>,
    /// How far it can be believed.
    pub reliability: Reliability,
}

/// What is done with the stacks and frames of a walk: the kernel's `struct stacktrace_ops`.
///
/// Each stack is begun and ended once, and its frames come between: the interrupted instruction on
/// the first stack, then those on the stack by rising address. A stack that was begun is always
/// ended, however the walk ends.
pub trait TraceVisitor {
    /// The walk enters a stack. `Break` ends it.
    fn stack_begin(&mut self, info: &StackInfo) -> ControlFlow<()>;
    /// There is a frame on the current stack. `Break` ends the walk.
    fn frame(&mut self, frame: &TraceFrame) -> ControlFlow<()>;
    /// The walk leaves a stack.
    fn stack_end(&mut self, info: &StackInfo);
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DumpEnd {
    /// The last stack leads to no other.
    EndOfStacks,
    /// A stack pointer is on no known stack.
    UnknownStack {
        /// The pointer.
        addr: u64,
    },
    /// The stacks lead back to one that the walk had been on.
    Revisited {
        /// Its kind.
        kind: StackKind,
    },
    /// The bytes are on a known stack but are not there to be read.
    MissingBytes {
        /// Address of the word that could not be read.
        addr: u64,
    },
    /// The visitor had enough.
    VisitorStopped,
}

/// Walks all stacks from `start` and shows them to `visitor`. Tells why it ended.
///
/// Like in the kernel, a chain of frame pointers that breaks does not end the walk: it goes on
/// with the next stack, where the frame pointer that is left over gives frames only if it points
/// into it.
///
/// At most ten stacks are entered, since each kind of stack is entered once at most; on each, the
/// words between its two ends are visited once at most, in rising order; and the first word that
/// is not in `memory` ends the walk. So no input, however hostile, makes it longer than ten times
/// the words of `memory`, or gives more frames than the stacks have words, plus one for
/// `start.ip`.
pub fn dump_trace(
    stacks: &StackSet<'_>,
    memory: &impl Memory,
    start: Start,
    is_text: &dyn Fn(u64) -> bool,
    mode: Mode,
    visitor: &mut impl TraceVisitor,
) -> DumpEnd {
    let mut walk = Walk {
        memory,
        word: stacks.word,
        is_text,
        visitor,
        bp: start.bp,
    };
    let mut visited = VisitMask::default();
    let mut interrupted = Some(start.ip);
    let mut sp = start.sp;
    // Ends: each turn sets one more of the few bits of `visited`, or returns.
    loop {
        let (info, sp_on_stack) = match enter_stack(stacks, memory, sp, &mut visited) {
            Ok(entered) => entered,
            Err(StackError::Revisited { kind, .. }) => return DumpEnd::Revisited { kind },
            Err(StackError::NullPointer | StackError::Unknown { .. }) => {
                return DumpEnd::UnknownStack { addr: sp };
            }
        };
        if let Err(end) = walk.stack(&info, sp_on_stack, interrupted.take(), mode) {
            return end;
        }
        sp = match (info.next_sp, info.next_sp_slot) {
            (Some(0), _) | (None, None) => return DumpEnd::EndOfStacks,
            (Some(next_sp), _) => next_sp,
            (None, Some(addr)) => return DumpEnd::MissingBytes { addr },
        };
    }
}

/// Enters the stack of `sp`. Returns it, and `sp` rounded up to a word on it.
///
/// An `sp` on no stack may be that of a task that overflowed its stack into the guard page below:
/// then the stack begins at the next page, and that is where the walk goes on, as in
/// `show_trace_log_lvl()`. This is for traces only. Elsewhere an address in a guard page must stay
/// an error, or bytes that are not on a stack would be read as if they were.
fn enter_stack(
    stacks: &StackSet<'_>,
    memory: &impl Memory,
    sp: u64,
    visited: &mut VisitMask,
) -> Result<(StackInfo, u64), StackError> {
    let unknown = StackError::Unknown { addr: sp };
    let aligned = sp
        .checked_next_multiple_of(stacks.word.bytes())
        .ok_or(unknown)?;
    match stacks.get_stack_info(memory, aligned, Some(visited)) {
        Err(StackError::Unknown { .. }) => {
            let next_page = aligned.checked_next_multiple_of(PAGE_SIZE).ok_or(unknown)?;
            Ok((
                stacks.get_stack_info(memory, next_page, Some(visited))?,
                next_page,
            ))
        }
        found => Ok((found?, aligned)),
    }
}

/// What stays the same from one stack to the next, except for the frame pointer.
struct Walk<'a, M, V> {
    memory: &'a M,
    word: WordSize,
    is_text: &'a dyn Fn(u64) -> bool,
    visitor: &'a mut V,
    bp: u64,
}

impl<M: Memory, V: TraceVisitor> Walk<'_, M, V> {
    /// One stack, from `sp` to its end.
    fn stack(
        &mut self,
        info: &StackInfo,
        sp: u64,
        interrupted: Option<u64>,
        mode: Mode,
    ) -> Result<(), DumpEnd> {
        let result = self.begin(info, interrupted).and_then(|()| match mode {
            Mode::Scan => self.scan(info, sp),
            Mode::FramePointer => self.follow_bp(info, sp),
        });
        self.visitor.stack_end(info);
        result
    }

    fn begin(&mut self, info: &StackInfo, interrupted: Option<u64>) -> Result<(), DumpEnd> {
        if self.visitor.stack_begin(info).is_break() {
            return Err(DumpEnd::VisitorStopped);
        }
        match interrupted {
            Some(ip) if (self.is_text)(ip) => self.report(ip, None, Reliability::Reliable),
            _ => Ok(()),
        }
    }

    fn scan(&mut self, info: &StackInfo, sp: u64) -> Result<(), DumpEnd> {
        let step = self.word.bytes();
        let mut slot = sp;
        // Ends: `slot` grows in each turn and must be on the stack.
        while info.on_stack(slot, step) {
            let address = self.read(slot)?;
            if (self.is_text)(address) {
                let reliability = if self.bp.checked_add(step) == Some(slot) {
                    // The chain goes on from here, unless the frame pointer's own word is below
                    // the stack or was not captured.
                    if info.on_stack(self.bp, step) {
                        self.bp = self.read(self.bp).unwrap_or(0);
                    }
                    Reliability::Reliable
                } else {
                    Reliability::Unreliable
                };
                self.report(address, Some(slot), reliability)?;
            }
            slot = slot.saturating_add(step);
        }
        Ok(())
    }

    fn follow_bp(&mut self, info: &StackInfo, sp: u64) -> Result<(), DumpEnd> {
        let step = self.word.bytes();
        let mut lowest = sp;
        // Ends: `lowest` grows in each turn and must be on the stack. Frames do not overlap, and
        // none is below the stack pointer, so a frame pointer that does not get past the frame it
        // came from is not one. The check covers both words that are read, not just one of them or
        // the place where the walk began.
        while self.bp >= lowest && info.on_stack(self.bp, 2 * step) {
            let slot = self.bp + step;
            let next_bp = self.read(self.bp)?;
            let address = self.read(slot)?;
            if !(self.is_text)(address) {
                break;
            }
            self.report(address, Some(slot), Reliability::Reliable)?;
            lowest = slot + step;
            self.bp = next_bp;
        }
        Ok(())
    }

    fn read(&self, addr: u64) -> Result<u64, DumpEnd> {
        self.memory
            .read_word(addr, self.word)
            .ok_or(DumpEnd::MissingBytes { addr })
    }

    fn report(
        &mut self,
        address: u64,
        slot: Option<u64>,
        reliability: Reliability,
    ) -> Result<(), DumpEnd> {
        match self.visitor.frame(&TraceFrame {
            address,
            slot,
            reliability,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DumpEnd::VisitorStopped),
        }
    }
}
