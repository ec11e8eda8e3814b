//! What some instructions do to the stack pointer and to the registers that a caller wants back,
//! without knowing what is in either: every value is told by where it came from.
//!
//! What is assumed of the code is what compilers and people keep to: a call returns with the stack
//! pointer and the callee-saved registers as they were, and nothing but the function's own pushes
//! and stores through the stack or frame pointer writes its frame. Which instructions are run is
//! decided by `exit`.

use iced_x86::{
    Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

use super::{
    memory::{Memory, RBP, RSP, TooMany, Value, shifted},
    rule::{CallRule, LOST, SAVED},
};

/// Numbers of registers as instructions encode them.
const RCX: usize = 1;
const R11: usize = 11;
const REGISTERS: usize = 16;
/// The callee-saved registers, in the order of a rule's slots.
const CALLEE_SAVED: [usize; SAVED] = [RBP, 3, 12, 13, 14, 15];

/// Why a path of instructions ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It returns to the caller, by this rule.
    Returns(CallRule),
    /// It never returns, or this is the next function.
    Never,
    /// It leaves the program or the thread by a system call.
    Exits,
    /// It does what cannot be followed.
    Unknown,
}

impl From<TooMany> for End {
    fn from(_: TooMany) -> Self {
        Self::Unknown
    }
}

/// The registers and the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Machine {
    registers: [Value; REGISTERS],
    memory: Memory,
    /// Whether a call was made with the stack pointer, modulo 16, where it was in the beginning,
    /// and 8 bytes off.
    calls: [bool; 2],
    /// Whether the last instruction was a call.
    after_call: bool,
    /// Whether it gave back a part of the stack.
    released: bool,
    /// Whether it was a system call.
    after_system_call: bool,
}

impl Machine {
    /// In the beginning; right behind a call if it is `returned` to.
    pub(super) fn new(returned: bool) -> Self {
        Self {
            registers: std::array::from_fn(|number| Value::Register { number, offset: 0 }),
            memory: Memory::default(),
            calls: [returned, false],
            after_call: returned,
            released: false,
            after_system_call: false,
        }
    }

    /// Runs an instruction, other than jumps.
    pub(super) fn run(
        &mut self,
        instruction: &Instruction,
        infos: &mut InstructionInfoFactory,
    ) -> Result<(), End> {
        let after_call = std::mem::take(&mut self.after_call);
        let after_system_call = std::mem::take(&mut self.after_system_call);
        self.released = false;
        match instruction.mnemonic() {
            // Compilers pad between functions, and hardly ever behind a call that returns.
            Mnemonic::Nop | Mnemonic::Endbr64 if after_call => return Err(End::Never),
            // No user code may halt: it stands where a system call does not return.
            Mnemonic::Hlt if after_system_call => return Err(End::Exits),
            Mnemonic::Hlt | Mnemonic::Int3 | Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => {
                return Err(End::Never);
            }
            Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Cmp | Mnemonic::Test => {}
            Mnemonic::Push => self.push(instruction)?,
            Mnemonic::Pop => self.pop(instruction)?,
            Mnemonic::Leave => {
                let frame = self.registers[RBP];
                self.registers[RBP] = self.memory.load(frame);
                self.registers[RSP] = shifted(frame, 8);
                self.released = true;
            }
            Mnemonic::Mov if is_whole_move(instruction) => self.move_word(instruction)?,
            Mnemonic::Lea if is_register(instruction, 0) => {
                let value = self.address(instruction);
                self.write(instruction.op0_register(), value);
                self.released = instruction.op0_register() == Register::RSP;
            }
            Mnemonic::Add | Mnemonic::Sub if is_register(instruction, 0) => {
                let register = instruction.op0_register();
                let value = match immediate(instruction) {
                    Some(by) if instruction.mnemonic() == Mnemonic::Add => {
                        shifted(self.read(register), by)
                    }
                    Some(by) => shifted(self.read(register), by.wrapping_neg()),
                    None => Value::Unknown,
                };
                self.write(register, value);
                self.released =
                    register == Register::RSP && instruction.mnemonic() == Mnemonic::Add;
            }
            Mnemonic::Call => self.call(instruction)?,
            Mnemonic::Syscall => {
                self.registers[0] = Value::Unknown;
                self.registers[RCX] = Value::Unknown;
                self.registers[R11] = Value::Unknown;
                self.after_system_call = true;
            }
            Mnemonic::Ret => return Err(self.leave(instruction.immediate16())),
            Mnemonic::Enter | Mnemonic::Retf | Mnemonic::Iretq | Mnemonic::Sysretq => {
                return Err(End::Unknown);
            }
            _ => self.other(instruction, infos)?,
        }
        Ok(())
    }

    /// Goes through a jump.
    pub(super) fn pass_jump(&mut self) {
        self.after_call = false;
        self.released = false;
        self.after_system_call = false;
    }

    /// How it ends if it jumps to where `jump` reads from, which cannot be followed.
    pub(super) fn jump(&self, jump: &Instruction) -> End {
        // Through a fixed place goes what a linker or a compiler makes to get into another
        // function, and what is not in the middle of one. Else it could be a `switch`, if the
        // stack was not given back just before.
        let fixed = jump.op0_kind() == OpKind::Memory && jump.memory_base() == Register::RIP;
        if fixed || self.released {
            self.leave(0)
        } else {
            End::Unknown
        }
    }

    /// How it ends at a return that takes `popped` bytes off the stack besides the address.
    fn leave(&self, popped: u16) -> End {
        let Value::Register {
            number: base,
            offset,
        } = self.registers[RSP]
        else {
            return End::Unknown;
        };
        let frame_pointer = match base {
            RSP => false,
            RBP => true,
            _ => return End::Unknown,
        };
        let untouched = Value::Memory {
            number: base,
            offset,
        };
        if self.memory.load(self.registers[RSP]) != untouched {
            return End::Unknown;
        }
        if !frame_pointer && self.calls[usize::from(offset.rem_euclid(16) >= 8)] {
            // Where a function returns the stack pointer is 8 bytes off from where it makes
            // calls. So the call was one that does not return, and this is what follows.
            return End::Never;
        }
        let cfa = offset.wrapping_add(8);
        let Ok(cfa_offset) = i32::try_from(cfa) else {
            return End::Unknown;
        };
        let (0, Ok(popped)) = (popped % 8, u8::try_from(popped / 8)) else {
            return End::Unknown;
        };
        let slots = CALLEE_SAVED.map(|saved| match self.registers[saved] {
            Value::Register { number, offset: 0 } if number == saved => 0,
            Value::Memory { number, offset } if number == base => {
                let words = offset.wrapping_sub(cfa) / 8;
                let words = i8::try_from(words).ok().filter(|words| *words < 0);
                words.unwrap_or(LOST)
            }
            _ => LOST,
        });
        End::Returns(CallRule {
            cfa_offset,
            frame_pointer,
            popped,
            slots,
        })
    }

    fn push(&mut self, push: &Instruction) -> Result<(), End> {
        let value = if is_register(push, 0) {
            self.read(push.op0_register())
        } else {
            Value::Unknown
        };
        let by = i64::from(push.stack_pointer_increment());
        self.registers[RSP] = shifted(self.registers[RSP], by);
        let value = if by == -8 { value } else { Value::Unknown };
        Ok(self.memory.store(self.registers[RSP], 8, value)?)
    }

    fn pop(&mut self, pop: &Instruction) -> Result<(), End> {
        let from = self.registers[RSP];
        let by = i64::from(pop.stack_pointer_increment());
        self.registers[RSP] = shifted(from, by);
        self.released = true;
        if is_register(pop, 0) {
            let value = self.memory.load(from);
            self.write(pop.op0_register(), value);
            return Ok(());
        }
        if pop.op0_kind() == OpKind::Memory {
            return Ok(self.memory.store(self.address(pop), 8, Value::Unknown)?);
        }
        self.write(pop.op0_register(), Value::Unknown);
        Ok(())
    }

    fn move_word(&mut self, mov: &Instruction) -> Result<(), End> {
        if mov.op0_kind() == OpKind::Memory {
            let value = self.read(mov.op1_register());
            return Ok(self.memory.store(self.address(mov), 8, value)?);
        }
        let value = if mov.op1_kind() == OpKind::Memory {
            self.memory.load(self.address(mov))
        } else {
            self.read(mov.op1_register())
        };
        self.write(mov.op0_register(), value);
        Ok(())
    }

    fn call(&mut self, call: &Instruction) -> Result<(), End> {
        let near = call.is_call_near();
        if near && call.near_branch_target() == call.next_ip() {
            // This only asks where it is.
            self.registers[RSP] = shifted(self.registers[RSP], -8);
            return Ok(self.memory.store(self.registers[RSP], 8, Value::Unknown)?);
        }
        if !near && !call.is_call_near_indirect() {
            return Err(End::Unknown);
        }
        for number in 0..REGISTERS {
            if number != RSP && !CALLEE_SAVED.contains(&number) {
                self.registers[number] = Value::Unknown;
            }
        }
        if let Value::Register { number, offset } = self.registers[RSP] {
            if number == RSP {
                self.calls[usize::from(offset.rem_euclid(16) >= 8)] = true;
            }
            self.memory.forget_below(number, offset);
        }
        self.after_call = true;
        Ok(())
    }

    /// Forgets whatever an instruction writes.
    fn other(
        &mut self,
        instruction: &Instruction,
        infos: &mut InstructionInfoFactory,
    ) -> Result<(), End> {
        let info = infos.info(instruction);
        for memory in info.used_memory() {
            if writes(memory.access()) {
                let bytes = memory.memory_size().size();
                self.memory
                    .store(self.used(memory), bytes, Value::Unknown)?;
            }
        }
        for register in info.used_registers() {
            if writes(register.access()) {
                self.write(register.register(), Value::Unknown);
            }
        }
        Ok(())
    }

    fn read(&self, register: Register) -> Value {
        if register.is_gpr64() {
            self.registers[register.number() % REGISTERS]
        } else {
            Value::Unknown
        }
    }

    fn write(&mut self, register: Register, value: Value) {
        if !register.is_gpr() {
            return;
        }
        let value = if register.is_gpr64() {
            value
        } else {
            Value::Unknown
        };
        self.registers[register.full_register().number() % REGISTERS] = value;
    }

    /// Where an instruction's operand is in memory.
    fn address(&self, instruction: &Instruction) -> Value {
        let plain = instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None;
        if plain {
            let displacement = instruction.memory_displacement64();
            shifted(
                self.read(instruction.memory_base()),
                displacement.cast_signed(),
            )
        } else {
            Value::Unknown
        }
    }

    fn used(&self, memory: &UsedMemory) -> Value {
        let plain = memory.index() == Register::None
            && !matches!(memory.segment(), Register::FS | Register::GS);
        if plain {
            let displacement = memory.displacement().cast_signed();
            shifted(self.read(memory.base()), displacement)
        } else {
            Value::Unknown
        }
    }
}

fn is_register(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_count() > operand
        && instruction.op_kind(operand) == OpKind::Register
        && instruction.op_register(operand).is_gpr64()
}

/// Whether this moves 64 bits between registers and memory.
fn is_whole_move(mov: &Instruction) -> bool {
    let memory = |operand| mov.op_kind(operand) == OpKind::Memory;
    let [to, from] = [is_register(mov, 0), is_register(mov, 1)];
    to && (from || memory(1)) || memory(0) && from
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    match instruction.op1_kind() {
        OpKind::Immediate8to64 => Some(instruction.immediate8to64()),
        OpKind::Immediate32to64 => Some(instruction.immediate32to64()),
        _ => None,
    }
}

fn writes(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}
