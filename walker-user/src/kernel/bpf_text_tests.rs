use std::collections::HashMap;

use super::*;

const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// Sparse memory of 64-bit words.
#[derive(Default)]
struct Words(HashMap<u64, u64>);

impl Words {
    fn put(&mut self, address: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.0.insert(address + 8 * index as u64, *word);
        }
    }
}

impl KernelMemory for Words {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        for at in (0..length as u64).step_by(8) {
            let word = self.0.get(&(address + at)).ok_or(ReadError {
                address,
                length,
                reason: "not there".to_owned(),
            })?;
            bytes.extend(word.to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

const OFFSETS: BpfTextOffsets = BpfTextOffsets {
    task_files: 8,
    files_fdt: 0,
    fdt_fd: 0,
    file_private_data: 16,
    prog_aux: 8,
    aux_ksym: 0x100,
    ksym_start: 0,
    ksym_end: 8,
    ksym_name: 16,
    ksym_lnode: 16 + 128,
};

/// One entry of the list at `ksym`, linked to `next`.
fn ksym(memory: &mut Words, ksym: u64, range: (u64, u64), name: &[u8; 8], next: u64) {
    memory.put(ksym, &[range.0, range.1]);
    memory.put(ksym + 16, &[0; 16]);
    memory.put(ksym + 16, &[u64::from_le_bytes(*name)]);
    memory.put(ksym + OFFSETS.ksym_lnode, &[next]);
}

/// A process whose descriptor 3 is a program at the start of a list.
fn process() -> (Words, u64, u64) {
    let mut memory = Words::default();
    let (task, files, table, array, file, prog, aux) =
        (0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000);
    memory.put(task + 8, &[files]);
    memory.put(files, &[table]);
    memory.put(table, &[array]);
    memory.put(array + 3 * 8, &[file]);
    memory.put(file + 16, &[prog]);
    memory.put(prog + 8, &[aux]);
    (memory, task, aux + OFFSETS.aux_ksym)
}

#[test]
fn the_list_is_followed_past_its_head_and_back_to_the_start() {
    let (mut memory, task, own) = process();
    let (head, other) = (IMAGE + 0x10_0000, 0x9000);
    ksym(
        &mut memory,
        own,
        (IMAGE + 0x500, IMAGE + 0x600),
        b"own\0\0\0\0\0",
        head,
    );
    memory.put(head, &[other + OFFSETS.ksym_lnode]);
    let back = own + OFFSETS.ksym_lnode;
    ksym(
        &mut memory,
        other,
        (IMAGE + 0x100, IMAGE + 0x200),
        b"hidden\0x",
        back,
    );
    let symbols = read(&mut memory, &OFFSETS, task, 3, IMAGE).unwrap();
    let names: Vec<_> = symbols.iter().map(|symbol| symbol.name.as_str()).collect();
    assert_eq!(names, ["hidden", "own"]);
    assert_eq!(
        find(&symbols, IMAGE + 0x1ff).map(|symbol| symbol.name.as_str()),
        Some("hidden")
    );
    assert_eq!(find(&symbols, IMAGE + 0x200), None);
    assert_eq!(find(&symbols, IMAGE), None);
}

#[test]
fn a_list_that_never_returns_ends() {
    let (mut memory, task, own) = process();
    let other = 0x9000;
    ksym(
        &mut memory,
        own,
        (IMAGE, IMAGE + 1),
        b"own\0\0\0\0\0",
        other + OFFSETS.ksym_lnode,
    );
    // Links to itself instead of back to the start.
    ksym(
        &mut memory,
        other,
        (0, 1),
        b"\0\0\0\0\0\0\0\0",
        other + OFFSETS.ksym_lnode,
    );
    assert_eq!(
        read(&mut memory, &OFFSETS, task, 3, IMAGE).unwrap().len(),
        1
    );
}

#[test]
fn a_broken_way_to_the_list_is_an_error() {
    let (mut memory, task, _) = process();
    assert!(read(&mut memory, &OFFSETS, task, 4, IMAGE).is_err());
}
