//! How [`Btf`]'s questions are answered: the walk through types.
//!
//! [`super::raw`] gives single types; here they are followed, within limits that no kernel's BTF
//! comes near.

use super::raw::{Kind, RawMember, Type};
use super::{Btf, BtfError, Member, NameEntry, NamedMember, PerCpuVariable, STRUCTS};

/// How many typedefs, qualifiers and array dimensions may lie between a member and its type, and
/// how many anonymous structs may lie inside one another. `MAX_RESOLVE_DEPTH` of Linux's
/// `kernel/bpf/btf.c`.
const MAX_DEPTH: usize = 32;

/// How many members one query may visit. `task_struct` with everything inside it has some
/// thousands; anonymous structs that share types can claim billions.
const MAX_MEMBERS_VISITED: usize = 1 << 20;

/// BTF does not record the size of a pointer. stackwalk reads the memory of 64-bit kernels only.
const POINTER_LEN: u64 = 8;

/// The names of the section of per-CPU variables: the kernel's since 2.6.33, and the one before.
const PERCPU_SECTIONS: [&str; 2] = [".data..percpu", ".data.percpu"];

impl Btf {
    /// Asks every definition of `name` and returns what they all say.
    ///
    /// That a definition lacks what is asked is also an answer: one that has it and one that does
    /// not are in disagreement.
    pub(super) fn agreed<'a, T: PartialEq>(
        &'a self,
        kind: &'static str,
        kinds: &[Kind],
        name: &str,
        mut ask: impl FnMut(Type<'a>) -> Result<T, BtfError>,
    ) -> Result<T, BtfError> {
        let mut count = 0;
        let mut differ = false;
        let mut agreed: Option<Result<T, BtfError>> = None;
        for definition in self.named(name, kinds) {
            count += 1;
            let answer = ask(definition);
            match (&agreed, answer) {
                (_, Err(error)) if !error.is_absent() => return Err(error),
                (None, answer) => agreed = Some(answer),
                (Some(Ok(before)), Ok(now)) => differ |= *before != now,
                (Some(Err(_)), Err(_)) => {}
                (Some(_), _) => differ = true,
            }
        }
        if differ {
            return Err(BtfError::Ambiguous {
                name: name.to_owned(),
                count,
            });
        }
        agreed.unwrap_or_else(|| {
            Err(BtfError::NoSuchType {
                kind,
                name: name.to_owned(),
            })
        })
    }

    /// All types of this name and one of these kinds.
    pub(super) fn named<'a>(
        &'a self,
        name: &str,
        kinds: &[Kind],
    ) -> impl Iterator<Item = Type<'a>> {
        let name_of = |entry: &NameEntry| self.raw.name(entry.name_offset).unwrap_or_default();
        let start = self
            .names
            .partition_point(|entry| name_of(entry) < name.as_bytes());
        self.names
            .iter()
            .skip(start)
            .take_while(move |entry| self.raw.name_is(entry.name_offset, name))
            .filter_map(|entry| self.raw.type_by_id(entry.type_id))
            .filter(|found| kinds.contains(&found.kind))
    }

    /// Follows the dotted `members` from `owner`. `path` is the whole path, for messages.
    pub(super) fn walk(
        &self,
        owner: Type<'_>,
        path: &str,
        members: &str,
        budget: &mut Budget<'_>,
    ) -> Result<Member, BtfError> {
        let mut owner = owner;
        let mut base = 0;
        let mut rest = members;
        loop {
            let (segment, later) = match rest.split_once('.') {
                Some((segment, later)) => (segment, Some(later)),
                None => (rest, None),
            };
            let so_far = || {
                let unread = later.map_or(0, |later| later.len() + 1);
                path[..path.len() - unread].to_owned()
            };
            let (found, type_id) = self
                .find_in(owner, segment, base, 0, budget)?
                .ok_or_else(|| BtfError::NoSuchMember { path: so_far() })?;
            let Some(later) = later else {
                return Ok(found);
            };
            owner = self.unqualified(type_id)?;
            if !STRUCTS.contains(&owner.kind) {
                return Err(BtfError::NotAStruct {
                    path: so_far(),
                    what: owner.kind.describe(),
                });
            }
            base = found.bit_offset;
            rest = later;
        }
    }

    /// Finds `segment` among the members of `owner` and of the anonymous structs inside it.
    /// `owner` starts `base` bits into the outermost struct. Returns the member and its type id.
    fn find_in(
        &self,
        owner: Type<'_>,
        segment: &str,
        base: u64,
        depth: usize,
        budget: &mut Budget<'_>,
    ) -> Result<Option<(Member, u32)>, BtfError> {
        if depth > MAX_DEPTH {
            return Err(owner.malformed("anonymous structs are nested too deeply"));
        }
        for member in owner.members() {
            budget.visit()?;
            if self.raw.name_is(member.name_offset, segment) {
                let mut found = self.place(owner, member)?;
                // Cannot overflow: every offset is below 2^32, and depth and path are short.
                found.bit_offset += base;
                return Ok(Some((found, member.type_id)));
            }
            if self.raw.name_is(member.name_offset, "") {
                let inner = self.unqualified(member.type_id)?;
                if STRUCTS.contains(&inner.kind) {
                    let base = base + u64::from(member.bit_offset);
                    let found = self.find_in(inner, segment, base, depth + 1, budget)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The place of a member in the struct that lists it.
    fn place(&self, owner: Type<'_>, member: RawMember) -> Result<Member, BtfError> {
        let mut bit_offset = u64::from(member.bit_offset);
        let bit_size = if let Some(width) = member.bitfield_width {
            u64::from(width)
        } else {
            let bits = self
                .size_of_type(member.type_id)?
                .checked_mul(8)
                .ok_or_else(|| owner.malformed("a member's size overflows"))?;
            match self.unqualified(member.type_id)?.int_bits() {
                Some((first, width)) if u64::from(width) != bits => {
                    bit_offset += u64::from(first);
                    u64::from(width)
                }
                _ => bits,
            }
        };
        let fits = bit_offset
            .checked_add(bit_size)
            .is_some_and(|end| end <= u64::from(owner.size_or_type) * 8);
        if !fits {
            return Err(owner.malformed("a member lies outside of it"));
        }
        Ok(Member {
            bit_offset,
            bit_size,
        })
    }

    pub(super) fn named_member(
        &self,
        owner: Type<'_>,
        member: RawMember,
    ) -> Result<NamedMember, BtfError> {
        let name = self
            .raw
            .name(member.name_offset)
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or_else(|| owner.malformed("the name of a member is not valid"))?;
        Ok(NamedMember {
            name: name.to_owned(),
            bit_offset: self.place(owner, member)?.bit_offset,
            size_bytes: self.size_of_type(member.type_id)?,
        })
    }

    /// The type behind typedefs and qualifiers.
    fn unqualified(&self, type_id: u32) -> Result<Type<'_>, BtfError> {
        let mut id = type_id;
        for _ in 0..=MAX_DEPTH {
            let found = self.existing(id)?;
            match found.alias_of() {
                Some(target) => id = target,
                None => return Ok(found),
            }
        }
        Err(too_deep(type_id))
    }

    /// The size of a value of this type, in bytes.
    fn size_of_type(&self, type_id: u32) -> Result<u64, BtfError> {
        let mut id = type_id;
        let mut count = 1_u64;
        for _ in 0..=MAX_DEPTH {
            let found = self.existing(id)?;
            if let Some(target) = found.alias_of() {
                id = target;
                continue;
            }
            let overflow = || found.malformed("its size overflows");
            if let Some((element, elements)) = found.array() {
                count = count
                    .checked_mul(u64::from(elements))
                    .ok_or_else(overflow)?;
                id = element;
                continue;
            }
            let size = match found.kind {
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float => u64::from(found.size_or_type),
                Kind::Ptr => POINTER_LEN,
                _ => return Err(found.malformed("it has no size but a value of it is stored")),
            };
            return count.checked_mul(size).ok_or_else(overflow);
        }
        Err(too_deep(type_id))
    }

    fn existing(&self, type_id: u32) -> Result<Type<'_>, BtfError> {
        self.raw.type_by_id(type_id).ok_or(BtfError::Malformed {
            type_id,
            reason: "it is referred to but does not exist",
        })
    }

    pub(super) fn percpu_variable(&self, variable: &str) -> Result<PerCpuVariable, BtfError> {
        let mut has_section = false;
        let mut places = Vec::new();
        for section in PERCPU_SECTIONS
            .iter()
            .flat_map(|name| self.named(name, &[Kind::DataSec]))
        {
            has_section = true;
            for listed in section.variables() {
                let target = self.existing(listed.type_id)?;
                if target.kind == Kind::Var && self.raw.name_is(target.name_offset, variable) {
                    places.push(PerCpuVariable {
                        offset: u64::from(listed.offset),
                        size: u64::from(listed.size),
                    });
                }
            }
        }
        if !has_section {
            return Err(BtfError::NoPerCpuSection);
        }
        unanimous(variable, &places)?.ok_or_else(|| BtfError::NoSuchVariable {
            name: variable.to_owned(),
        })
    }

    /// The value of an enumerator of `owner`, if `owner` is an enumeration that has it.
    pub(super) fn enumerator(&self, owner: Type<'_>, name: &str) -> Result<Option<i64>, BtfError> {
        owner
            .enumerators()
            .find(|listed| self.raw.name_is(listed.name_offset, name))
            .map(|listed| {
                listed
                    .value
                    .ok_or_else(|| owner.malformed("an enumerator does not fit in 64 signed bits"))
            })
            .transpose()
    }
}

/// Counts the members a query visits.
pub(super) struct Budget<'a> {
    query: &'a str,
    left: usize,
}

impl<'a> Budget<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self {
            query,
            left: MAX_MEMBERS_VISITED,
        }
    }

    pub(super) fn visit(&mut self) -> Result<(), BtfError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| BtfError::TooManyMembers {
                query: self.query.to_owned(),
            })?;
        Ok(())
    }
}

/// The one value in `values`, `None` when there are none, an error when there are several.
pub(super) fn unanimous<T: PartialEq + Copy>(
    name: &str,
    values: &[T],
) -> Result<Option<T>, BtfError> {
    let first = values.first().copied();
    if values.iter().any(|value| Some(*value) != first) {
        return Err(BtfError::Ambiguous {
            name: name.to_owned(),
            count: values.len(),
        });
    }
    Ok(first)
}

fn too_deep(type_id: u32) -> BtfError {
    BtfError::Malformed {
        type_id,
        reason: "typedefs, qualifiers or arrays do not end",
    }
}
