//! Walks do not allocate once the vector for the frames has grown.

#[path = "golden/data.rs"]
mod data;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use walker_common::wire::{SampleHeader, SegmentHeader};
use walker_user::capture::record::Sample;

use data::Golden;

/// The system's allocator, with a count of what it is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract, and all pointers come from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract, and all pointers come from the system.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test here: another one would allocate meanwhile.
#[test]
fn walking_allocates_nothing() {
    let golden = Golden::read().unwrap();
    let machine = golden.machine().unwrap();
    let mut records = Vec::new();
    for case in &golden.samples {
        let record = case.record_bytes().unwrap();
        // Cut short, the first stack makes the walk fail and the scan begin.
        let mut cut = record.clone();
        let at = offset_of!(SampleHeader, segments) + offset_of!(SegmentHeader, length);
        let length = cut[at..].first_chunk_mut().unwrap();
        *length = (u32::from_le_bytes(*length) / 16 * 8).to_le_bytes();
        records.extend([record, cut]);
    }
    let mut frames = Vec::new();
    let (mut total, mut scanned) = (0, 0);
    let mut walk_all = || {
        for record in &records {
            let sample = Sample::parse(record).unwrap();
            machine.walk(&sample, &mut frames);
            total += frames.len();
            scanned += frames.iter().filter(|frame| !frame.reliable).count();
        }
    };
    walk_all();
    // The harness may allocate in its own thread at any time, so one quiet round is enough. If
    // walks allocated, none would be.
    let quiet = (0..10).any(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        walk_all();
        ALLOCATIONS.load(Ordering::Relaxed) == before
    });
    assert!(total > scanned && scanned > 0, "{scanned} of {total}");
    assert!(quiet);
}
