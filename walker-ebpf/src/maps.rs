//! The maps. Sizes given here are small; user space sets the real ones before loading.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use walker_common::{
    maps::{Counters, CpuFacts, CpuStacks, READ_CHUNK},
    wire::{CHAIN_BYTES, MAX_DATA_BYTES, MAX_USER_BYTES, REGISTER_BYTES, SampleHeader},
};

/// A record under construction. It is larger than a per-CPU map value may be (32 KiB), so it
/// lives in a plain array with one element per CPU; perf_event programs do not nest on one CPU
/// (`bpf_prog_active`).
#[repr(C)]
pub(crate) struct Record {
    /// The fixed part.
    pub(crate) header: SampleHeader,
    /// The kernel's call chain (oracle only), then the segments' bytes.
    pub(crate) data: [u8; DATA_BYTES],
}

/// Room for everything that can follow the header.
pub(crate) const DATA_BYTES: usize = CHAIN_BYTES + MAX_DATA_BYTES + REGISTER_BYTES + MAX_USER_BYTES;

#[map]
pub(crate) static SAMPLES: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(crate) static COST: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(crate) static SCRATCH: Array<Record> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static STACKS: Array<CpuStacks> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(2, 0);
#[map]
pub(crate) static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);
#[map]
pub(crate) static THREADS: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);
#[map]
pub(crate) static BUDGETS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(8192, 0);
#[map]
pub(crate) static NAME_BUDGETS: LruHashMap<[u8; 16], u32> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub(crate) static READ_BUFFER: Array<[u8; READ_CHUNK]> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static CPU_FACTS: Array<CpuFacts> = Array::with_max_entries(1, 0);
