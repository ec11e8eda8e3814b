//! What the store keeps, what it forgets, and what it sends of that.

use std::time::Duration;

use serde_json::Value;
use walker_common::StackKind;

use super::*;
use crate::{
    live::{
        Health,
        wire::{Encoder, Heading},
    },
    symbolize::KernelSymbol,
};

const SECOND: u32 = (1_000_000_000 / SLOT_NS) as u32;

fn store() -> Store {
    Store::new(Meta::default(), false, 1)
}

fn encoder() -> Encoder {
    Encoder::new(Heading {
        began_ms: 1_000,
        cpus: vec![0, 1],
    })
}

/// The number of a stack of these kernel functions, root first, which are at addresses that tell
/// them apart.
fn stack(store: &mut Store, functions: &[&str]) -> u32 {
    let frames = functions.iter().zip(1..).map(|(name, place)| {
        let symbol = KernelSymbol {
            name: (*name).to_owned(),
            ..KernelSymbol::default()
        };
        let address = 0xffff_ffff_8000_0000 + place;
        store
            .profile
            .kernel_frame(Some(&symbol), (address, address), StackKind::Task, true)
    });
    let frames = frames.collect();
    let comm = store.profile.intern("program");
    store.stack(NamedStack {
        process: comm,
        comm,
        pid: Some(7),
        event: 0,
        frames,
        stop: "end of stack",
        complete: true,
    })
}

/// The leaves of a profile with their samples.
fn leaves(profile: &Profile) -> Vec<(String, u64)> {
    let mut leaves: Vec<(String, u64)> = profile
        .stacks()
        .iter()
        .map(|stack| {
            let leaf = profile.label(*stack.frames.last().unwrap()).name;
            (profile.text(leaf).to_owned(), stack.samples)
        })
        .collect();
    leaves.sort();
    leaves
}

fn last(store: &Store, seconds: u64) -> Vec<(String, u64)> {
    leaves(&store.window(Window::Last(Duration::from_secs(seconds))).0)
}

/// Two stacks that have samples in some slots, and one that has none.
#[test]
fn samples_are_told_one_by_one_while_their_times_are_kept() {
    let mut store = store();
    let stacks = ["unused", "first", "second"].map(|name| stack(&mut store, &[name]));
    for _ in 0..2 {
        store.add(3, 1, stacks[1], 5);
    }
    store.add(3, 1, stacks[1], 1);
    store.add(4, 0, stacks[2], 1);
    store.flush(4);
    let (profile, points, from) = store.samples(Window::Slots(3, 9)).unwrap();
    assert_eq!(from, 3);
    assert_eq!(profile.stacks().len(), 2);
    let third = SLOT_NS / 3;
    let told: Vec<_> = points
        .iter()
        .map(|point| (point.time_ns, point.stack, point.cpu, point.weight))
        .collect();
    let expected = [
        (0, 0, 1, 4),
        (third, 0, 1, 4),
        (2 * SLOT_NS / 3, 0, 1, 3),
        (SLOT_NS, 1, 0, 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        points.iter().map(|point| point.number).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(store.samples(Window::Start).is_ok());
    store.flush(KEPT_SLOTS + 5);
    assert_eq!(store.samples(Window::Start).unwrap_err(), NotSingle::TooOld);
}

#[test]
fn windows_hold_what_was_sampled_in_them() {
    let mut store = store();
    let [read, write] = ["read", "write"].map(|name| stack(&mut store, &["main", name]));
    store.add(0, 0, read, 1);
    store.flush(1);
    store.add(10 * SECOND, 1, write, 1);
    store.add(10 * SECOND, 0, write, 1);
    store.flush(10 * SECOND + 1);
    assert_eq!(last(&store, 5), [("write".to_owned(), 2)]);
    let both = [("read".to_owned(), 1), ("write".to_owned(), 2)];
    assert_eq!(last(&store, 60), both);
    assert_eq!(leaves(&store.window(Window::Start).0), both);
    let slots = Window::Slots(0, 10 * SECOND);
    assert_eq!(leaves(&store.window(slots).0), both[..1]);
}

#[test]
fn old_rows_are_forgotten_but_not_their_sums() {
    let mut store = store();
    let old = stack(&mut store, &["old"]);
    store.add(3, 0, old, 1);
    store.flush(4);
    store.flush(KEPT_SLOTS + 3);
    assert_eq!(store.rows.len(), 1);
    store.flush(KEPT_SLOTS + 4);
    assert_eq!((store.rows.len(), store.first_slot), (0, 4));
    assert_eq!(last(&store, 1000), []);
    assert_eq!(
        leaves(&store.window(Window::Start).0),
        [("old".to_owned(), 1)]
    );
}

#[test]
fn what_moves_is_counted_once_wherever_it_is() {
    let mut store = store();
    let [first, then, end] = ["first", "then", "end"].map(|name| stack(&mut store, &[name]));
    store.add(1, 0, first, 1);
    store.flush(2);
    // One that is still to be put in order, and two moves at once.
    store.add(2, 0, first, 1);
    store.move_stack(first, then);
    store.move_stack(then, end);
    let flushed = store.flush(3);
    assert_eq!(flushed.moved, [(first, then), (then, end)]);
    assert_eq!(flushed.rows[0].stack, end);
    assert_eq!(last(&store, 10), [("end".to_owned(), 2)]);
    assert_eq!(
        leaves(&store.window(Window::Start).0),
        [("end".to_owned(), 2)]
    );
}

#[test]
fn late_samples_do_not_go_before_what_was_told() {
    let mut store = store();
    let stack = stack(&mut store, &["f"]);
    store.add(9, 0, stack, 1);
    store.flush(10);
    store.add(7, 0, stack, 1);
    store.flush(10);
    assert!(store.rows.iter().is_sorted_by_key(|row| row.slot));
    assert_eq!(store.rows[1].slot, 9);
}

#[test]
fn what_comes_for_a_closed_slot_counts_for_the_first_that_is_open() {
    let mut store = store();
    let stack = stack(&mut store, &["main"]);
    let samples = |store: &Store, from, to| {
        let (profile, _) = store.window(Window::Slots(from, to));
        profile.meta.totals.delivered
    };
    store.add(3, 0, stack, 1);
    store.flush(5);
    store.add(4, 0, stack, 1);
    store.close(8);
    store.add(5, 0, stack, 1);
    store.add(9, 0, stack, 1);
    assert_eq!(samples(&store, 0, 8), 1);
    store.flush(10);
    assert_eq!(
        [
            samples(&store, 0, 8),
            samples(&store, 8, 9),
            samples(&store, 9, 10)
        ],
        [1, 2, 1]
    );
    // That is so for ever.
    store.close(2);
    let mut store = store.next_generation();
    store.close(10);
    store.add(1, 0, 0, 1);
    store.flush(11);
    assert_eq!(samples(&store, 0, 10), 4);
}

#[test]
fn addresses_of_the_kernel_are_not_kept() {
    let mut store = store();
    stack(&mut store, &["secret"]);
    let frames = store.profile.stacks()[0].frames.clone();
    assert!(
        frames
            .iter()
            .all(|id| store.profile.frame(*id).address == 0)
    );
    let delta = encoder()
        .delta(&mut store, &Flushed::default(), &Health::default())
        .unwrap();
    assert!(
        delta.contains("secret") && !delta.contains("18446744071562067969"),
        "{delta}"
    );

    let mut told = Store::new(Meta::default(), true, 1);
    stack(&mut told, &["secret"]);
    let delta = encoder()
        .delta(&mut told, &Flushed::default(), &Health::default())
        .unwrap();
    assert!(delta.contains("18446744071562067969"), "{delta}");
}

/// A client: what it knows of tables and sums.
#[derive(Debug, Default, PartialEq)]
struct Client {
    tables: Vec<Vec<Value>>,
    sums: Vec<u64>,
    rows: Vec<u64>,
}

const TABLES: [&str; 8] = [
    "texts", "labels", "frames", "objects", "heads", "stops", "nodes", "stacks",
];

impl Client {
    fn read(&mut self, text: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        self.tables.resize(TABLES.len(), Vec::new());
        for (table, name) in self.tables.iter_mut().zip(TABLES) {
            table.extend(value[name].as_array().unwrap().iter().cloned());
        }
        self.sums.resize(self.tables[7].len(), 0);
        let number = |value: &Value| value.as_u64().unwrap();
        for moved in value["moved"].as_array().into_iter().flatten() {
            let [from, to] = [0, 1].map(|end| number(&moved[end]) as usize);
            self.sums[to] += std::mem::take(&mut self.sums[from]);
            for row in self.rows.chunks_exact_mut(5) {
                if row[2] == from as u64 {
                    row[2] = to as u64;
                }
            }
        }
        for sum in value["sums"].as_array().into_iter().flatten() {
            self.sums[number(&sum[0]) as usize] += number(&sum[1]);
        }
        let rows = value["rows"].as_array().unwrap();
        for row in rows.chunks_exact(5) {
            let row: Vec<u64> = row.iter().map(number).collect();
            if value["sums"].is_null() {
                self.sums[row[2] as usize] += row[3];
            }
            self.rows.extend(row);
        }
    }
}

#[test]
fn a_snapshot_is_the_sum_of_all_deltas() {
    let mut store = store();
    let mut encoder = encoder();
    let health = Health::default();
    let mut from_deltas = Client::default();
    let names = ["a", "b", "<script>", "c", "a"];
    for (step, name) in (0_u32..).zip(names) {
        let stack = stack(&mut store, &["main", name]);
        store.add(step, step % 2, stack, 1);
        if step == 2 {
            store.move_stack(0, stack);
        }
        let flushed = store.flush(step + 1);
        from_deltas.read(&encoder.delta(&mut store, &flushed, &health).unwrap());
        // What comes after the delta is not in the snapshot: the next delta tells it.
        let later = self::stack(&mut store, &["main", "later", name]);
        store.add(step + 1, 0, later, 1);
        let mut from_snapshot = Client::default();
        from_snapshot.read(&encoder.snapshot(&mut store, &health).unwrap());
        assert_eq!(from_snapshot, from_deltas, "step {step}");
    }
}

#[test]
fn a_new_generation_keeps_what_matters() {
    let mut store = store();
    let mut counted = 0;
    for number in 0..MAX_STACKS + 10 {
        let functions = [format!("f{number}"), format!("g{number}")];
        let stack = stack(&mut store, &["main", &functions[0], &functions[1]]);
        // The first ones are old, but one of them is the heaviest of all.
        let slot = if number < MAX_STACKS / 2 {
            0
        } else {
            KEPT_SLOTS
        };
        let samples = if number == 17 { 100 } else { 1 };
        for _ in 0..samples {
            store.add(slot, 0, stack, 1);
        }
        counted += samples;
        if number == MAX_STACKS / 2 {
            store.flush(KEPT_SLOTS);
        }
    }
    store.flush(KEPT_SLOTS + 1);
    assert!(store.is_full());
    let next = store.next_generation();
    assert!(!next.is_full());
    assert_eq!(next.generation, store.generation + 1);
    let all = next.window(Window::Start).0;
    assert_eq!(all.samples(), counted);
    let kept = leaves(&all);
    assert!(kept.contains(&("g17".to_owned(), 100)));
    // What was cut off stands where it was, and is counted.
    let cut = all.stacks().iter().find(|stack| {
        let names = all.path(stack, false).map(|label| all.text(label.name));
        names.eq(["program", "main", FORGOTTEN])
    });
    assert!(cut.unwrap().samples > 1000);
    assert!(next.nodes.rows().len() <= KEPT_NODES + 2);
    // The rows are those that were there, of the same functions.
    let [before, after] = [&store, &next].map(|store| store.window(Window::Slots(1, u32::MAX)).0);
    assert_eq!(before.samples(), after.samples());
    assert!(after.stacks().len() > MAX_STACKS / 3);
}
