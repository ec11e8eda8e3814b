//! A record of the ring buffer, checked against its real length before anything in it is used.

use std::borrow::Cow;

use thiserror::Error;
use walker_common::{
    StackKind,
    wire::{
        FLAG_NO_CPU_TABLE, FLAG_USER_MODE, FLAG_WAIT_END, MAX_SEGMENTS, REGISTER_BYTES, Registers,
        SEGMENT_CUT_BY_BUDGET, SampleHeader, SegmentHeader, SegmentStatus, Start, WIRE_VERSION,
        WaitEnd,
    },
};
use zerocopy::FromBytes as _;

use crate::unwind::memory::{SampleMemory, Segment};

/// Why bytes are not a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Shorter than its header says or than a header is.
    #[error("sample record of {have} bytes is shorter than the {want} it should have")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// Written by another version of the BPF object.
    #[error("sample record has layout version {0}, this program reads {WIRE_VERSION}")]
    Version(u16),
    /// A count, kind, status or length that no writer produces.
    #[error("sample record has an invalid {0}")]
    Invalid(&'static str),
}

/// A name up to its first zero.
fn unpadded(name: &[u8; 16]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The text of a name as records have it, zero padded.
pub(crate) fn name_text(name: &[u8; 16]) -> Cow<'_, str> {
    String::from_utf8_lossy(unpadded(name))
}

/// One captured stack of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedSegment<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// Bytes from there to the end of the stack.
    pub length: u32,
    /// What the capture took the stack for.
    pub kind: StackKind,
    /// What became of it.
    pub status: SegmentStatus,
    /// The bytes; empty unless `status` is `Captured`.
    pub bytes: &'a [u8],
}

/// The copied part of a user stack.
#[derive(Debug, Clone, Copy)]
pub struct UserStackCopy<'a> {
    /// From the red zone below the stack pointer on.
    pub segment: Segment<'a>,
    /// There was more of it than the process's budget.
    pub cut_by_budget: bool,
}

/// A parsed record.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is a sample, and there is one at a time"
)]
pub enum Record<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// A task that waited runs again.
    WaitEnd(WaitEnd),
}

impl<'a> Record<'a> {
    /// Parses one record.
    ///
    /// # Errors
    /// If the record does not have a form that `walker_common::wire` describes.
    pub fn parse(record: &'a [u8]) -> Result<Self, RecordError> {
        if let Ok((end, _)) = WaitEnd::read_from_prefix(record)
            && end.version == WIRE_VERSION
            && end.flags & FLAG_WAIT_END != 0
        {
            return Ok(Self::WaitEnd(end));
        }
        Sample::parse(record).map(Self::Sample)
    }
}

/// A parsed sample.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    bytes: &'a [u8],
    header: SampleHeader,
    start: Start,
    segments: [Option<CapturedSegment<'a>>; MAX_SEGMENTS],
    user_regs: CapturedSegment<'a>,
    user_stack: CapturedSegment<'a>,
    kernel_chain: &'a [u8],
}

impl<'a> Sample<'a> {
    /// Parses one record.
    ///
    /// # Errors
    /// If the record does not have the form `walker_common::wire` describes.
    pub fn parse(record: &'a [u8]) -> Result<Self, RecordError> {
        let truncated = |want| RecordError::Truncated {
            have: record.len(),
            want,
        };
        let (header, _) = SampleHeader::read_from_prefix(record)
            .map_err(|_| truncated(size_of::<SampleHeader>()))?;
        if header.version != WIRE_VERSION {
            return Err(RecordError::Version(header.version));
        }
        let record = record
            .get(..header.size as usize)
            .ok_or_else(|| truncated(header.size as usize))?;
        let start = Start::from_number(header.start).ok_or(RecordError::Invalid("start"))?;
        let headers = header
            .segments
            .get(..header.segment_count as usize)
            .ok_or(RecordError::Invalid("segment count"))?;
        let mut rest = record
            .get(header.data_offset as usize..)
            .ok_or_else(|| truncated(header.data_offset as usize))?;

        let mut segments = [None; MAX_SEGMENTS];
        let mut take = |segment: &SegmentHeader| {
            let kind =
                StackKind::from_number(segment.kind).ok_or(RecordError::Invalid("stack kind"))?;
            let status = SegmentStatus::from_number(segment.status)
                .ok_or(RecordError::Invalid("segment status"))?;
            let mut bytes: &[u8] = &[];
            if status == SegmentStatus::Captured {
                let padded = (segment.length as usize).next_multiple_of(8);
                let (data, after) = rest
                    .split_at_checked(padded)
                    .ok_or_else(|| truncated(record.len() - rest.len() + padded))?;
                bytes = &data[..segment.length as usize];
                rest = after;
            }
            Ok(CapturedSegment {
                address: segment.address,
                length: segment.length,
                kind,
                status,
                bytes,
            })
        };
        for (segment, slot) in headers.iter().zip(&mut segments) {
            *slot = Some(take(segment)?);
        }
        let user_regs = take(&header.user_regs)?;
        let user_stack = take(&header.user_stack)?;
        let kernel_chain = match usize::try_from(header.chain_bytes) {
            Ok(length) => record
                .get(size_of::<SampleHeader>()..)
                .and_then(|data| data.get(..length))
                .ok_or_else(|| truncated(size_of::<SampleHeader>() + length))?,
            Err(_) => &[],
        };
        Ok(Self {
            bytes: record,
            header,
            start,
            segments,
            user_regs,
            user_stack,
            kernel_chain,
        })
    }

    /// The whole record as it was captured.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The fixed part of the record.
    #[must_use]
    pub const fn header(&self) -> &SampleHeader {
        &self.header
    }

    /// Where its walk begins.
    #[must_use]
    pub const fn start(&self) -> Start {
        self.start
    }

    /// The registers the event interrupted.
    #[must_use]
    pub const fn registers(&self) -> &Registers {
        &self.header.regs
    }

    /// The thread's name, up to its first zero.
    #[must_use]
    pub fn comm(&self) -> &[u8] {
        unpadded(&self.header.comm)
    }

    /// The segments in capture order, those without bytes included.
    pub fn segments(&self) -> impl Iterator<Item = &CapturedSegment<'a>> {
        self.segments.iter().flatten()
    }

    /// The registers user space had when the event came, or when it entered the kernel; `None` for
    /// a kernel thread, or if the user side was not wanted or could not be read.
    #[must_use]
    pub fn user_registers(&self) -> Option<Registers> {
        if self.header.flags & FLAG_USER_MODE != 0 {
            return Some(self.header.regs);
        }
        let bytes = match self.user_regs.status {
            SegmentStatus::Captured => self.user_regs.bytes,
            _ => {
                let at = self.user_regs.address;
                self.segments().find_map(|segment| {
                    let offset = usize::try_from(at.checked_sub(segment.address)?).ok()?;
                    segment.bytes.get(offset..)?.get(..REGISTER_BYTES)
                })?
            }
        };
        let registers = Registers::read_from_bytes(bytes).ok()?;
        registers.is_user_mode().then_some(registers)
    }

    /// What was copied of the user stack; `None` if nothing was.
    #[must_use]
    pub fn user_stack(&self) -> Option<UserStackCopy<'a>> {
        (self.user_stack.status == SegmentStatus::Captured).then_some(UserStackCopy {
            segment: Segment {
                address: self.user_stack.address,
                bytes: self.user_stack.bytes,
            },
            cut_by_budget: self.header.user_stack.flags & SEGMENT_CUT_BY_BUDGET != 0,
        })
    }

    /// The captured bytes of kernel stacks.
    #[must_use]
    pub fn memory(&self) -> SampleMemory<'a> {
        let mut memory = SampleMemory::new();
        for segment in self.segments() {
            if segment.status == SegmentStatus::Captured {
                memory.push(Segment {
                    address: segment.address,
                    bytes: segment.bytes,
                });
            }
        }
        memory
    }

    /// Whether the CPU had no stack table, so that only the task stack was recognised.
    #[must_use]
    pub const fn lacks_cpu_table(&self) -> bool {
        self.header.flags & FLAG_NO_CPU_TABLE != 0
    }

    /// The kernel's own call chain, leaf first: empty unless the oracle program took the sample.
    pub fn kernel_chain(&self) -> impl Iterator<Item = u64> + '_ {
        self.kernel_chain
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
    }

    /// What the kernel answered instead of a call chain: a negative errno.
    #[must_use]
    pub fn kernel_chain_error(&self) -> Option<i32> {
        (self.header.chain_bytes < 0).then_some(self.header.chain_bytes)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
