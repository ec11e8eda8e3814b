use super::*;
use crate::core_dump::{paging::PagingMode, test_machine::TestMachine};

const BASE: u64 = 0xffff_c900_0000_0000;

fn memory(machine: &TestMachine) -> CoreMemory {
    let file = CoreFile::open(Box::new(machine.core())).unwrap();
    CoreMemory::new(file, machine.tables())
}

#[test]
fn a_read_goes_on_in_the_next_page_wherever_that_is() {
    let mut machine = TestMachine::new(PagingMode::FourLevel);
    // Neighbours here are not neighbours in physical memory.
    machine.map(BASE + 0x1000, false);
    machine.map(BASE, false);
    machine.write(BASE + 0xffc, b"memory!?");
    let mut memory = memory(&machine);
    assert_eq!(memory.read(BASE + 0xffc, 8).unwrap(), b"memory!?");
    assert_eq!(
        memory.read_u32(BASE + 0x1000).unwrap(),
        u32::from_le_bytes(*b"ry!?")
    );
    let error = memory.read(BASE + 0x1ffc, 8).unwrap_err();
    assert!(error.reason.contains("not mapped"), "{error}");
    assert!(memory.read(u64::MAX, 8).is_err());
    let error = memory.read(BASE, MAX_READ + 1).unwrap_err();
    assert!(error.reason.contains("at once"), "{error}");
}

#[test]
fn addresses_of_32_bit_kernels_have_32_bits() {
    let mut machine = TestMachine::new(PagingMode::Pae);
    machine.put(0xc000_0000, 0x1234_5678);
    let memory = memory(&machine);
    assert_eq!(memory.word_at(0xc000_0000), Ok(0x1234_5678));
    assert!(memory.word_at(0x1_c000_0000).is_err());
    assert!(memory.word_at(0xffff_ffff_c000_0000).is_err());
}

#[test]
fn pages_that_can_be_code_are_found_and_joined() {
    let mut machine = TestMachine::new(PagingMode::FourLevel);
    for (page, executable) in [(1, true), (2, true), (3, false), (5, true)] {
        machine.map(BASE + 0x1000 * page, executable);
    }
    let range = |begin: u64, end: u64| TextRange {
        begin: BASE + begin,
        end: BASE + end,
    };
    let memory = memory(&machine);
    assert_eq!(
        memory.executable(BASE, BASE + (4 << 30)),
        [range(0x1000, 0x3000), range(0x5000, 0x6000)]
    );
    assert_eq!(
        memory.executable(BASE + 0x1800, BASE + 0x2000),
        [range(0x1800, 0x2000)]
    );
    assert_eq!(memory.executable(BASE, BASE), []);
}
