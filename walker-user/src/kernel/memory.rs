//! Reading kernel memory, whatever provides it.

use thiserror::Error;
use walker_common::maps::CpuFacts;

/// A read of kernel memory that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read {length} bytes of kernel memory at {address:#x}: {reason}")]
pub struct ReadError {
    /// First byte wanted.
    pub address: u64,
    /// Bytes wanted.
    pub length: usize,
    /// Why not.
    pub reason: String,
}

/// A way to ask a CPU of the running kernel about itself.
pub trait CpuProbe: KernelMemory {
    /// What the CPU with this number says of itself; `None` if it is offline.
    ///
    /// # Errors
    /// If CPUs cannot be asked at all.
    fn cpu_facts(&mut self, cpu: u32) -> anyhow::Result<Option<CpuFacts>>;
}

/// A source of kernel memory.
pub trait KernelMemory {
    /// Reads exactly `length` bytes at `address`.
    ///
    /// # Errors
    /// If any of the bytes cannot be read.
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError>;

    /// Reads a little-endian 64-bit word.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    fn read_u64(&mut self, address: u64) -> Result<u64, ReadError> {
        let bytes = self.read(address, 8)?;
        let short = || ReadError {
            address,
            length: 8,
            reason: "short read".to_owned(),
        };
        bytes
            .first_chunk()
            .map(|word| u64::from_le_bytes(*word))
            .ok_or_else(short)
    }

    /// Reads a little-endian 32-bit word.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    fn read_u32(&mut self, address: u64) -> Result<u32, ReadError> {
        let bytes = self.read(address, 4)?;
        let short = || ReadError {
            address,
            length: 4,
            reason: "short read".to_owned(),
        };
        bytes
            .first_chunk()
            .map(|word| u32::from_le_bytes(*word))
            .ok_or_else(short)
    }
}
