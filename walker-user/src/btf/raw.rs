//! The bytes of a BTF blob as a list of types.
//!
//! Knows where each type starts and how long it is, and reads names, members and enumerators out
//! of it. What a member's offset *means* — modifiers, anonymous members, ambiguity — is decided by
//! [`super::Btf`].
//!
//! The format is `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst` of Linux 6.18.

use super::BtfError;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// The only `BTF_VERSION` there has been.
const VERSION: u8 = 1;
/// `sizeof(struct btf_header)`. Later kernels may append fields; `hdr_len` says how many bytes to
/// skip.
const HEADER_LEN: usize = 24;
/// `sizeof(struct btf_type)`, the part every type has.
const TYPE_LEN: usize = 12;
/// `KSYM_NAME_LEN`, the longest name the kernel accepts in BTF. Without a limit many types could
/// share one huge name and make sorting them take hours.
const MAX_NAME_LEN: usize = 512;

/// The kinds of types, numbered as `BTF_KIND_*`. `Void` is type id 0, which is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::DataSec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Bytes that follow the common header of a type with `vlen` elements.
    fn tail_len(self, vlen: u16) -> usize {
        let vlen = usize::from(vlen);
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Enum | Self::FuncProto => 8 * vlen,
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => 12 * vlen,
            Self::Void
            | Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => 0,
        }
    }

    /// The kind in words, for a message.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Int => "an integer",
            Self::Ptr => "a pointer",
            Self::Array => "an array",
            Self::Struct => "a struct",
            Self::Union => "a union",
            Self::Enum | Self::Enum64 => "an enum",
            Self::Fwd => "a forward declaration",
            Self::Typedef => "a typedef",
            Self::Volatile | Self::Const | Self::Restrict => "a qualified type",
            Self::Func | Self::FuncProto => "a function",
            Self::Var => "a variable",
            Self::DataSec => "a section",
            Self::Float => "a floating-point number",
            Self::DeclTag | Self::TypeTag => "a tag",
        }
    }
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type<'a> {
    /// Its id; 0 is `void`.
    pub(super) id: u32,
    pub(super) kind: Kind,
    /// The meaning depends on the kind: bitfield widths in members, signedness of an enumeration.
    kind_flag: bool,
    /// Offset of its name in the string section.
    pub(super) name_offset: u32,
    /// A size in bytes or the id of another type, by kind.
    pub(super) size_or_type: u32,
    tail: &'a [u8],
}

/// A member as a struct or union lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMember {
    /// Offset of its name in the string section; the name of an anonymous member is empty.
    pub(super) name_offset: u32,
    pub(super) type_id: u32,
    /// From the start of the struct, in bits.
    pub(super) bit_offset: u32,
    /// Width in bits if the struct says the member is a bitfield.
    pub(super) bitfield_width: Option<u8>,
}

/// A variable as a section lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawVariable {
    /// The id of its `VAR` type.
    pub(super) type_id: u32,
    /// From the start of the section, in bytes.
    pub(super) offset: u32,
    /// In bytes.
    pub(super) size: u32,
}

/// An enumerator and its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawEnumerator {
    pub(super) name_offset: u32,
    /// `None` for an unsigned value above `i64::MAX`.
    pub(super) value: Option<i64>,
}

impl<'a> Type<'a> {
    const VOID: Self = Self {
        id: 0,
        kind: Kind::Void,
        kind_flag: false,
        name_offset: 0,
        size_or_type: 0,
        tail: &[],
    };

    /// This type with something wrong.
    pub(super) fn malformed(&self, reason: &'static str) -> BtfError {
        BtfError::Malformed {
            type_id: self.id,
            reason,
        }
    }

    /// For a typedef or a qualifier: the id of the type it is another name of.
    pub(super) fn alias_of(&self) -> Option<u32> {
        matches!(
            self.kind,
            Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag
        )
        .then_some(self.size_or_type)
    }

    /// How many parameters a `FUNC_PROTO` has.
    pub(super) fn parameters(&self) -> usize {
        words::<2>(self.tail).count()
    }

    /// The members of a struct or union, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = RawMember> + 'a {
        let packed = self.kind_flag;
        words::<3>(self.tail).map(move |[name_offset, type_id, offset]| {
            // With kind_flag the offset is split: 8 bits of bitfield width (0: not a bitfield)
            // above 24 bits of offset.
            let [.., width] = offset.to_le_bytes();
            RawMember {
                name_offset,
                type_id,
                bit_offset: if packed { offset & 0x00ff_ffff } else { offset },
                bitfield_width: (packed && width != 0).then_some(width),
            }
        })
    }

    /// The variables of a `DATASEC`.
    pub(super) fn variables(&self) -> impl Iterator<Item = RawVariable> + 'a {
        words::<3>(self.tail).map(|[type_id, offset, size]| RawVariable {
            type_id,
            offset,
            size,
        })
    }

    /// The enumerators of an `ENUM` or `ENUM64`; nothing for other kinds.
    pub(super) fn enumerators(&self) -> impl Iterator<Item = RawEnumerator> + 'a {
        let signed = self.kind_flag;
        let (narrow, wide): (&'a [u8], &'a [u8]) = match self.kind {
            Kind::Enum => (self.tail, &[]),
            Kind::Enum64 => (&[], self.tail),
            _ => (&[], &[]),
        };
        let narrow = words::<2>(narrow).map(move |[name_offset, value]| RawEnumerator {
            name_offset,
            value: Some(if signed {
                i64::from(value.cast_signed())
            } else {
                i64::from(value)
            }),
        });
        let wide = words::<3>(wide).map(move |[name_offset, low, high]| {
            let value = u64::from(high) << 32 | u64::from(low);
            RawEnumerator {
                name_offset,
                value: if signed {
                    Some(value.cast_signed())
                } else {
                    i64::try_from(value).ok()
                },
            }
        });
        narrow.chain(wide)
    }

    /// Element type id and element count of an `ARRAY`, `None` for other kinds.
    pub(super) fn array(&self) -> Option<(u32, u32)> {
        if self.kind != Kind::Array {
            return None;
        }
        words::<3>(self.tail)
            .next()
            .map(|[element, _index, count]| (element, count))
    }

    /// The first bit and the number of bits that hold the value of an `INT`, `None` for other
    /// kinds. Before kind_flag, a bitfield was a member with such an odd integer type.
    pub(super) fn int_bits(&self) -> Option<(u8, u8)> {
        if self.kind != Kind::Int {
            return None;
        }
        words::<1>(self.tail).next().map(|[encoding]| {
            let [bits, _, first, _] = encoding.to_le_bytes();
            (first, bits)
        })
    }
}

/// `tail` as records of `N` little-endian 32-bit words.
fn words<const N: usize>(tail: &[u8]) -> impl Iterator<Item = [u32; N]> + '_ {
    let (words, _) = tail.as_chunks::<4>();
    let (records, _) = words.as_chunks::<N>();
    records.iter().map(|record| record.map(u32::from_le_bytes))
}

/// A blob whose types have been found and measured.
pub(super) struct Raw {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Where in `bytes` each type starts; the type with id 1 comes first.
    starts: Vec<u32>,
}

impl Raw {
    /// Checks the header and finds every type.
    ///
    /// Takes one step per type; keeps 4 bytes for each, and a type takes at least 12.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        let mut starts = Vec::new();
        let mut at = header.types.start;
        while at < header.types.end {
            let type_id = to_u32(starts.len()).saturating_add(1);
            let (_, len) = read_type(&bytes[..header.types.end], at, type_id)?;
            starts.push(to_u32(at));
            at += len;
        }
        Ok(Self {
            bytes,
            strings: header.strings,
            starts,
        })
    }

    /// All types in the file, in the order of their ids, without `void`.
    pub(super) fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (1..=to_u32(self.starts.len())).filter_map(|id| self.type_by_id(id))
    }

    /// The type with this id; `None` if the file has none.
    pub(super) fn type_by_id(&self, id: u32) -> Option<Type<'_>> {
        let Some(index) = id.checked_sub(1) else {
            return Some(Type::VOID);
        };
        let start = *self.starts.get(index as usize)?;
        read_type(&self.bytes, start as usize, id)
            .ok()
            .map(|(found, _)| found)
    }

    /// The name at `offset` without its NUL; `None` if `offset` is outside the string section or
    /// the name is longer than [`MAX_NAME_LEN`].
    pub(super) fn name(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.strings()?.get(offset as usize..)?;
        let len = rest
            .iter()
            .take(MAX_NAME_LEN + 1)
            .position(|&byte| byte == 0)?;
        rest.get(..len)
    }

    /// Whether the name at `offset` is `name`. Does not look for the NUL further than `name` is
    /// long, so a scan over many types stays cheap when a forged string is huge.
    pub(super) fn name_is(&self, offset: u32, name: &str) -> bool {
        self.strings()
            .and_then(|strings| strings.get(offset as usize..))
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn strings(&self) -> Option<&[u8]> {
        self.bytes.get(self.strings.clone())
    }
}

/// Where the sections are, in bytes from the start of the blob.
struct Header {
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let truncated = BtfError::Truncated {
            what: "the header",
            offset: 0,
        };
        // The magic number first, so that a short file of another format is called just that.
        let Some(&magic) = bytes.first_chunk::<2>() else {
            return Err(truncated);
        };
        match u16::from_le_bytes(magic) {
            MAGIC => {}
            found if found == MAGIC.swap_bytes() => return Err(BtfError::BigEndian),
            found => return Err(BtfError::BadMagic { found }),
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(truncated);
        };
        let [_, _, version, _flags, rest @ ..] = header;
        if *version != VERSION {
            return Err(BtfError::UnsupportedVersion { found: *version });
        }
        let Some([header_len, type_off, type_len, str_off, str_len]) = words::<5>(rest).next()
        else {
            return Err(truncated);
        };
        if (header_len as usize) < HEADER_LEN {
            return Err(truncated);
        }
        let section = |what, offset: u32, len: u32| {
            let start = header_len as usize + offset as usize;
            let end = start + len as usize;
            if end > bytes.len() {
                return Err(BtfError::Truncated {
                    what,
                    offset: start,
                });
            }
            Ok(start..end)
        };
        let types = section("the type section", type_off, type_len)?;
        let strings = section("the string section", str_off, str_len)?;
        // Every name is found by its terminating NUL, so the last byte must be one.
        if bytes.get(strings.clone()).and_then(<[u8]>::last) != Some(&0) {
            return Err(BtfError::Truncated {
                what: "the last string",
                offset: strings.end,
            });
        }
        Ok(Self { types, strings })
    }
}

/// The type that starts at `start`, and how many bytes it takes.
fn read_type(bytes: &[u8], start: usize, id: u32) -> Result<(Type<'_>, usize), BtfError> {
    let truncated = BtfError::Truncated {
        what: "a type",
        offset: start,
    };
    let Some([name_offset, info, size_or_type]) = bytes
        .get(start..)
        .and_then(|rest| words::<3>(rest.get(..TYPE_LEN)?).next())
    else {
        return Err(truncated);
    };
    let [vlen_low, vlen_high, unused, kind] = info.to_le_bytes();
    let kind_flag = kind & 0x80 != 0;
    // The kind has 5 bits; the 2 above it are zero, and would only be used to number more kinds.
    let number = kind & 0x7f;
    let Some(kind) = Kind::from_number(number) else {
        return Err(BtfError::UnknownKind {
            type_id: id,
            kind: number,
        });
    };
    if unused != 0 {
        // Meaningless today. A format that gives these bits a meaning (a longer vlen, say) would
        // be read wrongly, so it is refused.
        return Err(BtfError::Malformed {
            type_id: id,
            reason: "reserved bits are set",
        });
    }
    let tail_start = start + TYPE_LEN;
    let tail_len = kind.tail_len(u16::from_le_bytes([vlen_low, vlen_high]));
    let Some(tail) = bytes.get(tail_start..tail_start + tail_len) else {
        return Err(truncated);
    };
    let found = Type {
        id,
        kind,
        kind_flag,
        name_offset,
        size_or_type,
        tail,
    };
    Ok((found, TYPE_LEN + tail_len))
}

/// Blobs are far below 4 GiB ([`super::MAX_LEN`]), so no position in one saturates.
fn to_u32(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
