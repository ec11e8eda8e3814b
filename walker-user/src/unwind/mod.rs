//! The unwinder: captured bytes and tables in, frames and a stop reason out.
//!
//! Nothing here does I/O, allocates per frame, or trusts a captured word; a walk is bounded by
//! the bytes it was given. Getting the bytes is the job of `capture`, getting the tables that of
//! `kernel`, naming the addresses that of `symbolize`.

mod cursor;
mod frame_pointer;
pub mod kernel;
pub mod memory;
pub mod orc;
mod orc_text;
mod orc_walk;
mod scan;
pub mod start;
#[cfg(test)]
mod tests;
pub mod user;

use std::fmt;

use walker_common::StackKind;

/// Where a frame's address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameSource {
    /// The instruction pointer of the event itself.
    Ip,
    /// The return address of the switch away from a task that does not run.
    Switch,
    /// A return address found by an ORC entry.
    Orc,
    /// The interrupted address in registers that an ORC entry found on the stack.
    OrcRegs,
    /// A return address found through the frame pointer: code without ORC (BPF programs and
    /// trampolines), or a kernel that is built with frame pointers.
    FramePointer,
    /// The interrupted address in registers that an encoded frame pointer led to.
    FramePointerRegs,
    /// The caller of an interrupted retpoline thunk, which has no unwind information: known from
    /// what such a thunk does to the stack. The kernel's own unwinder ends there.
    Thunk,
    /// A word of the stack that looks like a return address.
    Scan,
    /// The registers with which user space entered the kernel, or the event's own if it
    /// interrupted user space.
    UserRegs,
    /// A return address found by a CFI row of registers and offsets.
    Cfi,
    /// A return address found by a CFI row with DWARF expressions.
    CfiExpression,
    /// The interrupted address in the registers of a signal frame, found by CFI.
    CfiSignal,
    /// Where a signal handler returns to: the first instruction of what ends it, which nobody called.
    SignalReturn,
    /// A return address found by following the code without unwind information to its return.
    Code,
    /// Where the program that was called by the event returns to: in the function that reported it.
    Caller,
}

impl FrameSource {
    /// A short name, as shown to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Switch => "switch",
            Self::Orc => "orc",
            Self::OrcRegs => "orc-regs",
            Self::FramePointer => "frame-pointer",
            Self::FramePointerRegs => "frame-pointer-regs",
            Self::Thunk => "thunk",
            Self::Scan => "scan",
            Self::UserRegs => "user-regs",
            Self::Cfi => "cfi",
            Self::CfiExpression => "cfi-expression",
            Self::CfiSignal => "cfi-signal",
            Self::SignalReturn => "signal-return",
            Self::Code => "code",
            Self::Caller => "caller",
        }
    }
}

/// One frame of a walk, leaf first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The interrupted address ([`FrameSource::Ip`], `*Regs`) or a return address (the rest).
    pub ip: u64,
    /// The stack pointer when this frame ran: its callee's CFA. For [`FrameSource::Scan`] the
    /// address of the word.
    pub sp: u64,
    /// The stack it ran on. A return address counts for the stack that holds it, as in an oops.
    pub stack: StackKind,
    /// How it was found.
    pub source: FrameSource,
    /// Whether the walk was exact up to here. A scanned frame is not, and is shown with a `?`.
    pub reliable: bool,
}

impl Frame {
    /// The address to look a symbol up with: the instruction itself where the frame was
    /// interrupted, one byte before the return address otherwise (a call can be the last
    /// instruction of a function).
    #[must_use]
    pub const fn lookup_address(&self) -> u64 {
        match self.source {
            FrameSource::Ip
            | FrameSource::OrcRegs
            | FrameSource::FramePointerRegs
            | FrameSource::UserRegs
            | FrameSource::CfiSignal
            | FrameSource::SignalReturn => self.ip,
            _ => self.ip.wrapping_sub(1),
        }
    }
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The event interrupted user mode: there is no kernel stack to walk.
    UserSample,
    /// Complete: the registers of the entry from user mode were reached.
    UserMode,
    /// Complete: the unwind tables mark this as the outermost frame (a kernel thread, or the idle
    /// task).
    EndOfStack,
    /// A pointer left every known stack.
    UnknownStack {
        /// The pointer.
        address: u64,
    },
    /// The chain led back to a stack that was left before.
    Loop {
        /// The kind of that stack.
        kind: StackKind,
    },
    /// The stack pointer did not move towards the end of the stack.
    NoProgress {
        /// The stack pointer that was not above its predecessor.
        sp: u64,
    },
    /// The bytes are on a known stack but not in the sample.
    MissingBytes {
        /// Where they would be.
        address: u64,
    },
    /// The unwind table says that this code cannot be unwound.
    NoUnwindInfo {
        /// The instruction.
        ip: u64,
    },
    /// The unwind rule needs a register that is not known here.
    MissingRegister {
        /// The instruction.
        ip: u64,
    },
    /// What should be a return address is not in any code, or no call is before it.
    BadReturnAddress {
        /// The word found.
        ip: u64,
    },
    /// Complete: the outermost frame of a thread in user space was reached: its return address is
    /// undefined or zero, or its frame pointer is zero.
    OutermostFrame,
    /// The copy of the user stack ended before the walk did.
    Truncated {
        /// How many bytes had been copied.
        bytes: u32,
    },
    /// Nothing of the user stack could be read: a process that ends gives its memory back before
    /// the rest of it is cleared away.
    UnreadableStack,
    /// The registers are those of a program that was just replaced by another (`execve`), whose
    /// stack is gone.
    Replaced,
    /// The code is in no mapping of the process.
    Unmapped {
        /// The instruction.
        ip: u64,
    },
    /// The unwind information for this code is malformed, or asks for more than is allowed.
    BadUnwindInfo {
        /// The instruction.
        ip: u64,
    },
    /// The function switches stacks, and its unwind information does not say how.
    StackSwitch {
        /// The instruction.
        ip: u64,
    },
    /// The function that reported the event was not found around the program's context.
    NoCaller {
        /// The address of the context.
        context: u64,
    },
}

impl StopReason {
    /// The fixed names by number. Recordings hold the number, so a new reason goes to the end.
    pub const NAMES: [&'static str; 18] = [
        "user-sample",
        "user-mode",
        "end-of-stack",
        "unknown-stack",
        "loop",
        "no-progress",
        "missing-bytes",
        "no-unwind-info",
        "missing-register",
        "bad-return-address",
        "outermost-frame",
        "truncated",
        "unreadable-stack",
        "program-replaced",
        "unmapped",
        "bad-unwind-info",
        "stack-switch",
        "no-caller",
    ];

    /// Its number in [`StopReason::NAMES`].
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::UserSample => 0,
            Self::UserMode => 1,
            Self::EndOfStack => 2,
            Self::UnknownStack { .. } => 3,
            Self::Loop { .. } => 4,
            Self::NoProgress { .. } => 5,
            Self::MissingBytes { .. } => 6,
            Self::NoUnwindInfo { .. } => 7,
            Self::MissingRegister { .. } => 8,
            Self::BadReturnAddress { .. } => 9,
            Self::OutermostFrame => 10,
            Self::Truncated { .. } => 11,
            Self::UnreadableStack => 12,
            Self::Replaced => 13,
            Self::Unmapped { .. } => 14,
            Self::BadUnwindInfo { .. } => 15,
            Self::StackSwitch { .. } => 16,
            Self::NoCaller { .. } => 17,
        }
    }

    /// The number of the reason with this name; one past them all if there is none.
    #[must_use]
    pub fn number_of(name: &str) -> u8 {
        let found = Self::NAMES.iter().position(|known| *known == name);
        found.unwrap_or(Self::NAMES.len()) as u8
    }

    /// Whether the walk reached the outermost frame.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        Self::completes(self.number())
    }

    /// Whether the reason with this number is that the outermost frame was reached.
    #[must_use]
    pub const fn completes(number: u8) -> bool {
        number == Self::UserSample.number()
            || number == Self::UserMode.number()
            || number == Self::EndOfStack.number()
            || number == Self::OutermostFrame.number()
    }

    /// A fixed name for counting.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.number() as usize]
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UserSample => write!(f, "interrupted user mode"),
            Self::UserMode => write!(f, "reached user mode"),
            Self::EndOfStack => write!(f, "reached the end-of-stack marker"),
            Self::UnknownStack { address } => {
                write!(f, "left all known stacks at {address:#x}")
            }
            Self::Loop { kind } => write!(f, "came back to the {} stack", kind.name()),
            Self::NoProgress { sp } => {
                write!(
                    f,
                    "stack pointer {sp:#x} did not move towards the stack's end"
                )
            }
            Self::MissingBytes { address } => {
                write!(f, "the bytes at {address:#x} were not captured")
            }
            Self::NoUnwindInfo { ip } => write!(f, "no unwind information for {ip:#x}"),
            Self::MissingRegister { ip } => {
                write!(f, "a register needed to unwind {ip:#x} is not known")
            }
            Self::BadReturnAddress { ip } => {
                write!(f, "return address {ip:#x} is in no code, or behind no call")
            }
            Self::OutermostFrame => write!(f, "reached the outermost frame"),
            Self::Truncated { bytes } => {
                write!(f, "truncated: {bytes} bytes of the user stack were copied")
            }
            Self::UnreadableStack => write!(f, "the user stack could not be read"),
            Self::Replaced => write!(f, "the program was being replaced by another"),
            Self::Unmapped { ip } => write!(f, "{ip:#x} is in no mapping of the process"),
            Self::BadUnwindInfo { ip } => {
                write!(f, "the unwind information for {ip:#x} is malformed")
            }
            Self::StackSwitch { ip } => {
                write!(f, "the function at {ip:#x} switches stacks")
            }
            Self::NoCaller { context } => {
                write!(f, "what reported the event was not found at {context:#x}")
            }
        }
    }
}
