//! What a lookup says of a stack, and how its words are read.
//!
//! Not the lookup itself: that is [`StackSet`](super::StackSet).

use walker_common::StackKind;

/// The size of a stack word, which is that of a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordSize {
    /// 32-bit kernels.
    Four,
    /// 64-bit kernels.
    Eight,
}

impl WordSize {
    /// Bytes of a word.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// The bytes a lookup or a walk may look at.
pub trait Memory {
    /// The little-endian word at `addr`, zero-extended; `None` unless all of its bytes are there.
    /// `addr` can be any number and need not be aligned.
    fn read_word(&self, addr: u64, size: WordSize) -> Option<u64>;
}

/// A stack that holds some address: the kernel's `struct stack_info`
/// (`arch/x86/include/asm/stacktrace.h`).
///
/// Unlike there, it is only ever returned filled in, so no caller can go on with an old one after
/// a lookup that found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackInfo {
    /// The kind of stack.
    pub kind: StackKind,
    /// Lowest address.
    pub begin: u64,
    /// First address past the stack. Stacks grow down, so this is where it starts out.
    pub end: u64,
    /// Where the interrupted context's stack pointer was when it switched to this stack. `None` if
    /// this kind of stack keeps no such pointer or its bytes are not there. It is a captured word:
    /// it can be anything.
    pub next_sp: Option<u64>,
    /// Address of the word that `next_sp` comes from, whether or not it could be read. `None` if
    /// it does not come from this stack.
    pub next_sp_slot: Option<u64>,
}

impl StackInfo {
    /// Whether `len` bytes at `addr` are all on this stack.
    ///
    /// The conditions are those of the kernel's `on_stack()`: nothing is on a stack of unknown
    /// kind, and no bytes (`len` 0) are on it only strictly above its begin. Where the kernel
    /// relies on wrapping, a sum past the address space is refused outright.
    #[inline]
    #[must_use]
    pub fn on_stack(&self, addr: u64, len: u64) -> bool {
        let Some(past) = addr.checked_add(len) else {
            return false;
        };
        self.kind != StackKind::Unknown
            && addr >= self.begin
            && addr < self.end
            && past > self.begin
            && past <= self.end
    }
}
