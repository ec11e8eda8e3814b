//! Questions about the layout of kernel data, answered from BTF.
//!
//! The offsets of `task_struct`'s members, the sizes of the exception stacks and the places of
//! per-CPU variables differ from kernel to kernel; `/sys/kernel/btf/vmlinux` has those of the
//! kernel that is running. [`Btf`] looks them up by name. It refuses to choose when a name has
//! several definitions that would answer differently.
//!
//! This is not a general BTF library: no C output, no functions and prototypes
//! (but the tracepoints'), no line info, no
//! split BTF of modules (their types refer to a base blob this module does not have), and no
//! relocation of BPF programs, which is the loader's work.
//!
//! A blob is treated as hostile. Reading it takes one step per type; a query is bounded in depth
//! and in the number of members it visits; nothing is trusted that has not been checked.
//!
//! ```no_run
//! # use walker_user::btf::{Btf, BtfError};
//! let btf = Btf::of_running_kernel()?;
//! let offset = btf.member("task_struct.se.cfs_rq")?.byte_offset();
//! let runqueues = btf.percpu_offset("runqueues")?;
//! # Ok::<(), BtfError>(())
//! ```

mod error;
#[cfg(test)]
mod kernel_tests;
mod query;
mod raw;
#[cfg(test)]
pub(crate) mod test_blob;
#[cfg(test)]
mod tests;
mod tracepoint;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use self::error::BtfError;
use self::query::{Budget, unanimous};
use self::raw::{Kind, Raw};

/// The largest blob accepted, in bytes. Distribution kernels have 5 to 10 MiB.
pub const MAX_LEN: usize = 64 << 20;

/// A struct and a union share one namespace in C.
const STRUCTS: &[Kind] = &[Kind::Struct, Kind::Union];
const ENUMS: &[Kind] = &[Kind::Enum, Kind::Enum64];

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Distance from the start of the outermost struct to the member, in bits.
    pub bit_offset: u64,
    /// Size of the member in bits: the width of a bitfield, 8 × the size of anything else. 0 for
    /// a flexible array.
    pub bit_size: u64,
}

impl Member {
    /// Distance from the start of the outermost struct, in bytes; `None` for a bitfield that
    /// does not consist of whole bytes.
    #[must_use]
    pub fn byte_offset(&self) -> Option<u64> {
        self.is_whole_bytes().then_some(self.bit_offset / 8)
    }

    /// Size in bytes; `None` for a bitfield that does not consist of whole bytes.
    #[must_use]
    pub fn byte_size(&self) -> Option<u64> {
        self.is_whole_bytes().then_some(self.bit_size / 8)
    }

    fn is_whole_bytes(&self) -> bool {
        self.bit_offset.is_multiple_of(8) && self.bit_size.is_multiple_of(8)
    }
}

/// One line of a struct's definition; see [`Btf::members_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMember {
    /// The member's name; empty for an anonymous struct or union and for padding.
    pub name: String,
    /// Distance from the start of the struct, in bits.
    pub bit_offset: u64,
    /// Size of the member's type, in bytes. For a bitfield this is the type it is declared with,
    /// which is larger than the field; [`Btf::member`] tells its width.
    pub size_bytes: u64,
}

/// Where a per-CPU variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpuVariable {
    /// Distance from the start of the per-CPU section, and so of each CPU's copy of it, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

/// A BTF blob and an index of the names in it.
///
/// Holds the blob itself, 4 bytes for each type and 8 for each named struct, union, enumeration
/// and section. Cheap to ask: a name is found by binary search.
pub struct Btf {
    raw: Raw,
    /// Every named type that can be looked up, sorted by name, then by id.
    names: Vec<NameEntry>,
}

#[derive(Clone, Copy)]
struct NameEntry {
    name_offset: u32,
    type_id: u32,
}

impl Btf {
    /// Where the running kernel shows its BTF (`CONFIG_DEBUG_INFO_BTF`, Linux 5.4 or later).
    pub const KERNEL_PATH: &str = "/sys/kernel/btf/vmlinux";

    /// Reads a blob: the contents of [`KERNEL_PATH`](Self::KERNEL_PATH) or of the ELF section
    /// `.BTF`.
    ///
    /// # Errors
    ///
    /// When the blob is larger than [`MAX_LEN`], is not little-endian BTF of version 1, ends too
    /// early, or has a kind of type that is newer than `ENUM64`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        if bytes.len() > MAX_LEN {
            return Err(BtfError::TooLarge { limit: MAX_LEN });
        }
        let raw = Raw::parse(bytes)?;
        let names = index_names(&raw)?;
        Ok(Self { raw, names })
    }

    /// Reads a blob from a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and as [`parse`](Self::parse) does.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, BtfError> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| BtfError::Io {
                path: path.to_owned(),
                source,
            })?;
        Self::parse(bytes)
    }

    /// Reads the BTF of the kernel that is running.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file) does; a missing file means that the kernel was built
    /// without `CONFIG_DEBUG_INFO_BTF`.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::from_file(Self::KERNEL_PATH)
    }

    /// Finds a member by a dotted path: a struct or union, then members, such as
    /// `task_struct.se.cfs_rq`.
    ///
    /// Typedefs and qualifiers are looked through, and the members of an anonymous struct or
    /// union belong to the struct around it, as in C. Pointers are not followed and arrays are
    /// not indexed; both can only come last.
    ///
    /// # Errors
    ///
    /// [`NoSuchType`](BtfError::NoSuchType), [`NoSuchMember`](BtfError::NoSuchMember),
    /// [`NotAStruct`](BtfError::NotAStruct), [`BadPath`](BtfError::BadPath);
    /// [`Ambiguous`](BtfError::Ambiguous) when several structs of that name exist and the member
    /// is not at one place in all of them; errors about the blob.
    pub fn member(&self, path: &str) -> Result<Member, BtfError> {
        let bad_path = || BtfError::BadPath {
            path: path.to_owned(),
        };
        let (type_name, members) = path.split_once('.').ok_or_else(bad_path)?;
        if type_name.is_empty() || members.split('.').any(str::is_empty) {
            return Err(bad_path());
        }
        let mut budget = Budget::new(path);
        self.agreed("struct or union", STRUCTS, type_name, |owner| {
            self.walk(owner, path, members, &mut budget)
        })
    }

    /// [`member`](Self::member), with `None` when there is no such type or member.
    ///
    /// # Errors
    ///
    /// As [`member`](Self::member), without `NoSuchType` and `NoSuchMember`.
    pub fn find_member(&self, path: &str) -> Result<Option<Member>, BtfError> {
        present(self.member(path))
    }

    /// The size of a struct or union, in bytes.
    ///
    /// # Errors
    ///
    /// [`NoSuchType`](BtfError::NoSuchType), or [`Ambiguous`](BtfError::Ambiguous) when several
    /// types of that name differ in size.
    pub fn size_of(&self, name: &str) -> Result<u64, BtfError> {
        self.agreed("struct or union", STRUCTS, name, |found| {
            Ok(u64::from(found.size_or_type))
        })
    }

    /// The members of a struct or union in the order of its definition, anonymous ones as one
    /// member with an empty name.
    ///
    /// # Errors
    ///
    /// [`NoSuchType`](BtfError::NoSuchType); [`Ambiguous`](BtfError::Ambiguous) when several
    /// types of that name differ in their members; errors about the blob.
    pub fn members_of(&self, name: &str) -> Result<Vec<NamedMember>, BtfError> {
        let mut budget = Budget::new(name);
        self.agreed("struct or union", STRUCTS, name, |owner| {
            owner
                .members()
                .map(|member| {
                    budget.visit()?;
                    self.named_member(owner, member)
                })
                .collect()
        })
    }

    /// The offset of a per-CPU variable in the per-CPU section, in bytes: its distance from the
    /// base of each CPU's area.
    ///
    /// Some versions of pahole leave out the variable at offset 0, which is then reported as
    /// absent.
    ///
    /// # Errors
    ///
    /// [`NoPerCpuSection`](BtfError::NoPerCpuSection),
    /// [`NoSuchVariable`](BtfError::NoSuchVariable), or [`Ambiguous`](BtfError::Ambiguous) when
    /// several (static) variables have that name.
    pub fn percpu_offset(&self, variable: &str) -> Result<u64, BtfError> {
        self.percpu_variable(variable).map(|found| found.offset)
    }

    /// The size of a per-CPU variable, in bytes.
    ///
    /// # Errors
    ///
    /// As [`percpu_offset`](Self::percpu_offset).
    pub fn percpu_size(&self, variable: &str) -> Result<u64, BtfError> {
        self.percpu_variable(variable).map(|found| found.size)
    }

    /// A per-CPU variable, `None` when the per-CPU section does not list it.
    ///
    /// # Errors
    ///
    /// As [`percpu_offset`](Self::percpu_offset), without `NoSuchVariable`. A missing section
    /// stays an error: it says nothing about the variable.
    pub fn find_percpu(&self, variable: &str) -> Result<Option<PerCpuVariable>, BtfError> {
        match self.percpu_variable(variable) {
            Err(BtfError::NoSuchVariable { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The value of an enumerator: of the enumeration `of`, or of any at all when that is `None`.
    ///
    /// BTF marks signed enumerations since Linux 6.0 only. Before that a negative value appears as
    /// 2³² minus its magnitude.
    ///
    /// # Errors
    ///
    /// [`NoSuchType`](BtfError::NoSuchType) for the enumeration,
    /// [`NoSuchEnumerator`](BtfError::NoSuchEnumerator), or
    /// [`Ambiguous`](BtfError::Ambiguous) when several have different values.
    pub fn enum_value(&self, of: Option<&str>, enumerator: &str) -> Result<i64, BtfError> {
        if let Some(name) = of {
            return self.agreed("enum", ENUMS, name, |found| {
                let value = self.enumerator(found, enumerator)?;
                value.ok_or_else(|| no_such_enumerator(enumerator))
            });
        }
        let mut values = Vec::new();
        for found in self.raw.types() {
            values.extend(self.enumerator(found, enumerator)?);
        }
        unanimous(enumerator, &values)?.ok_or_else(|| no_such_enumerator(enumerator))
    }
}

impl fmt::Debug for Btf {
    /// Counts instead of contents: a blob has a hundred thousand types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.raw.types().count())
            .field("names", &self.names.len())
            .finish_non_exhaustive()
    }
}

/// Collects the names that can be looked up, in order.
fn index_names(raw: &Raw) -> Result<Vec<NameEntry>, BtfError> {
    let mut names = Vec::new();
    for found in raw.types() {
        let looked_up = matches!(
            found.kind,
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::DataSec
        );
        if !looked_up {
            continue;
        }
        let name = raw
            .name(found.name_offset)
            .ok_or_else(|| found.malformed("its name is not valid"))?;
        if !name.is_empty() {
            let entry = NameEntry {
                name_offset: found.name_offset,
                type_id: found.id,
            };
            names.push((name, entry));
        }
    }
    names.sort_unstable_by_key(|&(name, entry)| (name, entry.type_id));
    Ok(names.into_iter().map(|(_, entry)| entry).collect())
}

/// Turns "not there" into `None`.
fn present<T>(answer: Result<T, BtfError>) -> Result<Option<T>, BtfError> {
    match answer {
        Err(error) if error.is_absent() => Ok(None),
        answer => answer.map(Some),
    }
}

fn no_such_enumerator(name: &str) -> BtfError {
    BtfError::NoSuchEnumerator {
        name: name.to_owned(),
    }
}
