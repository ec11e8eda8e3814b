//! The type information of the made-up 64-bit kernel (`test_kernel_64`).

use crate::btf::test_blob::{Blob, STRUCT};

/// Bytes of a task's stack and of an IRQ stack.
const THREAD_SIZE: u32 = 0x4000;

/// Offsets in `struct task_struct`.
pub(super) mod member {
    pub(in super::super) const STATE: u64 = 0x10;
    pub(in super::super) const STACK: u64 = 0x18;
    pub(in super::super) const TASK_LINKS: u64 = 0x100;
    pub(in super::super) const PID: u64 = 0x140;
    pub(in super::super) const TGID: u64 = 0x144;
    pub(in super::super) const THREAD_NODE: u64 = 0x150;
    pub(in super::super) const COMM: u64 = 0x200;
    pub(in super::super) const THREAD_SP: u64 = 0x308;
}

/// Offsets in the per-CPU area.
pub(super) mod percpu {
    pub(in super::super) const CURRENT_TASK: u64 = 0x10;
    pub(in super::super) const HARDIRQ_STACK_PTR: u64 = 0x18;
    pub(in super::super) const CPU_NUMBER: u64 = 0x20;
    pub(in super::super) const EXCEPTIONS: u64 = 0x28;
    pub(in super::super) const RUNQUEUES: u64 = 0x40;
    pub(in super::super) const IDLE_THREADS: u64 = 0x80;
}

/// What the kernel says of its types.
pub(super) fn type_information() -> Vec<u8> {
    let mut blob = Blob::new();
    let int = blob.add_int("int", 4, 0, 32);
    let long = blob.add_int("long", 8, 0, 64);
    let comm = blob.add_array(long, 2);
    let stack = blob.add_array(long, 0x2000 / 8);
    let bits = |bytes: u64| bytes as u32 * 8;
    let thread = blob.add_struct(
        STRUCT,
        "thread_struct",
        0x20,
        &[("sp", long, bits(8)), ("fsbase", long, bits(16))],
    );
    blob.add_struct(
        STRUCT,
        "task_struct",
        0x400,
        &[
            ("__state", int, bits(member::STATE)),
            ("stack", long, bits(member::STACK)),
            ("tasks", long, bits(member::TASK_LINKS)),
            ("mm", long, bits(0x120)),
            ("exit_state", int, bits(0x130)),
            ("pid", int, bits(member::PID)),
            ("tgid", int, bits(member::TGID)),
            ("thread_node", long, bits(member::THREAD_NODE)),
            ("comm", comm, bits(member::COMM)),
            ("thread", thread, bits(member::THREAD_SP - 8)),
        ],
    );
    blob.add_struct(
        STRUCT,
        "inactive_task_frame",
        56,
        &[("bp", long, bits(40)), ("ret_addr", long, bits(48))],
    );
    blob.add_struct(STRUCT, "mm_struct", 16, &[("start_stack", long, 0)]);
    blob.add_struct(STRUCT, "thread_union", THREAD_SIZE, &[]);
    blob.add_struct(STRUCT, "irq_stack", THREAD_SIZE, &[]);
    blob.add_struct(STRUCT, "entry_stack", 0x1000, &[]);
    blob.add_struct(
        STRUCT,
        "cpu_entry_area",
        0x10_000,
        &[
            ("entry_stack_page", long, bits(0x1000)),
            ("estacks", long, bits(0x7000)),
        ],
    );
    blob.add_struct(
        STRUCT,
        "cea_exception_stacks",
        0x6000,
        &[
            ("DF_stack", stack, bits(0x1000)),
            ("NMI_stack", stack, bits(0x4000)),
        ],
    );
    blob.add_struct_with(
        STRUCT,
        "orc_entry",
        6,
        true,
        &[("type", int, 3 << 24 | 40), ("signal", int, 1 << 24 | 43)],
    );
    let arch = blob.add_struct(
        STRUCT,
        "mod_arch_specific",
        24,
        &[
            ("num_orcs", int, 0),
            ("orc_unwind_ip", long, bits(8)),
            ("orc_unwind", long, bits(16)),
        ],
    );
    let memory = blob.add_struct(
        STRUCT,
        "module_memory",
        16,
        &[("base", long, 0), ("size", int, bits(8))],
    );
    blob.add_struct(
        STRUCT,
        "module",
        0x100,
        &[
            ("list", long, bits(8)),
            ("name", comm, bits(0x18)),
            ("mem", memory, bits(0x80)),
            ("kallsyms", long, bits(0x90)),
            ("arch", arch, bits(0x98)),
        ],
    );
    blob.add_struct(
        STRUCT,
        "mod_kallsyms",
        24,
        &[
            ("symtab", long, 0),
            ("num_symtab", int, bits(8)),
            ("strtab", long, bits(16)),
        ],
    );
    let variables: Vec<[u32; 3]> = [
        ("current_task", percpu::CURRENT_TASK),
        ("hardirq_stack_ptr", percpu::HARDIRQ_STACK_PTR),
        ("cpu_number", percpu::CPU_NUMBER),
        ("cea_exception_stacks", percpu::EXCEPTIONS),
        ("runqueues", percpu::RUNQUEUES),
    ]
    .map(|(name, offset)| [blob.add_variable(name, long), offset as u32, 8])
    .to_vec();
    blob.add_section(".data..percpu", &variables);
    blob.finish()
}
