//! What [`super::Btf`] answers on blobs made for one point each, and on forged and damaged ones.
//! Real BTF is in [`super::kernel_tests`].

use proptest::prelude::{any, prop};
use proptest::{prop_assert, proptest};

use super::test_blob::{
    Blob, CONST, FLOAT, FUNC, FWD, PTR, RESTRICT, STRUCT, TYPE_TAG, TYPEDEF, UNION, VOLATILE,
};
use super::{Btf, BtfError, Member, PerCpuVariable};

fn parsed(blob: Blob) -> Btf {
    Btf::parse(blob.finish()).expect("a valid blob")
}

fn bits(bit_offset: u64, bit_size: u64) -> Member {
    Member {
        bit_offset,
        bit_size,
    }
}

/// One of everything.
fn sample() -> Blob {
    let mut blob = Blob::new();
    let int = blob.add_int("int", 4, 0, 32);
    let long = blob.add_int("long", 8, 0, 64);
    let pointer = blob.add(PTR, "", int);
    let array = blob.add_array(long, 3);
    let matrix = blob.add_array(array, 2);
    let flexible = blob.add_array(long, 0);
    let float = blob.add(FLOAT, "double", 8);
    let inner = blob.add_struct(
        STRUCT,
        "inner",
        16,
        &[("a", int, 0), ("b", int, 32), ("c", long, 64)],
    );
    let alias = blob.add(TYPEDEF, "inner_t", inner);
    let constant = blob.add(CONST, "", alias);
    let tagged = blob.add(TYPE_TAG, "tag", constant);
    let volatile = blob.add(VOLATILE, "", tagged);
    let restrict = blob.add(RESTRICT, "", pointer);
    let deep = blob.add_struct(STRUCT, "", 8, &[("x", int, 0), ("y", int, 32)]);
    let either = blob.add_struct(UNION, "", 8, &[("", deep, 0), ("whole", long, 0)]);
    blob.add_struct(
        STRUCT,
        "outer",
        144,
        &[
            ("head", long, 0),
            ("", either, 64),
            ("nested", volatile, 128),
            ("next", restrict, 256),
            ("rows", matrix, 320),
            ("real", float, 704),
            ("anything", alias, 768),
            ("tail", flexible, 1152),
        ],
    );
    // Widths 3 and 1 at bits 40 and 43, a whole byte, and padding without a name.
    blob.add_struct_with(
        STRUCT,
        "flags",
        8,
        true,
        &[
            ("plain", int, 0),
            ("", int, 8 << 24 | 32),
            ("kind", int, 3 << 24 | 40),
            ("signal", int, 1 << 24 | 43),
            ("byte", int, 8 << 24 | 48),
        ],
    );
    let odd = blob.add_int("int:5", 4, 2, 5);
    blob.add_struct(STRUCT, "old_flags", 4, &[("five", odd, 8)]);
    blob.add_enum("colour", false, &[("RED", 0), ("GREEN", u32::MAX)]);
    blob.add_enum("signed_colour", true, &[("BLUE", u32::MAX), ("RED", 0)]);
    blob.add_enum64("wide", false, &[("WIDE", 1 << 40), ("TOO_WIDE", u64::MAX)]);
    blob.add_enum64("signed_wide", true, &[("MINUS_TWO", u64::MAX - 1)]);
    blob.add(FWD, "elsewhere", 0);
    let proto = blob.add_function_proto(int, &[("a", int), ("b", pointer)]);
    let function = blob.add(FUNC, "do_it", proto);
    blob.add_decl_tag("note", function);
    let first = blob.add_variable("first", int);
    let second = blob.add_variable("second", inner);
    blob.add_section(".data..percpu", &[[first, 8, 4], [second, 64, 16]]);
    blob
}

#[test]
fn members_are_found_through_anonymous_structs_and_qualifiers() {
    let btf = parsed(sample());
    for (path, expected) in [
        ("inner.c", bits(64, 64)),
        ("outer.head", bits(0, 64)),
        ("outer.x", bits(64, 32)),
        ("outer.y", bits(96, 32)),
        ("outer.whole", bits(64, 64)),
        ("outer.nested", bits(128, 128)),
        ("outer.nested.b", bits(160, 32)),
        ("outer.next", bits(256, 64)),
        ("outer.rows", bits(320, 6 * 64)),
        ("outer.real", bits(704, 64)),
        ("outer.anything.c", bits(832, 64)),
        ("outer.tail", bits(1152, 0)),
    ] {
        assert_eq!(btf.member(path).expect(path), expected, "{path}");
    }
    assert_eq!(btf.size_of("outer").expect("outer"), 144);
}

#[test]
fn a_bitfield_has_its_width_and_no_byte_offset() {
    let btf = parsed(sample());
    let kind = btf.member("flags.kind").expect("kind");
    assert_eq!(kind, bits(40, 3));
    assert_eq!((kind.byte_offset(), kind.byte_size()), (None, None));
    assert_eq!(btf.member("flags.signal").expect("signal"), bits(43, 1));
    let byte = btf.member("flags.byte").expect("byte");
    assert_eq!((byte.byte_offset(), byte.byte_size()), (Some(6), Some(1)));
    let plain = btf.member("flags.plain").expect("plain");
    assert_eq!((plain.byte_offset(), plain.byte_size()), (Some(0), Some(4)));
    // The older form: the width and a further offset are in the integer type.
    assert_eq!(btf.member("old_flags.five").expect("five"), bits(10, 5));
}

#[test]
fn what_is_missing_is_named() {
    let btf = parsed(sample());
    let message = |path| btf.member(path).expect_err(path).to_string();
    assert_eq!(message("nowhere.x"), "no struct or union `nowhere` in BTF");
    assert_eq!(
        message("outer.nested.z"),
        "no member `outer.nested.z` in BTF"
    );
    assert_eq!(message("outer.nope.z"), "no member `outer.nope` in BTF");
    assert_eq!(
        message("outer.next.a"),
        "`outer.next` is a pointer, which has no members"
    );
    assert_eq!(
        message("outer.rows.a"),
        "`outer.rows` is an array, which has no members"
    );
    for path in ["", "outer", "outer.", ".x", "outer..x", "."] {
        assert!(
            matches!(btf.member(path), Err(BtfError::BadPath { .. })),
            "{path}"
        );
    }
    // A typedef, an enum and a forward declaration are not structs.
    for path in ["inner_t.a", "colour.RED", "elsewhere.a"] {
        assert!(
            matches!(btf.member(path), Err(BtfError::NoSuchType { .. })),
            "{path}"
        );
        assert_eq!(btf.find_member(path).expect(path), None);
    }
    assert_eq!(btf.find_member("inner.zzz").expect("inner"), None);
    assert!(btf.find_member("outer.next.a").is_err());
}

#[test]
fn a_definition_is_listed_in_order() {
    let btf = parsed(sample());
    let listed: Vec<_> = btf
        .members_of("outer")
        .expect("outer")
        .into_iter()
        .map(|member| (member.name, member.bit_offset, member.size_bytes))
        .collect();
    let expected = [
        ("head", 0, 8),
        ("", 64, 8),
        ("nested", 128, 16),
        ("next", 256, 8),
        ("rows", 320, 48),
        ("real", 704, 8),
        ("anything", 768, 16),
        ("tail", 1152, 0),
    ]
    .map(|(name, at, size)| (name.to_owned(), at, size));
    assert_eq!(listed, expected);
}

#[test]
fn enumerators_keep_their_sign() {
    let btf = parsed(sample());
    let value = |of, name| btf.enum_value(of, name).expect(name);
    assert_eq!(value(Some("colour"), "GREEN"), i64::from(u32::MAX));
    assert_eq!(value(Some("signed_colour"), "BLUE"), -1);
    assert_eq!(value(None, "WIDE"), 1 << 40);
    assert_eq!(value(None, "MINUS_TWO"), -2);
    // In two enumerations, with one value.
    assert_eq!(value(None, "RED"), 0);
    assert!(matches!(
        btf.enum_value(Some("wide"), "TOO_WIDE"),
        Err(BtfError::Malformed { .. })
    ));
    assert!(matches!(
        btf.enum_value(Some("colour"), "BLUE"),
        Err(BtfError::NoSuchEnumerator { .. })
    ));
    assert!(matches!(
        btf.enum_value(None, "BLACK"),
        Err(BtfError::NoSuchEnumerator { .. })
    ));
    assert!(matches!(
        btf.enum_value(Some("inner"), "RED"),
        Err(BtfError::NoSuchType { .. })
    ));
}

#[test]
fn percpu_variables_are_found_in_either_section() {
    let btf = parsed(sample());
    assert_eq!(btf.percpu_offset("second").expect("second"), 64);
    assert_eq!(btf.percpu_size("second").expect("second"), 16);
    assert_eq!(
        btf.find_percpu("first").expect("first"),
        Some(PerCpuVariable { offset: 8, size: 4 })
    );
    assert_eq!(btf.find_percpu("third").expect("third"), None);
    assert!(matches!(
        btf.percpu_offset("third"),
        Err(BtfError::NoSuchVariable { .. })
    ));

    let mut blob = Blob::new();
    let int = blob.add_int("int", 4, 0, 32);
    let old = blob.add_variable("old", int);
    blob.add_section(".data.percpu", &[[old, 16, 4]]);
    assert_eq!(parsed(blob).percpu_offset("old").expect("old"), 16);

    let error = parsed(Blob::new())
        .find_percpu("any")
        .expect_err("no section");
    assert!(matches!(error, BtfError::NoPerCpuSection));
    assert!(error.is_absent());
}

#[test]
fn definitions_that_disagree_are_refused() {
    let mut blob = Blob::new();
    let int = blob.add_int("int", 4, 0, 32);
    let long = blob.add_int("long", 8, 0, 64);
    blob.add_struct(STRUCT, "twin", 16, &[("same", int, 0), ("moved", int, 32)]);
    blob.add_struct(
        STRUCT,
        "twin",
        16,
        &[("same", int, 0), ("moved", int, 64), ("extra", int, 32)],
    );
    blob.add_struct(UNION, "twin", 16, &[("same", int, 0), ("moved", long, 64)]);
    blob.add_struct(STRUCT, "copy", 4, &[("a", int, 0)]);
    blob.add_struct(STRUCT, "copy", 4, &[("a", int, 0)]);
    blob.add_enum("e", false, &[("A", 1), ("B", 1)]);
    blob.add_enum("f", false, &[("A", 2), ("B", 1)]);
    let [one, two] = [blob.add_variable("v", int), blob.add_variable("v", int)];
    blob.add_section(".data..percpu", &[[one, 0, 4], [two, 8, 4]]);
    let btf = parsed(blob);

    let ambiguous = |error: BtfError, expected: usize| {
        assert!(
            matches!(error, BtfError::Ambiguous { count, .. } if count == expected),
            "{error}"
        );
    };
    assert_eq!(btf.member("twin.same").expect("same"), bits(0, 32));
    assert_eq!(btf.size_of("twin").expect("twin"), 16);
    ambiguous(btf.member("twin.moved").expect_err("moved"), 3);
    ambiguous(btf.find_member("twin.extra").expect_err("extra"), 3);
    ambiguous(btf.members_of("twin").expect_err("twin"), 3);
    // All of them lack it: that is an answer.
    assert_eq!(btf.find_member("twin.none").expect("none"), None);
    assert_eq!(btf.members_of("copy").expect("copy").len(), 1);
    ambiguous(btf.enum_value(None, "A").expect_err("A"), 2);
    assert_eq!(btf.enum_value(None, "B").expect("B"), 1);
    assert_eq!(btf.enum_value(Some("f"), "A").expect("f"), 2);
    ambiguous(btf.percpu_offset("v").expect_err("v"), 2);
}

#[test]
fn cycles_end_with_an_error() {
    let mut blob = Blob::new();
    let first = blob.next_id();
    blob.add(TYPEDEF, "a", first + 1);
    blob.add(CONST, "", first);
    let array = blob.next_id();
    blob.add_array(array, 1);
    blob.add_struct(STRUCT, "loops", 8, &[("a", first, 0), ("b", array, 0)]);
    let own = blob.next_id();
    blob.add_struct(STRUCT, "own", 8, &[("", own, 0)]);
    let wide = blob.next_id();
    let lines: Vec<_> = (0..40).map(|_| ("", wide, 0)).collect();
    blob.add_struct(STRUCT, "wide", 8, &lines);
    let btf = parsed(blob);
    for path in ["loops.a", "loops.b", "loops.a.x", "own.x", "wide.x"] {
        let error = btf.member(path).expect_err(path);
        assert!(matches!(error, BtfError::Malformed { .. }), "{error}");
    }
    assert!(btf.members_of("loops").is_err());
}

#[test]
fn shared_anonymous_structs_do_not_multiply_the_work() {
    // 64 structs inside each other's neighbour, 20 levels: 64^20 paths.
    let mut blob = Blob::new();
    let mut below = blob.add_struct(STRUCT, "", 1, &[]);
    for _ in 0..20 {
        let lines = [("", below, 0); 64];
        below = blob.add_struct(STRUCT, "", 1, &lines);
    }
    blob.add_struct(STRUCT, "top", 1, &[("", below, 0)]);
    let error = parsed(blob).member("top.x").expect_err("x");
    assert!(matches!(error, BtfError::TooManyMembers { .. }), "{error}");
}

#[test]
fn impossible_layouts_are_refused() {
    let mut blob = Blob::new();
    let int = blob.add_int("int", 4, 0, 32);
    let mut huge = int;
    for _ in 0..3 {
        huge = blob.add_array(huge, u32::MAX);
    }
    let proto = blob.add_function_proto(0, &[]);
    blob.add_struct(
        STRUCT,
        "bad",
        8,
        &[
            ("outside", int, 48),
            ("huge", huge, 0),
            ("void", 0, 0),
            ("function", proto, 0),
            ("missing", 999, 0),
        ],
    );
    let btf = parsed(blob);
    for path in [
        "bad.outside",
        "bad.huge",
        "bad.void",
        "bad.function",
        "bad.missing",
        "bad.missing.x",
    ] {
        let error = btf.member(path).expect_err(path);
        assert!(matches!(error, BtfError::Malformed { .. }), "{error}");
    }
}

#[test]
fn other_files_are_refused() {
    let parse = |bytes: &[u8]| Btf::parse(bytes.to_vec()).expect_err("not BTF");
    assert!(matches!(parse(b""), BtfError::Truncated { .. }));
    assert!(matches!(
        parse(b"\x7fELF"),
        BtfError::BadMagic { found: 0x457f }
    ));
    assert!(matches!(parse(b"\xeb\x9f\x01\x00"), BtfError::BigEndian));
    assert!(matches!(
        parse(b"\x9f\xeb\x01\x00"),
        BtfError::Truncated { .. }
    ));
    let mut version = sample().finish();
    version[2] = 2;
    assert!(matches!(
        parse(&version),
        BtfError::UnsupportedVersion { found: 2 }
    ));
    let missing = Btf::from_file("/nonexistent/btf").expect_err("no file");
    assert!(missing.to_string().contains("/nonexistent/btf"));
}

#[test]
fn unknown_kinds_and_reserved_bits_are_refused() {
    for kind in [0, 20, 31, 127] {
        let mut blob = Blob::new();
        blob.add(kind, "new", 0);
        assert!(
            matches!(
                Btf::parse(blob.finish()),
                Err(BtfError::UnknownKind { type_id: 1, kind: k }) if k == kind
            ),
            "{kind}"
        );
    }
    let mut blob = Blob::new();
    blob.add(PTR, "", 0);
    let mut bytes = blob.finish();
    bytes[24 + 6] = 1;
    assert!(matches!(
        Btf::parse(bytes),
        Err(BtfError::Malformed { type_id: 1, .. })
    ));
}

#[test]
fn a_longer_header_is_skipped() {
    let mut bytes = sample().finish();
    bytes[4] = 32;
    bytes.splice(24..24, [0; 8]);
    let btf = Btf::parse(bytes).expect("a valid blob");
    assert_eq!(btf.size_of("inner").expect("inner"), 16);
}

#[test]
fn names_longer_than_the_kernel_allows_are_refused() {
    for (len, valid) in [(512, true), (513, false)] {
        let mut blob = Blob::new();
        let name = "n".repeat(len);
        blob.add_struct(STRUCT, &name, 4, &[]);
        match Btf::parse(blob.finish()) {
            Ok(btf) => assert_eq!((btf.size_of(&name).expect("found"), valid), (4, true)),
            Err(error) => assert!(!valid, "{error}"),
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample().finish();
    for len in 0..bytes.len() {
        assert!(Btf::parse(bytes[..len].to_vec()).is_err(), "{len} bytes");
    }
}

/// Asks everything of a blob that may be forged. Only that this ends without a panic matters.
fn ask_everything(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for name in ["outer", "inner", "flags", "old_flags", "colour"] {
        let _ = btf.size_of(name);
        let _ = btf.members_of(name);
    }
    for path in ["outer.x", "outer.nested.b", "outer.rows", "flags.kind"] {
        let _ = btf.member(path);
    }
    for of in [Some("colour"), Some("wide"), None] {
        let _ = btf.enum_value(of, "RED");
        let _ = btf.enum_value(of, "TOO_WIDE");
    }
    let _ = btf.find_percpu("second");
    let _ = format!("{btf:?}");
}

proptest! {
    #[test]
    fn damaged_blobs_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = sample().finish();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        ask_everything(bytes);
    }

    #[test]
    fn random_types_do_no_harm(types in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = Blob::new().finish();
        let len = u32::try_from(types.len()).expect("small");
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        bytes.splice(24..24, types);
        ask_everything(bytes);
    }

    /// Small type ids and kinds, so that most references hit a type and chains get long.
    #[test]
    fn random_graphs_do_no_harm(
        types in prop::collection::vec(
            (1_u8..20, 0_u32..40, prop::collection::vec((0_u32..40, 0_u32..200), 0..6)),
            1..40,
        ),
    ) {
        let mut blob = Blob::new();
        for (kind, target, elements) in types {
            let vlen = u16::try_from(elements.len()).expect("small");
            let tail: Vec<u32> = match kind {
                1 | 14 | 17 => vec![target],
                3 => vec![target, 0, 7],
                4 | 5 | 15 | 19 => elements
                    .iter()
                    .flat_map(|&(type_id, offset)| [0, type_id, offset])
                    .collect(),
                6 | 13 => elements
                    .iter()
                    .flat_map(|&(type_id, _)| [0, type_id])
                    .collect(),
                _ => Vec::new(),
            };
            blob.add_any(kind, "outer", (vlen, target % 2 == 0), target, &tail);
        }
        let bytes = blob.finish();
        prop_assert!(Btf::parse(bytes.clone()).is_ok());
        ask_everything(bytes);
    }
}
