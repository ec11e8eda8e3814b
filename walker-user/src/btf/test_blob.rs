//! Builds small BTF blobs for the tests.
//!
//! Writes what it is told, valid or not: forged blobs are half of what is tested.

/// A blob under construction. Every `add…` returns the new type's id.
pub(crate) struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

/// A member of a struct: name, type id and the offset word (bits, or width and bits).
pub(crate) type Line<'a> = (&'a str, u32, u32);

pub(crate) const PTR: u8 = 2;
pub(crate) const STRUCT: u8 = 4;
pub(crate) const UNION: u8 = 5;
pub(crate) const FWD: u8 = 7;
pub(crate) const TYPEDEF: u8 = 8;
pub(crate) const VOLATILE: u8 = 9;
pub(crate) const CONST: u8 = 10;
pub(crate) const RESTRICT: u8 = 11;
pub(crate) const FUNC: u8 = 12;
pub(crate) const FLOAT: u8 = 16;
pub(crate) const TYPE_TAG: u8 = 18;

impl Blob {
    pub(crate) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    /// The id the next type will get, for types that refer to themselves.
    pub(crate) fn next_id(&self) -> u32 {
        self.count + 1
    }

    /// Any type: kind number, name, the info word's vlen and flag, size or type id, what follows.
    pub(crate) fn add_any(
        &mut self,
        kind: u8,
        name: &str,
        (vlen, flag): (u16, bool),
        size_or_type: u32,
        tail: &[u32],
    ) -> u32 {
        let name_offset = self.string(name);
        let info = u32::from(vlen) | u32::from(kind) << 24 | u32::from(flag) << 31;
        for word in [name_offset, info, size_or_type].iter().chain(tail) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    /// A type without elements: pointer, typedef, qualifier, float, tag, …
    pub(crate) fn add(&mut self, kind: u8, name: &str, size_or_type: u32) -> u32 {
        self.add_any(kind, name, (0, false), size_or_type, &[])
    }

    /// An integer of `size` bytes whose value has `bits` bits from bit `first` on.
    pub(crate) fn add_int(&mut self, name: &str, size: u32, first: u8, bits: u8) -> u32 {
        let encoding = u32::from_le_bytes([bits, 0, first, 0]);
        self.add_any(1, name, (0, false), size, &[encoding])
    }

    pub(crate) fn add_array(&mut self, element: u32, count: u32) -> u32 {
        self.add_any(3, "", (0, false), 0, &[element, element, count])
    }

    /// A struct or union whose offsets are plain.
    pub(crate) fn add_struct(
        &mut self,
        kind: u8,
        name: &str,
        size: u32,
        lines: &[Line<'_>],
    ) -> u32 {
        self.add_struct_with(kind, name, size, false, lines)
    }

    /// A struct or union; with `flag`, offset words are `width << 24 | bits`.
    pub(crate) fn add_struct_with(
        &mut self,
        kind: u8,
        name: &str,
        size: u32,
        flag: bool,
        lines: &[Line<'_>],
    ) -> u32 {
        let tail: Vec<u32> = lines
            .iter()
            .flat_map(|&(name, type_id, offset)| [self.string(name), type_id, offset])
            .collect();
        self.add_any(kind, name, (len_of(lines), flag), size, &tail)
    }

    pub(crate) fn add_enum(&mut self, name: &str, signed: bool, values: &[(&str, u32)]) -> u32 {
        let tail: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| [self.string(name), value])
            .collect();
        self.add_any(6, name, (len_of(values), signed), 4, &tail)
    }

    pub(crate) fn add_enum64(&mut self, name: &str, signed: bool, values: &[(&str, u64)]) -> u32 {
        let tail: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| {
                let [low, high] = [value as u32, (value >> 32) as u32];
                [self.string(name), low, high]
            })
            .collect();
        self.add_any(19, name, (len_of(values), signed), 8, &tail)
    }

    pub(crate) fn add_function_proto(&mut self, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let tail: Vec<u32> = parameters
            .iter()
            .flat_map(|&(name, type_id)| [self.string(name), type_id])
            .collect();
        self.add_any(13, "", (len_of(parameters), false), returns, &tail)
    }

    pub(crate) fn add_variable(&mut self, name: &str, type_id: u32) -> u32 {
        self.add_any(14, name, (0, false), type_id, &[1])
    }

    /// A section: type id, offset and size of each variable.
    pub(crate) fn add_section(&mut self, name: &str, variables: &[[u32; 3]]) -> u32 {
        self.add_any(
            15,
            name,
            (len_of(variables), false),
            0,
            variables.as_flattened(),
        )
    }

    pub(crate) fn add_decl_tag(&mut self, name: &str, target: u32) -> u32 {
        self.add_any(17, name, (0, false), target, &[u32::MAX])
    }

    /// The blob, with a header in front.
    pub(crate) fn finish(self) -> Vec<u8> {
        let type_len = u32::try_from(self.types.len()).expect("a small blob");
        let string_len = u32::try_from(self.strings.len()).expect("a small blob");
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, type_len, type_len, string_len] {
            blob.extend(u32::to_le_bytes(word));
        }
        blob.extend(self.types);
        blob.extend(self.strings);
        blob
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).expect("a small blob");
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }
}

fn len_of<T>(items: &[T]) -> u16 {
    u16::try_from(items.len()).expect("fewer than 65536 elements")
}
