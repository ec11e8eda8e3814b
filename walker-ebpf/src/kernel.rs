//! Programs that user space starts by test run to learn about the running kernel: reading its
//! memory, and the facts only a program on a given CPU can see. They take no samples.

use aya_ebpf::{
    helpers::{bpf_get_current_task, bpf_get_smp_processor_id, generated::bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use walker_common::maps::{NO_FIELD, READ_CHUNK};

use crate::{
    config::{OFF_CFS_RQ_RQ, OFF_TASK_CFS_RQ, OFF_TASK_STACK},
    maps::{CPU_FACTS, NAMESPACE, READ_BUFFER, READ_RESULT},
    namespace::own_namespace,
};

/// The same value, of which the compiler then knows nothing: a bound that is checked afterwards is
/// checked in the very register that is used, as older verifiers need it.
#[inline(always)]
pub(crate) fn opaque(value: u64) -> u64 {
    core::hint::black_box(value)
}

/// Reads one kernel word; 0 where it cannot be read.
#[inline(always)]
pub(crate) fn read_word(address: u64) -> u64 {
    let mut word = 0u64;
    let result = unsafe {
        bpf_probe_read_kernel(
            (&raw mut word).cast(),
            8,
            address as *const core::ffi::c_void,
        )
    };
    if result < 0 { 0 } else { word }
}

/// Arguments: address, length in bytes. What came of it, 0 or a negative errno, goes into a map: what
/// a program of this type returns is always 0.
#[raw_tracepoint]
pub(crate) fn read_kernel(ctx: RawTracePointContext) -> i32 {
    let address: u64 = ctx.arg(0);
    let length: u64 = ctx.arg(1);
    let (Some(buffer), Some(result)) = (READ_BUFFER.get_ptr_mut(0), READ_RESULT.get_ptr_mut(0))
    else {
        return 0;
    };
    if length > READ_CHUNK as u64 {
        return 0;
    }
    unsafe {
        *result = bpf_probe_read_kernel(
            buffer.cast(),
            length as u32,
            address as *const core::ffi::c_void,
        );
    }
    0
}

/// Fills this CPU's element of `CPU_FACTS`.
#[raw_tracepoint]
pub(crate) fn cpu_facts(_ctx: RawTracePointContext) -> i32 {
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(facts) = CPU_FACTS.get_ptr_mut(cpu) else {
        return -2;
    };
    let task = unsafe { bpf_get_current_task() };
    let cfs_rq = match OFF_TASK_CFS_RQ.load() {
        NO_FIELD => 0,
        offset => read_word(task.wrapping_add(offset)),
    };
    let rq = match OFF_CFS_RQ_RQ.load() {
        NO_FIELD => 0,
        _ if cfs_rq == 0 => 0,
        offset => read_word(cfs_rq.wrapping_add(offset)),
    };
    unsafe {
        (*facts).task = task;
        (*facts).task_stack = read_word(task.wrapping_add(OFF_TASK_STACK.load()));
        (*facts).cfs_rq = cfs_rq;
        (*facts).rq = rq;
        (*facts).valid = 1;
    }
    0
}

/// Puts the PID namespace of the task that runs this into `NAMESPACE`.
#[raw_tracepoint]
pub(crate) fn find_namespace(_ctx: RawTracePointContext) -> i32 {
    let (namespace, level) = own_namespace();
    if let Some(to) = NAMESPACE.get_ptr_mut(0) {
        unsafe { *to = namespace };
    }
    if let Some(to) = NAMESPACE.get_ptr_mut(1) {
        unsafe { *to = level };
    }
    0
}
