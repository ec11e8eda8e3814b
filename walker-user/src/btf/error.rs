//! Why a question to BTF was not answered.
//!
//! One flat enum for reading the blob and for asking it, because callers print the reason and
//! rarely branch on more than "not there" ([`BtfError::is_absent`]). It carries names the caller
//! passed in, never text taken from the file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Reading BTF, or finding something in it, failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The file could not be opened or read.
    #[error("cannot read BTF from {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than the largest BTF this module accepts.
    #[error("BTF is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The first two bytes are not BTF's magic number.
    #[error("not BTF: magic number is {found:#06x}, expected 0xeb9f")]
    BadMagic {
        /// The bytes found, read as a little-endian number.
        found: u16,
    },
    /// The magic number is byte-swapped: the BTF of a big-endian kernel.
    #[error("big-endian BTF is not supported")]
    BigEndian,
    /// A version of the format that did not exist when this was written.
    #[error("BTF version {found} is not supported, only version 1")]
    UnsupportedVersion {
        /// The version in the header.
        found: u8,
    },
    /// The blob ends, or a section ends, inside something.
    #[error("BTF is truncated in {what}, at byte {offset}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts, in bytes from the start of the blob.
        offset: usize,
    },
    /// A type of a kind newer than `ENUM64`. Its length is unknown, so nothing after it can be
    /// read.
    #[error("BTF type {type_id} is of unknown kind {kind}")]
    UnknownKind {
        /// The type's id.
        type_id: u32,
        /// The kind in its header.
        kind: u8,
    },
    /// A type contradicts the format: a reference to a type that does not exist, a chain of
    /// typedefs without end, a size that overflows.
    #[error("BTF type {type_id} is malformed: {reason}")]
    Malformed {
        /// The type's id.
        type_id: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A query visited more members than any kernel structure has; only a forged blob does that.
    #[error("BTF query for `{query}` visits too many members")]
    TooManyMembers {
        /// What was asked.
        query: String,
    },
    /// No type of this kind has this name.
    #[error("no {kind} `{name}` in BTF")]
    NoSuchType {
        /// The kind that was looked for, as C spells it.
        kind: &'static str,
        /// The name that was looked for.
        name: String,
    },
    /// The structure exists and has no such member.
    #[error("no member `{path}` in BTF")]
    NoSuchMember {
        /// The path up to and including the segment that is missing.
        path: String,
    },
    /// A member begins or ends within a byte.
    #[error("`{path}` is a bitfield, which has no offset in bytes")]
    Bitfield {
        /// The path that was looked up.
        path: String,
    },
    /// A middle segment of a path is a pointer, an array or a number: nothing to step into
    /// without reading memory or choosing an index.
    #[error("`{path}` is {what}, which has no members")]
    NotAStruct {
        /// The path up to and including the segment in question.
        path: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A path that is not `type.member`, with at least one member and no empty segment.
    #[error("`{path}` is not a member path like `task_struct.se.cfs_rq`")]
    BadPath {
        /// The path as it was passed.
        path: String,
    },
    /// No enumeration that was looked at has this enumerator.
    #[error("no enumerator `{name}` in BTF")]
    NoSuchEnumerator {
        /// The enumerator.
        name: String,
    },
    /// The per-CPU section does not list this variable.
    #[error("no per-CPU variable `{name}` in BTF")]
    NoSuchVariable {
        /// The variable.
        name: String,
    },
    /// The blob has no per-CPU section: pahole was told to leave per-CPU variables out.
    #[error("BTF has no section of per-CPU variables (.data..percpu)")]
    NoPerCpuSection,
    /// Several definitions share the name and give different answers, so none can be trusted.
    #[error("`{name}` has {count} definitions in BTF, which do not agree")]
    Ambiguous {
        /// The name that was looked for.
        name: String,
        /// How many definitions there are.
        count: usize,
    },
}

impl BtfError {
    /// Whether the blob was read correctly and simply does not have what was asked for. True for
    /// the `NoSuch…` variants and [`NoPerCpuSection`](Self::NoPerCpuSection): the cases in which
    /// asking for another kernel version's name makes sense.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::NoSuchType { .. }
                | Self::NoSuchMember { .. }
                | Self::NoSuchEnumerator { .. }
                | Self::NoSuchVariable { .. }
                | Self::NoPerCpuSection
        )
    }
}
