use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A mapping whose name tells it from others.
fn mapping(start: u64, end: u64, file_offset: u64, name: u8) -> Mapping {
    Mapping {
        start,
        end,
        file_offset,
        backing: Backing::Special([name].into()),
    }
}

fn parts(space: &AddressSpace) -> Vec<(u64, u64, u64, u8)> {
    let part = |mapping: &Mapping| match &mapping.backing {
        Backing::Special(name) => (mapping.start, mapping.end, mapping.file_offset, name[0]),
        other => panic!("{other:?} was not inserted"),
    };
    space.iter().map(part).collect()
}

fn space(mappings: &[(u64, u64, u64, u8)]) -> AddressSpace {
    let mut space = AddressSpace::new();
    for &(start, end, offset, name) in mappings {
        assert!(space.insert(mapping(start, end, offset, name)));
    }
    space
}

#[test]
fn a_mapping_in_the_middle_of_another_splits_it() {
    let space = space(&[(10, 50, 1000, 1), (20, 30, 7, 2)]);
    assert_eq!(
        parts(&space),
        [(10, 20, 1000, 1), (20, 30, 7, 2), (30, 50, 1020, 1)]
    );
    assert_eq!(space.get(35).unwrap().offset_of(35), 1025);
}

#[test]
fn a_mapping_replaces_all_that_it_covers() {
    let space = space(&[
        (0, 10, 0, 1),
        (10, 20, 0, 2),
        (22, 24, 0, 3),
        (25, 35, 100, 4),
        (5, 30, 0, 5),
    ]);
    assert_eq!(
        parts(&space),
        [(0, 5, 0, 1), (5, 30, 0, 5), (30, 35, 105, 4)]
    );
}

#[test]
fn the_same_mapping_again_changes_nothing() {
    let twice = space(&[(10, 20, 0, 1), (10, 20, 0, 1)]);
    assert_eq!(parts(&twice), [(10, 20, 0, 1)]);
}

#[test]
fn addresses_are_found_up_to_the_end() {
    let space = space(&[(10, 20, 0, 1), (u64::MAX - 9, u64::MAX, 0, 2)]);
    for (address, found) in [
        (9, false),
        (10, true),
        (19, true),
        (20, false),
        (u64::MAX - 1, true),
        (u64::MAX, false),
    ] {
        assert_eq!(space.get(address).is_some(), found, "{address:#x}");
    }
}

#[test]
fn empty_and_backward_mappings_are_refused() {
    let mut space = AddressSpace::new();
    assert!(!space.insert(mapping(10, 10, 0, 1)));
    assert!(!space.insert(mapping(10, 9, 0, 1)));
    assert!(space.is_empty());
}

#[test]
fn there_is_a_limit() {
    let mut space = AddressSpace::new();
    // Downwards, which is the worst order for a sorted list.
    for number in (0..MAX_MAPPINGS as u64).rev() {
        assert!(space.insert(mapping(2 * number, 2 * number + 1, 0, 1)));
    }
    assert!(!space.insert(mapping(1 << 40, 1 << 41, 0, 2)));
    assert_eq!(space.len(), MAX_MAPPINGS);
    // In place of another there is room.
    assert!(space.insert(mapping(0, 1, 0, 2)));
    assert_eq!(space.len(), MAX_MAPPINGS);
}

proptest! {
    #[test]
    fn it_answers_as_a_table_of_all_addresses_does(
        changes in prop::collection::vec((0u64..200, 1u64..60, 0u64..1000, any::<u8>(), any::<bool>()), 0..60)
    ) {
        let mut space = AddressSpace::new();
        let mut table: HashMap<u64, (u64, u8)> = HashMap::new();
        for (start, len, offset, name, insert) in changes {
            if insert {
                space.insert(mapping(start, start + len, offset, name));
            } else {
                space.remove(start, start + len);
            }
            for into in 0..len {
                table.remove(&(start + into));
                if insert {
                    table.insert(start + into, (offset + into, name));
                }
            }
        }
        for address in 0..300 {
            let found = space.get(address).map(|mapping| {
                let Backing::Special(name) = &mapping.backing else {
                    panic!("not inserted")
                };
                (mapping.offset_of(address), name[0])
            });
            prop_assert_eq!(found, table.get(&address).copied());
        }
        let ends: Vec<_> = space.iter().flat_map(|mapping| [mapping.start, mapping.end]).collect();
        prop_assert!(ends.is_sorted());
        prop_assert!(space.iter().all(|mapping| mapping.start < mapping.end));
    }
}
