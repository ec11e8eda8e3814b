//! A kernel in a core: its memory and its symbols where they are. What everything else that is
//! found out about it starts from.

use super::{CoreError, identity::Identity, identity::add, memory::CoreMemory, symbols::Symbols};
use crate::{classify::WordSize, kernel::memory::ReadError, unwind::kernel::TextRange};

/// Symbols below are offsets into the per-CPU area, which KASLR does not move: 64-bit kernels
/// before 6.15 link it at 0.
const FIRST_ADDRESS: u64 = 1 << 28;

/// The kernel, and where it is.
#[derive(Debug)]
pub(super) struct CoreKernel {
    /// Its memory.
    pub memory: CoreMemory,
    /// Its symbols, at the addresses of their file.
    pub symbols: Symbols,
    /// What is added to those, modulo the address space.
    pub slide: u64,
    /// The text of `linux_banner`.
    pub banner: String,
}

impl CoreKernel {
    /// The kernel that was found.
    #[must_use]
    pub(super) fn new(identity: Identity, symbols: Symbols) -> Self {
        let Identity {
            memory,
            slide,
            banner,
        } = identity;
        Self {
            memory,
            symbols,
            slide,
            banner,
        }
    }

    /// The size of its words.
    #[must_use]
    pub(super) const fn word(&self) -> WordSize {
        self.memory.word()
    }

    /// Where a symbol is in memory; for a per-CPU variable, what is added to the CPU's offset.
    #[must_use]
    pub(super) fn address(&self, name: &'static str) -> Option<u64> {
        let address = self.symbols.address(name)?;
        Some(match address < FIRST_ADDRESS {
            true => address,
            false => add(address, self.slide, self.word()),
        })
    }

    /// The same for a symbol that is needed.
    ///
    /// # Errors
    /// If it is not among the symbols.
    pub(super) fn required(&self, name: &'static str) -> Result<u64, CoreError> {
        self.address(name).ok_or(CoreError::MissingSymbol(name))
    }

    /// The address of the symbols' file for one in memory.
    #[must_use]
    pub(super) fn link_address(&self, address: u64) -> u64 {
        add(address, self.slide.wrapping_neg(), self.word())
    }

    /// The kernel image's text.
    ///
    /// # Errors
    /// If the symbols do not say where it is.
    pub(super) fn text(&self) -> Result<TextRange, CoreError> {
        let (begin, end) = (self.required("_stext")?, self.required("_etext")?);
        match begin < end {
            true => Ok(TextRange { begin, end }),
            false => Err(CoreError::MissingSymbol("_etext")),
        }
    }

    /// The text that is used while the kernel starts.
    #[must_use]
    pub(super) fn init_text(&self) -> Option<TextRange> {
        let (begin, end) = (self.address("_sinittext")?, self.address("_einittext")?);
        (begin < end).then_some(TextRange { begin, end })
    }

    /// Whether an address is in the kernel image's text, which the symbols name.
    #[must_use]
    pub(super) fn is_image_text(&self, address: u64) -> bool {
        let holds = |text: TextRange| text.holds(address);
        self.text().is_ok_and(holds) || self.init_text().is_some_and(holds)
    }

    /// Reads a word.
    ///
    /// # Errors
    /// If it is not in the core.
    pub(super) fn word_at(&self, address: u64) -> Result<u64, ReadError> {
        self.memory.word_at(address)
    }

    /// Reads 32 bits.
    ///
    /// # Errors
    /// If they are not in the core.
    pub(super) fn u32_at(&self, address: u64) -> Result<u32, ReadError> {
        let mut word = [0; 4];
        self.memory.fill(address, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// Reads a word at a symbol's address.
    ///
    /// # Errors
    /// If there is no such symbol, or the word is not in the core.
    pub(super) fn word_of(&self, name: &'static str, offset: u64) -> Result<u64, CoreError> {
        let address = self.required(name)?.wrapping_add(offset);
        self.word_at(address)
            .map_err(|error| CoreError::Memory { what: name, error })
    }
}
