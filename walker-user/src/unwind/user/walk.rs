//! The walk over a user stack: which rule a frame is left by, and when to stop.
//!
//! What the rules of an object are is the job of `tables`; where its code is mapped, that of
//! whoever implements [`UserCode`].

use walker_common::StackKind;

use super::{
    cache::RuleCache,
    entry::NoRow,
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

/// The number of a loaded object. Two objects must never have the same in the life of a
/// [`UserWalker`], which remembers rules by it; the same object may have it in many processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleId(pub u32);

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
    /// The object. Not looked at without `cfi`.
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

    /// Whether the bytes before `address` can be a call instruction, so that it can be a return
    /// address; `None` if they are not known.
    fn follows_call(&mut self, address: u64) -> Option<bool>;
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
    cache: RuleCache,
    context: RowContext,
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
            stack: StackReader::new(stack),
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

    /// The rule for a link-time address of an object.
    #[inline]
    fn rule(
        &mut self,
        module: ModuleId,
        address: u64,
        cfi: &CfiTables,
        budget: &mut u32,
    ) -> Result<Rule, NoRow> {
        match self.cache.get(module, address) {
            Some(rule) => Ok(rule),
            None => self.look_up(module, address, cfi, budget),
        }
    }

    #[cold]
    fn look_up(
        &mut self,
        module: ModuleId,
        address: u64,
        cfi: &CfiTables,
        budget: &mut u32,
    ) -> Result<Rule, NoRow> {
        let rule = match cfi.row(address, &mut self.context, budget) {
            Ok(Some(row)) => Rule::of(&row),
            Ok(None) => Rule::NoInfo,
            Err(NoRow::Malformed) => Rule::Malformed,
            // It says nothing of the code, so it is not remembered.
            Err(NoRow::Budget) => return Err(NoRow::Budget),
        };
        self.cache.put(module, address, rule);
        Ok(rule)
    }

    /// Turns the registers into those of the caller, by the unwind information for `code`. Returns
    /// how they were found; `None` if there is no information, and then they are as they were.
    #[inline]
    fn step(
        &mut self,
        code: &CodeAt<'_>,
        interrupted: bool,
        registers: &mut UserRegisters,
        stack: &mut StackReader<'_>,
        budget: &mut u32,
    ) -> Result<Option<FrameSource>, StopReason> {
        let Some(cfi) = code.cfi else {
            return Ok(None);
        };
        let bad = StopReason::BadUnwindInfo { ip: registers.ip() };
        let rule = self.rule(code.module, code.address, cfi, budget);
        match rule.map_err(|_| bad)? {
            Rule::Call(call) => {
                call.step(registers, stack)?;
                Ok(Some(FrameSource::Cfi))
            }
            Rule::Outermost => Err(StopReason::OutermostFrame),
            Rule::Malformed => Err(bad),
            Rule::Slow => {
                let row = cfi.row(code.address, &mut self.context, budget);
                let row = row.ok().flatten().ok_or(bad)?;
                row::step(&row, registers, stack, budget, interrupted).map(Some)
            }
            Rule::NoInfo if interrupted => Ok(None),
            Rule::NoInfo => {
                // What returns from a signal handler is never called: the handler's return address
                // is its first instruction. Not every C library has unwind information for it from
                // a byte earlier.
                let start = code.address.wrapping_add(1);
                let rule = self.rule(code.module, start, cfi, budget);
                if rule.map_err(|_| bad)? != Rule::Slow {
                    return Ok(None);
                }
                let row = cfi.row(start, &mut self.context, budget);
                let row = row.ok().flatten().ok_or(bad)?;
                if !row.signal {
                    return Ok(None);
                }
                row::step(&row, registers, stack, budget, false).map(Some)
            }
        }
    }
}

/// The state between two frames.
pub(super) struct Walk<'w, 's, C> {
    walker: &'w mut UserWalker,
    pub(super) code: &'w mut C,
    /// Of the frame that is next.
    pub(super) registers: UserRegisters,
    pub(super) stack: StackReader<'s>,
    /// How that frame was found.
    pub(super) source: FrameSource,
    pub(super) reliable: bool,
    progress: Progress,
    budget: u32,
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
        // A call can be the last instruction of a function, so that what follows is another's.
        let lookup = if interrupted { ip } else { ip.wrapping_sub(1) };
        let Some(code) = self.code.code_at(lookup) else {
            if !interrupted {
                return Err(StopReason::Unmapped { ip });
            }
            frames.push(frame);
            return self.leave_bad_jump();
        };
        frames.push(frame);

        let kind = code.kind;
        let mut registers = self.registers;
        let step = self.walker.step(
            &code,
            interrupted,
            &mut registers,
            &mut self.stack,
            &mut self.budget,
        )?;
        match step {
            Some(source) => self.go_to(registers, source),
            None => self.leave_unknown(kind),
        }
    }

    fn as_frame(&self) -> Frame {
        let sp = self.registers.sp();
        Frame {
            ip: self.registers.ip(),
            sp: match self.source {
                FrameSource::Scan => sp.wrapping_sub(8),
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

    /// Whether the code that returns to this address has unwind information for it.
    pub(super) fn has_rule(&mut self, return_address: u64) -> bool {
        let Some(code) = self.code.code_at(return_address.wrapping_sub(1)) else {
            return false;
        };
        let Some(cfi) = code.cfi else {
            return false;
        };
        let rule = self
            .walker
            .rule(code.module, code.address, cfi, &mut self.budget);
        matches!(rule, Ok(Rule::Call(_) | Rule::Slow | Rule::Outermost))
    }
}
