use proptest::prelude::*;

use super::*;

/// A record as the kernel writes it.
fn record(kind: u32, flags: u32, fields: &[&[u8]]) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend(kind.to_le_bytes());
    record.extend((flags as u16).to_le_bytes());
    record.extend([0; 2]);
    fields.iter().for_each(|field| record.extend(*field));
    record.resize(record.len().next_multiple_of(8), 0);
    record.extend(70u32.to_le_bytes());
    record.extend(71u32.to_le_bytes());
    record.extend(1_000_000_007u64.to_le_bytes());
    let size = record.len() as u16;
    record[6..8].copy_from_slice(&size.to_le_bytes());
    record
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn parsed(record: &[u8]) -> Event {
    let side_band = SideBand::parse(record).unwrap().unwrap();
    let SideBand {
        time_ns, pid, tid, ..
    } = side_band;
    assert_eq!((time_ns, pid, tid), (1_000_000_007, 70, 71));
    side_band.event
}

fn mmap2(flags: u32, identity: &[u8; 24], protection: u32, path: &[u8]) -> Vec<u8> {
    record(
        bindings::PERF_RECORD_MMAP2,
        flags,
        &[
            &words32(&[5, 6]),
            &words64(&[0x40_0000, 0x3000, 0x1000]),
            identity,
            &words32(&[protection, 2]),
            path,
        ],
    )
}

#[test]
fn a_mapping_has_a_build_id_or_an_inode() {
    let mut with_id = [0; 24];
    with_id[0] = 20;
    with_id[4..].fill(0xab);
    let path = b"/tmp/a\nb\xff (deleted)\0";
    let flags = bindings::PERF_RECORD_MISC_USER | bindings::PERF_RECORD_MISC_MMAP_BUILD_ID;
    let mut expected = Mmap {
        pid: 5,
        start: 0x40_0000,
        len: 0x3000,
        file_offset: 0x1000,
        executable: true,
        build_id: Some(BuildId::new(&[0xab; 20]).unwrap()),
        inode: None,
        path: path[..path.len() - 1].to_vec(),
    };
    let read_exec = (libc::PROT_READ | libc::PROT_EXEC) as u32;
    let event = parsed(&mmap2(flags, &with_id, read_exec, path));
    assert_eq!(event, Event::Mmap(expected.clone()));

    let mut with_inode = [0; 24];
    with_inode[..4].copy_from_slice(&8u32.to_le_bytes());
    with_inode[4..8].copy_from_slice(&3u32.to_le_bytes());
    with_inode[8..16].copy_from_slice(&77u64.to_le_bytes());
    let event = parsed(&mmap2(2, &with_inode, libc::PROT_READ as u32, path));
    expected.executable = false;
    expected.build_id = None;
    expected.inode = Some(Inode {
        major: 8,
        minor: 3,
        number: 77,
    });
    assert_eq!(event, Event::Mmap(expected));
}

#[test]
fn an_impossible_build_id_is_none() {
    for len in [0, 21, 255] {
        let mut identity = [7; 24];
        identity[0] = len;
        let flags = bindings::PERF_RECORD_MISC_MMAP_BUILD_ID;
        let Event::Mmap(mmap) = parsed(&mmap2(flags, &identity, 4, b"/a\0")) else {
            panic!("not a mapping");
        };
        assert_eq!((mmap.build_id, mmap.inode), (None, None));
    }
}

#[test]
fn an_old_mapping_record_is_code_unless_it_says_data() {
    for (flags, executable) in [(0, true), (bindings::PERF_RECORD_MISC_MMAP_DATA, false)] {
        let fields = [
            &words32(&[5, 6])[..],
            &words64(&[0x1000, 16, 0]),
            b"//anon\0",
        ];
        let event = parsed(&record(bindings::PERF_RECORD_MMAP, flags, &fields));
        let Event::Mmap(mmap) = event else {
            panic!("not a mapping: {event:?}");
        };
        assert_eq!((mmap.executable, &*mmap.path), (executable, &b"//anon"[..]));
    }
}

#[test]
fn tasks_come_change_and_go() {
    let comm = |flags| {
        parsed(&record(
            bindings::PERF_RECORD_COMM,
            flags,
            &[&words32(&[5, 6]), b"name\0\0\0\0"],
        ))
    };
    for (flags, exec) in [(0, false), (bindings::PERF_RECORD_MISC_COMM_EXEC, true)] {
        let name = b"name".to_vec();
        let (pid, tid) = (5, 6);
        assert_eq!(
            comm(flags),
            Event::Comm {
                pid,
                tid,
                exec,
                name
            }
        );
    }
    let task = [&words32(&[5, 4, 6, 3])[..], &words64(&[9])];
    assert_eq!(
        parsed(&record(bindings::PERF_RECORD_FORK, 0, &task)),
        Event::Fork {
            pid: 5,
            parent_pid: 4,
            tid: 6,
            parent_tid: 3
        }
    );
    assert_eq!(
        parsed(&record(bindings::PERF_RECORD_EXIT, 0, &task)),
        Event::Exit { pid: 5, tid: 6 }
    );
}

#[test]
fn symbols_and_losses_are_told() {
    let mut fields = words64(&[0xffff_ffff_c000_0000]);
    fields.extend(words32(&[64]));
    fields.extend([1, 0, 1, 0]);
    fields.extend(b"bpf_prog_x\0");
    assert_eq!(
        parsed(&record(bindings::PERF_RECORD_KSYMBOL, 0, &[&fields])),
        Event::Ksymbol {
            address: 0xffff_ffff_c000_0000,
            len: 64,
            unregister: true,
            name: b"bpf_prog_x".to_vec()
        }
    );
    let lost = record(bindings::PERF_RECORD_LOST, 0, &[&words64(&[1, 12])]);
    assert_eq!(parsed(&lost), Event::Lost { count: 12 });
}

#[test]
fn other_types_are_passed_over() {
    let throttle = record(bindings::PERF_RECORD_THROTTLE, 0, &[&words64(&[1, 2, 3])]);
    assert_eq!(SideBand::parse(&throttle), Ok(None));
}

#[test]
fn malformed_records_are_errors() {
    let good = mmap2(0, &[1; 24], 4, b"/a/path/of/some/length\0");
    for len in 0..good.len() {
        assert!(SideBand::parse(&good[..len]).is_err(), "{len} bytes");
    }
    let name = [b'x'; 8];
    let endless = record(bindings::PERF_RECORD_COMM, 0, &[&words32(&[5, 6]), &name]);
    assert!(SideBand::parse(&endless).is_err());
    for range in [[0x1000, 0, 0], [u64::MAX, 2, 0]] {
        let fields = [&words32(&[5, 6])[..], &words64(&range), b"x\0"];
        let impossible = record(bindings::PERF_RECORD_MMAP, 0, &fields);
        assert!(SideBand::parse(&impossible).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(kind in 0u8..24, mut bytes in prop::collection::vec(any::<u8>(), 8..200)) {
        bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
        let size = bytes.len() as u16;
        bytes[6..8].copy_from_slice(&size.to_le_bytes());
        let _any_answer = SideBand::parse(&bytes);
    }

    #[test]
    fn cut_records_are_no_longer_than_they_say(cut in 1usize..40) {
        let mut record = mmap2(0, &[1; 24], 4, b"/a/path/of/some/length\0");
        let size = record.len() - cut;
        record.truncate(size);
        record[6..8].copy_from_slice(&(size as u16).to_le_bytes());
        if let Ok(Some(SideBand { event: Event::Mmap(mmap), .. })) = SideBand::parse(&record) {
            prop_assert!(mmap.path.len() < size);
        }
    }
}
