//! The kernel's field offsets and sizes, from its BTF.
//!
//! Rust emits no CO-RE relocations, so the offsets are resolved here and handed to the BPF
//! programs as globals.

use serde::Serialize;

use super::bpf_text::BpfTextOffsets;
use crate::btf::{Btf, BtfError};

/// Where the pointer to a CPU's hard-IRQ stack is kept. It moved twice: a per-CPU variable of its
/// own up to 6.1, a member of `pcpu_hot` in 6.2 to 6.14, a variable again from 6.15 on.
const HARDIRQ_STACK_PTR: PerCpuField = PerCpuField {
    variable: "hardirq_stack_ptr",
    pcpu_hot_member: "hardirq_stack_ptr",
};
const CURRENT_TASK: PerCpuField = PerCpuField {
    variable: "current_task",
    pcpu_hot_member: "current_task",
};
const CPU_NUMBER: PerCpuField = PerCpuField {
    variable: "cpu_number",
    pcpu_hot_member: "cpu_number",
};
const PREEMPT_COUNT: PerCpuField = PerCpuField {
    variable: "__preempt_count",
    pcpu_hot_member: "preempt_count",
};
const TOP_OF_STACK: PerCpuField = PerCpuField {
    variable: "cpu_current_top_of_stack",
    pcpu_hot_member: "top_of_stack",
};

/// A per-CPU datum that is either a variable or a member of `pcpu_hot`.
struct PerCpuField {
    variable: &'static str,
    pcpu_hot_member: &'static str,
}

impl PerCpuField {
    /// Its offset from the start of the per-CPU section.
    fn offset(&self, btf: &Btf) -> Result<u64, BtfError> {
        if let Some(variable) = btf.find_percpu(self.variable)? {
            return Ok(variable.offset);
        }
        let base = btf.percpu_offset("pcpu_hot")?;
        Ok(base + byte_offset(btf, &format!("pcpu_hot.{}", self.pcpu_hot_member))?)
    }
}

/// Arguments of `sched_switch` where the last is the state of the task.
const SWITCH_WITH_STATE: usize = 4;

/// One of the exception stacks, relative to the per-CPU variable `cea_exception_stacks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExceptionStack {
    /// The member's name in `struct cea_exception_stacks`, such as `NMI_stack`.
    pub name: String,
    /// Offset of its lowest address.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Everything that is taken from BTF.
#[derive(Debug, Clone, Serialize)]
pub struct Offsets {
    /// `task_struct.stack`.
    pub task_stack: u64,
    /// `task_struct.pid`.
    pub task_pid: u64,
    /// `task_struct.tgid`.
    pub task_tgid: u64,
    /// The way to a task's numbers in PID namespaces.
    pub pid_namespace: Option<NamespaceOffsets>,
    /// `task_struct.se.cfs_rq`; only with `CONFIG_FAIR_GROUP_SCHED`.
    pub task_cfs_rq: Option<u64>,
    /// `cfs_rq.rq`; likewise.
    pub cfs_rq_rq: Option<u64>,
    /// `task_struct.mm`.
    pub task_mm: u64,
    /// `task_struct.thread.fsbase`.
    pub task_fsbase: u64,
    /// `mm_struct.start_stack`.
    pub mm_start_stack: u64,
    /// `irqaction.name`; only with interrupts in BTF.
    pub irqaction_name: Option<u64>,
    /// Whether the tracepoint `sched_switch` tells the state of the task (5.18 on).
    pub switch_has_state: bool,
    /// Bytes of a task's kernel stack, `THREAD_SIZE`.
    pub thread_size: u64,
    /// Bytes of the hard-IRQ stack, `IRQ_STACK_SIZE`.
    pub irq_stack_size: u64,
    /// Per-CPU offset of the run queue.
    pub runqueues: u64,
    /// Per-CPU offset of the pointer to the hard-IRQ stack.
    pub hardirq_stack_ptr: u64,
    /// Per-CPU offset of the current task.
    pub current_task: u64,
    /// Per-CPU offset of the CPU's number.
    pub cpu_number: u64,
    /// Per-CPU offset of the preemption count.
    pub preempt_count: Option<u64>,
    /// Per-CPU offset of the top of the current task's stack; a field of the TSS before 5.15.
    pub top_of_stack: Option<u64>,
    /// Per-CPU offset of the pointer to the exception stacks.
    pub cea_exception_stacks: u64,
    /// The exception stacks.
    pub exception_stacks: Vec<ExceptionStack>,
    /// From the exception stacks down to the entry stack's page in `struct cpu_entry_area`.
    pub entry_stack_below_exceptions: u64,
    /// Bytes of the entry stack.
    pub entry_stack_size: u64,
    /// Bits of the fields of `struct orc_entry`; `None` if the kernel has no ORC.
    pub orc: Option<OrcBits>,
    /// Where `struct module` keeps its ORC table; `None` without modules or without ORC.
    pub module_orc: Option<ModuleOrc>,
    /// The way to the kernel's list of BPF text (5.8 on).
    pub bpf_text: Option<BpfTextOffsets>,
}

/// The way from a task to its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamespaceOffsets {
    /// `task_struct.thread_pid`.
    pub thread_pid: u64,
    /// `task_struct.group_leader`.
    pub group_leader: u64,
    /// `pid.level`.
    pub level: u64,
    /// `pid.numbers`.
    pub numbers: u64,
}

/// Offsets in `struct module`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModuleOrc {
    /// The number of entries.
    pub num_orcs: u64,
    /// The pointer to the addresses.
    pub orc_unwind_ip: u64,
    /// The pointer to the entries.
    pub orc_unwind: u64,
}

/// The bit fields that tell ORC's entry formats apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrcBits {
    /// Width of `type`.
    pub kind: u64,
    /// Whether there is a `signal` bit.
    pub signal: bool,
}

impl Offsets {
    /// Resolves everything.
    ///
    /// # Errors
    /// If the kernel's BTF lacks something that cannot be done without.
    pub fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let estacks = byte_offset(btf, "cpu_entry_area.estacks")?;
        let entry_page = byte_offset(btf, "cpu_entry_area.entry_stack_page")?;
        let exception_stacks = btf
            .members_of("cea_exception_stacks")?
            .into_iter()
            .filter(|member| member.name.ends_with("_stack"))
            .map(|member| ExceptionStack {
                offset: member.bit_offset / 8,
                size: member.size_bytes,
                name: member.name,
            })
            .collect();
        let orc = match btf.find_member("orc_entry.type")? {
            Some(kind) => Some(OrcBits {
                kind: kind.bit_size,
                signal: btf.find_member("orc_entry.signal")?.is_some(),
            }),
            None => None,
        };
        Ok(Self {
            task_stack: byte_offset(btf, "task_struct.stack")?,
            task_pid: byte_offset(btf, "task_struct.pid")?,
            task_tgid: byte_offset(btf, "task_struct.tgid")?,
            pid_namespace: NamespaceOffsets::from_btf(btf)?,
            task_cfs_rq: optional(byte_offset(btf, "task_struct.se.cfs_rq"))?,
            cfs_rq_rq: optional(byte_offset(btf, "cfs_rq.rq"))?,
            task_mm: byte_offset(btf, "task_struct.mm")?,
            task_fsbase: byte_offset(btf, "task_struct.thread.fsbase")?,
            mm_start_stack: byte_offset(btf, "mm_struct.start_stack")?,
            irqaction_name: optional(byte_offset(btf, "irqaction.name"))?,
            switch_has_state: btf.tracepoint_arguments("sched_switch") == Some(SWITCH_WITH_STATE),
            thread_size: btf
                .size_of("thread_union")
                .or_else(|_| btf.size_of("irq_stack"))?,
            irq_stack_size: btf.size_of("irq_stack")?,
            runqueues: btf.percpu_offset("runqueues")?,
            hardirq_stack_ptr: HARDIRQ_STACK_PTR.offset(btf)?,
            current_task: CURRENT_TASK.offset(btf)?,
            cpu_number: CPU_NUMBER.offset(btf)?,
            preempt_count: optional(PREEMPT_COUNT.offset(btf))?,
            top_of_stack: optional(TOP_OF_STACK.offset(btf))?,
            cea_exception_stacks: btf.percpu_offset("cea_exception_stacks")?,
            exception_stacks,
            entry_stack_below_exceptions: estacks.saturating_sub(entry_page),
            entry_stack_size: btf.size_of("entry_stack")?,
            orc,
            module_orc: optional(ModuleOrc::from_btf(btf))?,
            bpf_text: optional(BpfTextOffsets::from_btf(btf))?,
        })
    }
}

/// What the BPF programs take for granted of a `struct upid`.
const UPID_BYTES: u64 = 16;
const UPID_NS: u64 = 8;

impl NamespaceOffsets {
    /// `None` where the kernel keeps the numbers in another way.
    fn from_btf(btf: &Btf) -> Result<Option<Self>, BtfError> {
        let upid = (
            optional(btf.size_of("upid"))?,
            optional(byte_offset(btf, "upid.nr"))?,
            optional(byte_offset(btf, "upid.ns"))?,
        );
        if upid != (Some(UPID_BYTES), Some(0), Some(UPID_NS)) {
            return Ok(None);
        }
        optional((|| {
            Ok(Self {
                thread_pid: byte_offset(btf, "task_struct.thread_pid")?,
                group_leader: byte_offset(btf, "task_struct.group_leader")?,
                level: byte_offset(btf, "pid.level")?,
                numbers: byte_offset(btf, "pid.numbers")?,
            })
        })())
    }
}

impl ModuleOrc {
    fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        Ok(Self {
            num_orcs: byte_offset(btf, "module.arch.num_orcs")?,
            orc_unwind_ip: byte_offset(btf, "module.arch.orc_unwind_ip")?,
            orc_unwind: byte_offset(btf, "module.arch.orc_unwind")?,
        })
    }
}

/// What a kernel need not have.
fn optional<T>(found: Result<T, BtfError>) -> Result<Option<T>, BtfError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The offset of a member.
fn byte_offset(btf: &Btf, path: &str) -> Result<u64, BtfError> {
    let offset = btf.member(path)?.byte_offset();
    offset.ok_or_else(|| BtfError::Bitfield {
        path: path.to_owned(),
    })
}
