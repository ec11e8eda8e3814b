use proptest::prelude::*;

use super::*;
use crate::core_dump::test_machine::{note, qemu_state};

fn status_64(ip: u64) -> Vec<u8> {
    let mut status = vec![0; 112];
    for index in 0..27u64 {
        let value = if index == 16 { ip } else { index };
        status.extend(value.to_le_bytes());
    }
    status.resize(336, 0);
    status
}

/// The state of a CPU, every register of it another number.
fn system(cr3: u64) -> SystemRegisters {
    SystemRegisters {
        cr3,
        cr4: 0x20,
        fs_base: 0x3000,
        gs_base: 0x4000,
        kernel_gs_base: 0x77,
        tr_base: 0x7000,
        gdt_base: 0x8000,
    }
}

fn qemu(cr3: u64) -> Vec<u8> {
    qemu_state(&system(cr3))
}

#[test]
fn registers_of_both_word_sizes() {
    let notes = Notes::parse(&note(b"CORE\0", 1, &status_64(0x99)), WordSize::Eight).unwrap();
    let registers = notes.cpus[0].registers;
    assert_eq!((registers.ip, registers.sp, registers.bp), (0x99, 19, 4));
    assert_eq!(
        (registers.cs, registers.r15, registers.orig_ax),
        (17, 0, 15)
    );

    let mut status = vec![0; 72];
    for index in 0..17u32 {
        status.extend((index | 0xabcd_0000).to_le_bytes());
    }
    status.resize(144, 0);
    let notes = Notes::parse(&note(b"CORE\0", 1, &status), WordSize::Four).unwrap();
    let registers = notes.cpus[0].registers;
    assert_eq!((registers.ip, registers.sp), (0xabcd_000c, 0xabcd_000f));
    assert_eq!(registers.bp, 0xabcd_0005);
    assert_eq!(
        (registers.cs, registers.ss),
        (13, 16),
        "selectors have 16 bits"
    );
}

#[test]
fn qemus_notes_belong_to_the_cpus_in_their_order() {
    let mut bytes = note(b"CORE\0", 1, &status_64(1));
    bytes.extend(note(b"CORE\0", 1, &status_64(2)));
    bytes.extend(note(b"QEMU\0", 0, &qemu(0x1000)));
    bytes.extend(note(b"QEMU\0", 0, &qemu(0x2000)));
    let notes = Notes::parse(&bytes, WordSize::Eight).unwrap();
    let of = |cpu: usize| notes.cpus[cpu].system.unwrap();
    assert_eq!((of(0).cr3, of(1).cr3), (0x1000, 0x2000));
    assert_eq!(of(0), system(0x1000));
    // The state of older versions ends before the last register, and another version is unknown.
    let mut short = qemu(0x3000);
    short.truncate(short.len() - 8);
    assert_eq!(system_registers(&short).unwrap().kernel_gs_base, 0);
    short[0] = 2;
    assert_eq!(system_registers(&short), None);
}

#[test]
fn vmcoreinfo_has_numbers_in_two_bases() {
    let info = b"OSRELEASE=6.12.1\nNUMBER(phys_base)=-16777216\nKERNELOFFSET=1a000000\n\
                 SYMBOL(swapper_pg_dir)=ffffffff82c22000\nBUILD-ID=0a0b\nnonsense\n";
    let mut bytes = note(b"VMCOREINFO\0", 0, info);
    bytes.extend(note(b"CORE\0", 1, &status_64(1)));
    let notes = Notes::parse(&bytes, WordSize::Eight).unwrap();
    assert_eq!(
        notes.number("NUMBER(phys_base)"),
        Some(16_777_216u64.wrapping_neg())
    );
    assert_eq!(notes.number("KERNELOFFSET"), Some(0x1a00_0000));
    assert_eq!(
        notes.number("SYMBOL(swapper_pg_dir)"),
        Some(0xffff_ffff_82c2_2000)
    );
    assert_eq!(notes.number("OSRELEASE"), None);
    assert_eq!(notes.vmcoreinfo["OSRELEASE"], "6.12.1");
    assert_eq!(notes.build_id, Some(vec![0x0a, 0x0b]));
}

#[test]
fn a_core_without_cpus_says_what_to_do() {
    let error = Notes::parse(&note(b"GNU\0", 3, &[1; 20]), WordSize::Eight).unwrap_err();
    assert!(matches!(error, CoreError::NoCpus));
    assert!(error.to_string().contains("dump-guest-memory"));
    // Registers that are cut are none.
    let cut = note(b"CORE\0", 1, &status_64(1)[..200]);
    assert!(matches!(
        Notes::parse(&cut, WordSize::Eight),
        Err(CoreError::NoCpus)
    ));
}

#[test]
fn more_cpus_than_any_kernel_has_are_refused() {
    let one = note(b"CORE\0", 1, &status_64(1));
    let error = Notes::parse(&one.repeat(MAX_CPUS + 1), WordSize::Eight).unwrap_err();
    assert!(matches!(error, CoreError::TooMany { what: "CPUs", .. }));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        for word in [WordSize::Four, WordSize::Eight] {
            let _ended = Notes::parse(&bytes, word);
        }
    }

    #[test]
    fn a_changed_length_ends(at in 0usize..1000, value in any::<u32>()) {
        let mut bytes = note(b"CORE\0", 1, &status_64(1));
        bytes.extend(note(b"QEMU\0", 0, &qemu(0x1000)));
        let at = at % (bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let _ended = Notes::parse(&bytes, WordSize::Eight);
    }
}
