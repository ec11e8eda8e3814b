//! The way out of a function that has no unwind information: its code is followed from where it
//! is, whatever way it may take, to where it returns.
//!
//! The answer is a rule only if all ways that were followed to a return agree on where the return
//! address is. What single instructions do is the job of `machine`, what to do without an answer
//! that of `fallback`.

use std::hash::{BuildHasher as _, BuildHasherDefault};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
};
use rustc_hash::FxHasher;

use super::{
    machine::{End, Machine},
    rule::{CallRule, LOST},
    walk::{CodeKind, UserCode},
};

/// Most instructions on one way.
const MAX_PATH: u32 = 200;
/// Most instructions altogether, in code whose answer is remembered.
const MAX_INSTRUCTIONS: u32 = 2000;
/// The same where it is not.
const MAX_JIT_INSTRUCTIONS: u32 = 300;
/// Most ways that wait to be followed.
const MAX_WAYS: usize = 48;
/// Most places and states that are remembered, so as not to follow a way twice.
const MAX_SEEN: usize = 256;
/// What an instruction costs, in the units of a walk's budget.
const INSTRUCTION_COST: u32 = 32;
/// How much code is read at once.
const CHUNK: usize = 128;
/// Longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// What the code says of the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It returns by this rule.
    Returns(CallRule),
    /// There is none: all ways were followed, and none returns.
    Never,
    /// There is none: all ways leave the program or the thread.
    Exits,
    /// It cannot be told.
    Unknown,
}

/// A way to be followed.
#[derive(Debug, Clone, Copy)]
struct Way {
    address: u64,
    /// How many instructions may follow.
    left: u32,
    machine: Machine,
}

/// Finds ways out. It is kept for the memory it has.
pub(super) struct ExitFinder {
    infos: InstructionInfoFactory,
    ways: Vec<Way>,
    seen: Vec<(u64, u64)>,
}

impl std::fmt::Debug for ExitFinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExitFinder").finish_non_exhaustive()
    }
}

impl ExitFinder {
    pub(super) fn new() -> Self {
        Self {
            infos: InstructionInfoFactory::new(),
            ways: Vec::with_capacity(MAX_WAYS),
            seen: Vec::with_capacity(MAX_SEEN),
        }
    }

    /// The way out from `address`: that of an interrupted instruction, or one that is `returned`
    /// to. Every instruction is paid for from `budget`.
    pub(super) fn find(
        &mut self,
        code: &mut impl UserCode,
        address: u64,
        returned: bool,
        kind: CodeKind,
        budget: &mut u32,
    ) -> Exit {
        let mut left = match kind {
            CodeKind::Object => MAX_INSTRUCTIONS,
            CodeKind::Jit => MAX_JIT_INSTRUCTIONS,
        };
        left = left.min(*budget / INSTRUCTION_COST);
        let all = left;
        self.ways.clear();
        self.seen.clear();
        self.ways.push(Way {
            address,
            left: MAX_PATH,
            machine: Machine::new(returned),
        });
        let mut answer = None;
        let mut all_followed = true;
        let mut all_exit = true;
        let mut next = 0;
        // The shortest ways come first.
        while let Some(way) = self.ways.get(next) {
            next += 1;
            match self.follow(code, *way, &mut left) {
                End::Returns(rule) => match merge(answer, rule) {
                    Some(merged) => answer = Some(merged),
                    None => {
                        answer = None;
                        all_followed = false;
                        break;
                    }
                },
                End::Exits => {}
                End::Never => all_exit = false,
                End::Unknown => all_followed = false,
            }
        }
        *budget -= (all - left) * INSTRUCTION_COST;
        match answer {
            Some(rule) => Exit::Returns(rule),
            None if all_followed && all_exit => Exit::Exits,
            None if all_followed => Exit::Never,
            None => Exit::Unknown,
        }
    }

    /// Follows one way to its end, and notes the others that begin at its branches.
    fn follow(&mut self, code: &mut impl UserCode, mut way: Way, left: &mut u32) -> End {
        let mut bytes = [0; CHUNK];
        let mut instruction = Instruction::default();
        loop {
            let len = code.code_bytes(way.address, &mut bytes);
            let known = bytes.get(..len).unwrap_or_default();
            let mut decoder = Decoder::with_ip(64, known, way.address, DecoderOptions::NONE);
            loop {
                // The end of a chunk may cut an instruction.
                let rest = len.saturating_sub(decoder.position());
                if rest < MAX_INSTRUCTION && len == CHUNK {
                    way.address = decoder.ip();
                    break;
                }
                if way.left == 0 || *left == 0 || !decoder.can_decode() {
                    return End::Unknown;
                }
                way.left -= 1;
                *left -= 1;
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid() {
                    return End::Unknown;
                }
                match instruction.flow_control() {
                    FlowControl::UnconditionalBranch if instruction.is_jmp_short_or_near() => {
                        way.machine.pass_jump();
                        way.address = instruction.near_branch_target();
                        if self.was_seen(&way) {
                            return End::Never;
                        }
                        break;
                    }
                    FlowControl::IndirectBranch => return way.machine.jump(&instruction),
                    FlowControl::ConditionalBranch => {
                        way.machine.pass_jump();
                        let taken = Way {
                            address: instruction.near_branch_target(),
                            ..way
                        };
                        if !self.was_seen(&taken) {
                            if self.ways.len() >= MAX_WAYS {
                                return End::Unknown;
                            }
                            self.ways.push(taken);
                        }
                        way.address = instruction.next_ip();
                        if self.was_seen(&way) {
                            return End::Never;
                        }
                    }
                    FlowControl::UnconditionalBranch | FlowControl::XbeginXabortXend => {
                        return End::Unknown;
                    }
                    _ => {
                        if let Err(end) = way.machine.run(&instruction, &mut self.infos) {
                            return end;
                        }
                    }
                }
            }
        }
    }

    /// Whether a way in this state came by here, which it then need not again.
    fn was_seen(&mut self, way: &Way) -> bool {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(way.machine);
        let state = (way.address, hash);
        if self.seen.contains(&state) {
            return true;
        }
        if self.seen.len() < MAX_SEEN {
            self.seen.push(state);
        }
        false
    }
}

/// What two ways out have in common; `None` if they do not lead to the same place.
fn merge(known: Option<CallRule>, other: CallRule) -> Option<CallRule> {
    let Some(mut rule) = known else {
        return Some(other);
    };
    let same = rule.cfa_offset == other.cfa_offset
        && rule.frame_pointer == other.frame_pointer
        && rule.popped == other.popped;
    for (slot, other) in rule.slots.iter_mut().zip(other.slots) {
        if *slot != other {
            *slot = LOST;
        }
    }
    same.then_some(rule)
}

/// Whether the code at an address is what the C libraries give the kernel to return from signal
/// handlers to: `rt_sigreturn` and nothing else.
pub(super) fn is_restorer(code: &mut impl UserCode, address: u64) -> bool {
    const RT_SIGRETURN: u64 = 15;
    let mut bytes = [0; 9];
    let len = code.code_bytes(address, &mut bytes);
    let mut decoder = Decoder::with_ip(
        64,
        bytes.get(..len).unwrap_or_default(),
        address,
        DecoderOptions::NONE,
    );
    let number = decoder.decode();
    let call = decoder.decode();
    number.mnemonic() == Mnemonic::Mov
        && number.op0_register().full_register() == iced_x86::Register::RAX
        && matches!(
            number.op1_kind(),
            iced_x86::OpKind::Immediate32 | iced_x86::OpKind::Immediate32to64
        )
        && number.immediate(1) == RT_SIGRETURN
        && call.mnemonic() == Mnemonic::Syscall
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;
