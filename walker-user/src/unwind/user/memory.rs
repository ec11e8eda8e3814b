//! What followed code left in memory: words of its own frame, told by where they came from.
//!
//! Memory is only known through what the stack pointer and the frame pointer held in the beginning;
//! the two are taken for different places.

/// Numbers of registers as instructions encode them.
pub(super) const RSP: usize = 4;
pub(super) const RBP: usize = 5;

/// How many stores of known values are remembered.
const MAX_STORES: usize = 24;

/// There are more stores than are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// What a register or a word of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Unknown,
    /// What this register held in the beginning, and some more.
    Register {
        number: usize,
        offset: i64,
    },
    /// What was in memory in the beginning, where a register pointed to.
    Memory {
        number: usize,
        offset: i64,
    },
}

/// Where a word is: from what a register held in the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    number: usize,
    offset: i64,
}

/// The words that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Memory {
    stores: [Option<(Slot, Value)>; MAX_STORES],
    /// Words that were overwritten, from where the stack pointer was on.
    above_sp: u64,
    /// The same around where the frame pointer was.
    around_bp: u64,
}

impl Memory {
    /// Forgets what is below this, and what a callee therefore may write to.
    pub(super) fn forget_below(&mut self, number: usize, offset: i64) {
        for store in &mut self.stores {
            store.take_if(|(slot, _)| slot.number == number && slot.offset < offset);
        }
    }

    /// The word at an address.
    pub(super) fn load(&self, address: Value) -> Value {
        let Value::Register { number, offset } = address else {
            return Value::Unknown;
        };
        let slot = Slot { number, offset };
        let stored = self.stores.iter().flatten().find(|(at, _)| *at == slot);
        if let Some((_, value)) = stored {
            return *value;
        }
        // Below the stack pointer is nothing that lasts.
        let lasts = offset % 8 == 0 && (number == RBP || number == RSP && offset >= 0);
        if !lasts || self.is_overwritten(slot) {
            return Value::Unknown;
        }
        Value::Memory { number, offset }
    }

    /// Puts a value of some bytes at an address.
    pub(super) fn store(
        &mut self,
        address: Value,
        bytes: usize,
        value: Value,
    ) -> Result<(), TooMany> {
        let Value::Register { number, offset } = address else {
            return Ok(());
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).clamp(1, 64);
        let end = offset.wrapping_add(bytes);
        for store in &mut self.stores {
            store.take_if(|(slot, _)| {
                slot.number == number && slot.offset < end && offset < slot.offset.saturating_add(8)
            });
        }
        let mut word = offset.wrapping_sub(offset.rem_euclid(8));
        while word < end {
            self.overwrite(Slot {
                number,
                offset: word,
            });
            word = word.saturating_add(8);
        }
        if value == Value::Unknown {
            return Ok(());
        }
        let free = self.stores.iter_mut().find(|store| store.is_none());
        *free.ok_or(TooMany)? = Some((Slot { number, offset }, value));
        Ok(())
    }

    fn is_overwritten(&self, slot: Slot) -> bool {
        match (slot.number, bit(slot)) {
            (RSP, Some(bit)) => self.above_sp & bit != 0,
            (RBP, Some(bit)) => self.around_bp & bit != 0,
            _ => false,
        }
    }

    fn overwrite(&mut self, slot: Slot) {
        match (slot.number, bit(slot)) {
            (RSP, Some(bit)) => self.above_sp |= bit,
            (RBP, Some(bit)) => self.around_bp |= bit,
            _ => {}
        }
    }
}

/// The bit for a word in the masks of those that were overwritten. The words that are further away
/// than there are bits are a function's variables.
fn bit(slot: Slot) -> Option<u64> {
    let first = if slot.number == RBP { -32 } else { 0 };
    let index = (slot.offset / 8).checked_sub(first)?;
    1_u64.checked_shl(u32::try_from(index).ok()?)
}

/// A value and some more.
pub(super) fn shifted(value: Value, by: i64) -> Value {
    match value {
        Value::Register { number, offset } => Value::Register {
            number,
            offset: offset.wrapping_add(by),
        },
        _ => Value::Unknown,
    }
}
