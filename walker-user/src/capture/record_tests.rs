use proptest::prelude::*;
use walker_common::wire::SegmentHeader;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;

/// A record with one captured segment of `length` bytes of 0x5a and one unreadable one.
fn record(length: u32) -> Vec<u8> {
    let mut header = SampleHeader::new_zeroed();
    let data = (length as usize).next_multiple_of(8);
    header.version = WIRE_VERSION;
    header.size = (size_of::<SampleHeader>() + data) as u32;
    header.data_offset = size_of::<SampleHeader>() as u32;
    header.comm[..4].copy_from_slice(b"comm");
    header.segment_count = 2;
    header.segments[0] = SegmentHeader {
        address: 0x1000,
        length,
        kind: StackKind::Irq as u8,
        ..Default::default()
    };
    header.segments[1] = SegmentHeader {
        address: 0x2000,
        length: 64,
        kind: StackKind::Task as u8,
        status: SegmentStatus::Unreadable as u8,
        flags: 0,
    };
    let mut record = header.as_bytes().to_vec();
    record.resize(record.len() + data, 0x5a);
    record
}

#[test]
fn what_could_not_be_read_has_no_bytes() {
    let record = record(13);
    let sample = Sample::parse(&record).unwrap();
    let segments: Vec<_> = sample.segments().collect();
    assert_eq!(segments[0].bytes, [0x5a; 13]);
    assert_eq!(segments[1].status, SegmentStatus::Unreadable);
    assert_eq!((segments[1].length, segments[1].bytes.len()), (64, 0));
    assert_eq!(sample.memory().segments().len(), 1);
    assert_eq!(sample.comm(), b"comm");
}

/// A kernel-mode record with user registers, in the task stack or apart from it, and a user stack.
fn user_record(apart: bool) -> Vec<u8> {
    let registers = Registers {
        ip: 0x40_1234,
        cs: 0x33,
        sp: 0x7ffd_0000,
        ..Default::default()
    };
    let mut header = SampleHeader::new_zeroed();
    header.version = WIRE_VERSION;
    header.data_offset = size_of::<SampleHeader>() as u32;
    header.user_regs = SegmentHeader {
        address: 0xffff_c900_0000_3f58,
        length: REGISTER_BYTES as u32,
        kind: StackKind::Task as u8,
        status: SegmentStatus::Captured as u8,
        flags: 0,
    };
    if !apart {
        header.user_regs.status = SegmentStatus::Absent as u8;
        header.segment_count = 1;
        header.segments[0] = SegmentHeader {
            address: header.user_regs.address,
            length: REGISTER_BYTES as u32,
            kind: StackKind::Task as u8,
            ..Default::default()
        };
    }
    header.user_stack = SegmentHeader {
        address: registers.sp,
        length: 24,
        kind: StackKind::User as u8,
        status: SegmentStatus::Captured as u8,
        flags: SEGMENT_CUT_BY_BUDGET,
    };
    header.size = (size_of::<SampleHeader>() + REGISTER_BYTES + 24) as u32;
    let mut record = header.as_bytes().to_vec();
    record.extend(registers.as_bytes());
    record.extend([0x77; 24]);
    record
}

#[test]
fn user_registers_are_found_in_the_task_stack_or_apart() {
    for apart in [false, true] {
        let record = user_record(apart);
        let sample = Sample::parse(&record).unwrap();
        let registers = sample.user_registers().unwrap();
        assert_eq!((registers.ip, registers.sp), (0x40_1234, 0x7ffd_0000));
        let stack = sample.user_stack().unwrap();
        assert_eq!(stack.segment.address, registers.sp);
        assert_eq!(stack.segment.bytes, [0x77; 24]);
        assert!(stack.cut_by_budget);
    }
}

#[test]
fn what_is_absent_is_none() {
    let mut record = user_record(true);
    let cs = size_of::<SampleHeader>() + std::mem::offset_of!(Registers, cs);
    record[cs] = 0x10;
    let sample = Sample::parse(&record).unwrap();
    assert!(sample.user_registers().is_none(), "kernel registers");
    let status = std::mem::offset_of!(SampleHeader, user_stack)
        + std::mem::offset_of!(SegmentHeader, status);
    record[status] = SegmentStatus::Absent as u8;
    let sample = Sample::parse(&record).unwrap();
    assert!(sample.user_stack().is_none());
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    let record = record(16);
    for length in 0..record.len() {
        assert!(
            Sample::parse(&record[..length]).is_err(),
            "{length} bytes were accepted"
        );
    }
    assert!(Sample::parse(&record).is_ok());
}

#[test]
fn lengths_are_checked_against_the_record_not_the_header() {
    let mut record = record(16);
    let at = std::mem::offset_of!(SampleHeader, segments) + 8;
    record[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        Sample::parse(&record),
        Err(RecordError::Truncated { .. })
    ));
}

proptest! {
    /// Random changes of a valid record parse or are refused; nothing panics.
    #[test]
    fn mutated_records_do_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        length in 0u32..200,
    ) {
        let mut record = record(length);
        for (index, byte) in changes {
            let index = index.index(record.len());
            record[index] = byte;
        }
        if let Ok(sample) = Sample::parse(&record) {
            let _ = sample.kernel_chain().count();
            for segment in sample.segments() {
                prop_assert!(segment.bytes.len() <= record.len());
            }
        }
    }
}
