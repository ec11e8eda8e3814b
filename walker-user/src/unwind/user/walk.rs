//! The walk over a user stack: which rule a frame is left by, and when to stop.
//!
//! What the rules of an object are is the job of `tables`; where its code is mapped, that of
//! whoever implements [`UserCode`].

use walker_common::StackKind;

use super::{
    cache::RuleCache,
    entry::NoRow,
    exit::ExitFinder,
    lookup::Place,
    progress::Progress,
    registers::UserRegisters,
    row,
    rule::Rule,
    stack::{StackReader, UserStack, is_user_address},
    tables::{CfiTables, RowContext},
};
use crate::unwind::{Frame, FrameSource, StopReason};

/// How much work one walk may spend on programs and expressions: bytes of the one, operations of
/// the other. Real walks of a hundred frames take some thousands when nothing is cached.
const BUDGET: u32 = 1 << 18;

/// `syscall`, `int $0x80` and `sysenter`.
const SYSTEM_CALLS: [[u8; 2]; 3] = [[0x0f, 0x05], [0xcd, 0x80], [0x0f, 0x34]];

/// The number of a loaded object. Two objects must never have the same in the life of a
/// [`UserWalker`], which remembers rules by it; the same object may have it in many processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleId(pub u32);

impl ModuleId {
    /// Of code that is in no object that could be known again: nothing of it is remembered.
    pub const NONE: Self = Self(u32::MAX);
}

/// Where code comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeKind {
    /// An object file, or the vDSO.
    Object,
    /// Anonymous executable memory.
    Jit,
}

/// Code at an address of the walked process.
#[derive(Debug, Clone, Copy)]
pub struct CodeAt<'a> {
    /// The object, or [`ModuleId::NONE`].
    pub module: ModuleId,
    /// The address in the object as it was linked.
    pub address: u64,
    /// The object's unwind information.
    pub cfi: Option<&'a CfiTables>,
    /// Where the code comes from.
    pub kind: CodeKind,
}

/// What a walk has to know of the process.
pub trait UserCode {
    /// The code at this address; `None` if it is in no executable mapping.
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>>;

    /// Copies the code from `address` on into `buffer`, and returns how many bytes of it are
    /// known: none if the address is in no executable mapping, and no more than up to its end.
    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize;
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserWalk {
    /// Why.
    pub stop: StopReason,
    /// Bytes from the start of the copied stack to the end of the highest word that was read, which
    /// is how much had to be copied.
    pub bytes_used: u32,
}

/// Walks user stacks. It is to be kept: it remembers the rules of code that it has met.
#[derive(Debug)]
pub struct UserWalker {
    pub(super) cache: RuleCache,
    pub(super) context: RowContext,
    pub(super) exits: ExitFinder,
}

impl Default for UserWalker {
    fn default() -> Self {
        Self::new()
    }
}

impl UserWalker {
    /// A walker that has met no code yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cache: RuleCache::new(),
            context: RowContext::new_in(),
            exits: ExitFinder::new(),
        }
    }

    /// How many rules were remembered when they were asked for.
    #[must_use]
    pub fn cache_hits(&self) -> u64 {
        self.cache.hits()
    }

    /// How many rules had to be looked up.
    #[must_use]
    pub fn cache_misses(&self) -> u64 {
        self.cache.misses()
    }

    /// Appends the frames of a stack to `frames`, leaf first; the first is the interrupted one,
    /// whatever its instruction pointer is. There are at most a few more of them than the stack
    /// has words.
    pub fn walk(
        &mut self,
        code: &mut impl UserCode,
        registers: &UserRegisters,
        stack: &UserStack<'_>,
        frames: &mut Vec<Frame>,
    ) -> UserWalk {
        let mut walk = Walk {
            walker: self,
            code,
            registers: *registers,
            stack: StackReader::new(stack, registers.mode()),
            source: FrameSource::UserRegs,
            reliable: true,
            progress: Progress::new(registers.sp()),
            budget: BUDGET,
        };
        let stop = walk.run(frames);
        UserWalk {
            stop,
            bytes_used: walk.stack.bytes_used(),
        }
    }
}

/// The state between two frames.
pub(super) struct Walk<'w, 's, C> {
    pub(super) walker: &'w mut UserWalker,
    pub(super) code: &'w mut C,
    /// Of the frame that is next.
    pub(super) registers: UserRegisters,
    pub(super) stack: StackReader<'s>,
    /// How that frame was found.
    pub(super) source: FrameSource,
    pub(super) reliable: bool,
    progress: Progress,
    pub(super) budget: u32,
}

impl<C: UserCode> Walk<'_, '_, C> {
    fn run(&mut self, frames: &mut Vec<Frame>) -> StopReason {
        // Each frame is further up than the one before or was interrupted, so this is only reached
        // if frames are closer together than return addresses can be.
        let limit = self.stack.words().saturating_add(8);
        for _ in 0..limit {
            if let Err(stop) = self.frame(frames) {
                return stop;
            }
        }
        StopReason::NoProgress {
            sp: self.registers.sp(),
        }
    }

    /// Whether the frame was interrupted, rather than having made a call.
    pub(super) fn interrupted(&self) -> bool {
        matches!(self.source, FrameSource::UserRegs | FrameSource::CfiSignal)
    }

    /// Appends one frame and moves to its caller.
    fn frame(&mut self, frames: &mut Vec<Frame>) -> Result<(), StopReason> {
        let ip = self.registers.ip();
        let interrupted = self.interrupted();
        if !interrupted {
            if ip == 0 {
                return Err(StopReason::OutermostFrame);
            }
            if !is_user_address(ip) {
                return Err(StopReason::BadReturnAddress { ip });
            }
        }
        let frame = self.as_frame();
        if self.source == FrameSource::CfiSignal {
            mark_signal_return(frames);
        }
        // A call can be the last instruction of a function, so that what follows is another's.
        let mut lookup = if interrupted { ip } else { ip.wrapping_sub(1) };
        let Some(mut place) = self.place(lookup) else {
            if !interrupted {
                return Err(StopReason::Unmapped { ip });
            }
            frames.push(frame);
            return self.leave_bad_jump();
        };
        let mut rule = self.rule(place, lookup, !interrupted);
        if interrupted
            && rule.is_ok_and(Rule::is_without_row)
            && let Some(found) = self.system_call_rule(ip)
        {
            (place, lookup, rule) = found;
        }
        if rule == Ok(Rule::NotCalled) {
            return self.leave_not_called(lookup, frame, frames);
        }
        frames.push(frame);

        let bad = StopReason::BadUnwindInfo { ip };
        let mut registers = self.registers;
        match rule.map_err(|_| bad)? {
            Rule::Call(call) => {
                call.step(&mut registers, &mut self.stack)?;
                self.go_to(registers, FrameSource::Cfi)
            }
            Rule::Outermost => Err(StopReason::OutermostFrame),
            Rule::Malformed => Err(bad),
            Rule::StackSwitch => Err(StopReason::StackSwitch { ip }),
            Rule::Slow => self.evaluate(lookup),
            Rule::SlowAfter => self.evaluate(ip),
            rule => self.leave_unknown(place.kind, rule),
        }
    }

    /// The place, address and rule of the system call that ends at `ip`, if that has a row: it may be
    /// the last instruction that one is for, as in the way back from a signal handler.
    #[cold]
    fn system_call_rule(&mut self, ip: u64) -> Option<(Place, u64, Result<Rule, NoRow>)> {
        let mut bytes = [0; 2];
        let call = ip.checked_sub(2)?;
        let known = self.code.code_bytes(call, &mut bytes);
        if known < bytes.len() || !SYSTEM_CALLS.contains(&bytes) {
            return None;
        }
        let place = self.place(ip - 1)?;
        let rule = self.rule(place, ip - 1, false);
        let has_row = rule.is_ok_and(|rule| !rule.is_without_row());
        has_row.then_some((place, ip - 1, rule))
    }

    /// Leaves a return address that is behind no call.
    #[cold]
    fn leave_not_called(
        &mut self,
        lookup: u64,
        frame: Frame,
        frames: &mut Vec<Frame>,
    ) -> Result<(), StopReason> {
        // Not every C library's way back from a signal handler can be told by its code.
        if let Some(registers) = self.signal_frame() {
            frames.push(frame);
            return self.go_to(registers, FrameSource::CfiSignal);
        }
        // Who makes a stack by hand puts an address there that nobody called from, and a zero
        // above it.
        if let Ok((Rule::Call(call), _)) = self.row_rule(lookup) {
            let mut registers = self.registers;
            if call.step(&mut registers, &mut self.stack).is_ok() && registers.ip() == 0 {
                frames.push(frame);
                return Err(StopReason::OutermostFrame);
            }
        }
        Err(StopReason::BadReturnAddress {
            ip: self.registers.ip(),
        })
    }

    /// Leaves a frame by evaluating the row for the code at this address.
    fn evaluate(&mut self, lookup: u64) -> Result<(), StopReason> {
        let interrupted = self.interrupted();
        let bad = StopReason::BadUnwindInfo {
            ip: self.registers.ip(),
        };
        let code = self.code.code_at(lookup).ok_or(bad)?;
        let context = &mut self.walker.context;
        let mode = self.registers.mode();
        let row = match code.cfi.filter(|cfi| cfi.mode() == mode) {
            Some(cfi) => cfi.row(code.address, context, &mut self.budget),
            None => Ok(None),
        };
        let row = row.ok().flatten().ok_or(bad)?;
        let mut registers = self.registers;
        let source = row::step(
            &row,
            &mut registers,
            &mut self.stack,
            &mut self.budget,
            interrupted,
        )?;
        self.go_to(registers, source)
    }

    /// Bytes of a word.
    pub(super) fn word(&self) -> u64 {
        self.registers.mode().word_bytes().into()
    }

    fn as_frame(&self) -> Frame {
        let sp = self.registers.sp();
        Frame {
            ip: self.registers.ip(),
            sp: match self.source {
                FrameSource::Scan => sp.wrapping_sub(self.word()),
                _ => sp,
            },
            stack: StackKind::User,
            source: self.source,
            reliable: self.reliable,
        }
    }

    /// Makes the caller the next frame.
    #[inline]
    pub(super) fn go_to(
        &mut self,
        registers: UserRegisters,
        source: FrameSource,
    ) -> Result<(), StopReason> {
        let sp = registers.sp();
        let moved = if source == FrameSource::CfiSignal {
            self.progress.interrupt(sp)
        } else {
            // The leaf may have its return address in a register, and nothing on the stack.
            self.progress.advance(sp, self.interrupted())
        };
        if !moved {
            return Err(StopReason::NoProgress { sp });
        }
        self.registers = registers;
        self.source = source;
        Ok(())
    }
}

/// Says of the frame that a signal frame was found by that it is what a handler returns to, unless
/// it was interrupted there itself.
fn mark_signal_return(frames: &mut [Frame]) {
    if let Some(last) = frames.last_mut()
        && last.lookup_address() != last.ip
    {
        last.source = FrameSource::SignalReturn;
    }
}
