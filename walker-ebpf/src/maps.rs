//! The maps. Sizes given here are small; user space sets the real ones before loading.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use walker_common::{
    maps::{
        COUNTERS_OF_COST, Counters, CpuFacts, CpuStacks, EventConfig, EventState, IRQ_KINDS,
        MAX_EVENTS, READ_CHUNK, SLOT_COUNT, Wait,
    },
    wire::{CHAIN_BYTES, MAX_DATA_BYTES, MAX_USER_BYTES, REGISTER_BYTES, SampleHeader},
};

/// A record under construction. It is larger than a per-CPU map value may be (32 KiB), so it
/// lives in a plain array with one element per CPU, or several where programs can nest: those of
/// perf events and probes do not (`bpf_prog_active`), those of raw tracepoints do.
#[repr(C)]
pub(crate) struct Record {
    /// The fixed part.
    pub(crate) header: SampleHeader,
    /// The kernel's call chain (oracle only), then the segments' bytes.
    pub(crate) data: [u8; DATA_BYTES],
    /// Not 0 while a program builds it.
    pub(crate) busy: u64,
}

/// The interrupts that a CPU serves.
#[repr(C)]
pub(crate) struct IrqState {
    /// When the present one of each kind began; 0: there is none.
    pub(crate) since_ns: [u64; IRQ_KINDS],
    /// How long hard interrupts have taken so far.
    pub(crate) hard_ns: u64,
    /// The same when the present softirq began.
    pub(crate) hard_ns_before: u64,
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
pub(crate) static COUNTERS: PerCpuArray<Counters> =
    PerCpuArray::with_max_entries(COUNTERS_OF_COST + 1, 0);
#[map]
pub(crate) static EVENTS: Array<EventConfig> = Array::with_max_entries(MAX_EVENTS, 0);
#[map]
pub(crate) static EVENT_STATES: PerCpuArray<EventState> =
    PerCpuArray::with_max_entries(MAX_EVENTS, 0);
/// The event in each slot of a program that is there several times.
#[map]
pub(crate) static SLOTS: Array<u32> = Array::with_max_entries(SLOT_COUNT, 0);
#[map]
pub(crate) static ENABLED: Array<u64> = Array::with_max_entries(1, 0);
/// When this CPU woke the reader of the ring buffer last.
#[map]
pub(crate) static LAST_WAKE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static WAITS: HashMap<u32, Wait> = HashMap::with_max_entries(65_536, 0);
#[map]
pub(crate) static IRQS: PerCpuArray<IrqState> = PerCpuArray::with_max_entries(1, 0);
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
pub(crate) static READ_RESULT: Array<i64> = Array::with_max_entries(1, 0);
/// The PID namespace whose numbers are used: the address of its `struct pid_namespace`, its level.
#[map]
pub(crate) static NAMESPACE: Array<u64> = Array::with_max_entries(2, 0);
#[map]
pub(crate) static CPU_FACTS: Array<CpuFacts> = Array::with_max_entries(1, 0);
