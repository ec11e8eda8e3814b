//! A made-up 64-bit kernel with type information and ORC tables, moved by KASLR: one CPU, which
//! handles an interrupt of a system call, and two more tasks.

use walker_common::wire::Registers;

use super::{
    notes::SystemRegisters,
    paging::PagingMode,
    test_machine::TestMachine,
    test_types_64::{member, percpu, type_information},
};

/// What KASLR added.
pub(super) const SLIDE: u64 = 0x1a00_0000;
const THREAD_SIZE: u64 = 0x4000;
/// Link addresses.
const TEXT: u64 = 0xffff_ffff_8100_0000;
const BANNER: u64 = 0xffff_ffff_8120_0040;
const NOTES: u64 = 0xffff_ffff_8120_1000;
const BTF: u64 = 0xffff_ffff_8121_0000;
const ORC_IPS: u64 = 0xffff_ffff_8122_0000;
const ORC_ENTRIES: u64 = 0xffff_ffff_8123_0000;
const DATA: u64 = 0xffff_ffff_8130_0000;
const INIT_TASK: u64 = DATA + 0x1000;
pub(super) const MODULES: u64 = DATA + 0x200;
/// Where things are that are allocated, some of them by `vmalloc()`.
const TASKS: u64 = 0xffff_8880_0400_0000;
const SIGNALS: u64 = 0xffff_8880_0500_0000;
const PER_CPU: u64 = 0xffff_8880_0600_0000;
const STACKS: u64 = 0xffff_c900_0010_0000;
const IRQ_END: u64 = 0xffff_c900_0000_4000;
const MODULE: u64 = 0xffff_ffff_c000_0000;
const MODULE_STRUCT: u64 = MODULE + 0x2000;
const MODULE_TABLES: u64 = MODULE + 0x3000;
const ENTRY_AREA: u64 = 0xffff_fe00_0000_1000;

/// Functions, 0x100 bytes each, with the ORC entry of each: sp offset, and flags of the third
/// format (`orc_types.h`, 6.4).
const FUNCTIONS: [(&str, i16, u16); 9] = [
    ("_stext", 0, 0),
    ("handle_irq", 0x10, 0x205),
    ("call_on_irqstack", 8, 0x209),
    ("asm_common_interrupt", 0, 0xb05),
    ("vfs_read", 0x20, 0x205),
    ("entry_SYSCALL_64_after_hwframe", 0, 0xb05),
    ("__schedule", 0x10, 0x205),
    ("kthread", 8, 0x205),
    ("ret_from_fork_asm", 0, 0x100),
];

/// An address in a function, where it is in memory.
fn code(name: &str) -> u64 {
    let index = FUNCTIONS
        .iter()
        .position(|(function, ..)| *function == name);
    TEXT + SLIDE + 0x100 * index.expect("a function of the kernel") as u64 + 0x50
}

/// The kernel's System.map.
pub(super) fn system_map() -> String {
    let mut map = String::new();
    for (index, (name, ..)) in FUNCTIONS.iter().enumerate() {
        map += &format!("{:016x} T {name}\n", TEXT + 0x100 * index as u64);
    }
    let btf_end = BTF + type_information().len() as u64;
    let count = FUNCTIONS.len() as u64 + 1;
    for (address, kind, name) in [
        (TEXT + 0x1000, 'T', "_etext"),
        (BANNER, 'D', "linux_banner"),
        (NOTES, 'R', "__start_notes"),
        (NOTES + 36, 'R', "__stop_notes"),
        (BTF, 'R', "__start_BTF"),
        (btf_end, 'R', "__stop_BTF"),
        (ORC_IPS, 'R', "__start_orc_unwind_ip"),
        (ORC_IPS + 4 * count, 'R', "__stop_orc_unwind_ip"),
        (ORC_ENTRIES, 'R', "__start_orc_unwind"),
        (ORC_ENTRIES + 6 * count, 'R', "__stop_orc_unwind"),
        (DATA, 'D', "__per_cpu_offset"),
        (DATA + 0x100, 'D', "nr_cpu_ids"),
        (DATA + 0x108, 'D', "__cpu_online_mask"),
        (INIT_TASK, 'D', "init_task"),
        (MODULES, 'D', "modules"),
        (0, 'A', "__per_cpu_start"),
        (percpu::CURRENT_TASK, 'A', "current_task"),
        (percpu::IDLE_THREADS, 'A', "idle_threads"),
    ] {
        map += &format!("{address:016x} {kind} {name}\n");
    }
    map
}

/// The kernel's build ID.
pub(super) const BUILD_ID: [u8; 20] = [0xb1; 20];

struct Made {
    address: u64,
    stack: u64,
    pid: u32,
    comm: &'static str,
}

const SWAPPER: Made = Made {
    address: INIT_TASK + SLIDE,
    stack: STACKS,
    pid: 0,
    comm: "swapper/0",
};
const READER: Made = Made {
    address: TASKS,
    stack: STACKS + 0x8000,
    pid: 1,
    comm: "reader",
};
const KTHREAD: Made = Made {
    address: TASKS + 0x1000,
    stack: STACKS + 0x1_0000,
    pid: 2,
    comm: "kthread",
};

fn put_regs(machine: &mut TestMachine, at: u64, ip: u64, cs: u64, sp: u64) {
    for (offset, value) in [(128, ip), (136, cs), (144, 0x246), (152, sp), (160, cs + 8)] {
        machine.put(at + offset, value);
    }
}

fn put_switch(machine: &mut TestMachine, task: &Made, sp: u64) {
    machine.put(sp + 48, code("__schedule"));
    machine.put(task.address + member::THREAD_SP, sp);
}

/// A module with two functions, whose code is unwound by one rule, and its symbols and ORC table.
fn put_module(machine: &mut TestMachine) {
    machine.map(MODULE, true);
    machine.map_range(MODULE_STRUCT, MODULE_STRUCT + 0x1000);
    machine.map_range(MODULE_TABLES, MODULE_TABLES + 0x1000);
    let head = MODULES + SLIDE;
    machine.put(head, MODULE_STRUCT + 8);
    machine.put(MODULE_STRUCT + 8, head);
    machine.write(MODULE_STRUCT + 0x18, b"drv\0");
    machine.put(MODULE_STRUCT + 0x80, MODULE);
    machine.put(MODULE_STRUCT + 0x88, 0x1000);
    machine.put(MODULE_STRUCT + 0x90, MODULE_TABLES);
    let (symbols, names) = (MODULE_TABLES + 0x100, MODULE_TABLES + 0x200);
    for (at, value) in [(0, symbols), (8, 3), (16, names)] {
        machine.put(MODULE_TABLES + at, value);
    }
    machine.write(names, b"\0drv_read\0drv_write\0");
    for (index, (name, offset)) in [(1u64, 0x100), (10, 0x200)].into_iter().enumerate() {
        let symbol = symbols + 24 * (index as u64 + 1);
        // The section's number is in the upper half.
        machine.put(symbol, name | 1 << 48);
        machine.put(symbol + 8, MODULE + offset);
    }
    let (ips, entries) = (MODULE_TABLES + 0x300, MODULE_TABLES + 0x400);
    for (at, value) in [(0, 2), (8, ips), (16, entries)] {
        machine.put(MODULE_STRUCT + 0x98 + at, value);
    }
    for (index, (begin, sp_offset, flags)) in [(MODULE, 8u8, 0x205u16), (MODULE + 0x800, 0, 0)]
        .into_iter()
        .enumerate()
    {
        let slot = ips + 4 * index as u64;
        machine.put_u32(slot, begin.wrapping_sub(slot) as u32);
        let [low, high] = flags.to_le_bytes();
        let entry = [sp_offset, 0, 0, 0, low, high];
        machine.write(entries + 6 * index as u64, &entry);
    }
}

/// The kernel's memory. With a five-level machine the addresses are the same.
pub(super) fn machine(mode: PagingMode) -> TestMachine {
    let mut machine = TestMachine::new(mode);
    machine.map(TEXT + SLIDE, true);
    machine.write(
        BANNER + SLIDE,
        b"Linux version 6.12.0-test (gcc) #1 SMP\n\0",
    );
    machine.map_range(BANNER + SLIDE, BANNER + SLIDE + 0x1000);
    machine.write(
        NOTES + SLIDE,
        &super::test_machine::note(b"GNU\0", 3, &BUILD_ID),
    );
    machine.write(BTF + SLIDE, &type_information());
    let ends = FUNCTIONS.iter().chain([&("", 0, 0)]);
    for (index, (_, sp_offset, flags)) in ends.enumerate() {
        let slot = ORC_IPS + 4 * index as u64;
        let begin = TEXT + 0x100 * index as u64;
        machine.put_u32(slot + SLIDE, begin.wrapping_sub(slot) as u32);
        let entry = ORC_ENTRIES + SLIDE + 6 * index as u64;
        machine.write(entry, &sp_offset.to_le_bytes());
        machine.write(entry + 2, &[0, 0]);
        machine.write(entry + 4, &flags.to_le_bytes());
    }
    machine.map_range(DATA + SLIDE, DATA + SLIDE + 0x4000);
    machine.put(DATA + SLIDE, PER_CPU);
    machine.put_u32(DATA + SLIDE + 0x100, 1);
    machine.put(DATA + SLIDE + 0x108, 1);

    let tasks = [SWAPPER, READER, KTHREAD];
    for (index, task) in tasks.iter().enumerate() {
        machine.map_range(task.stack, task.stack + THREAD_SIZE);
        machine.map_range(task.address, task.address + 0x1000);
        let next = &tasks[(index + 1) % tasks.len()];
        machine.put(
            task.address + member::TASK_LINKS,
            next.address + member::TASK_LINKS,
        );
        machine.put(
            next.address + member::TASK_LINKS + 8,
            task.address + member::TASK_LINKS,
        );
        let (node, head) = (
            task.address + member::THREAD_NODE,
            SIGNALS + 0x100 * index as u64,
        );
        for (from, to) in [(node, head), (head, node)] {
            machine.put(from, to);
            machine.put(to + 8, from);
        }
        machine.put(task.address + member::STACK, task.stack);
        machine.put_u32(task.address + member::PID, task.pid);
        machine.put_u32(task.address + member::TGID, task.pid);
        machine.write(task.address + member::COMM, task.comm.as_bytes());
    }
    machine.put_u32(KTHREAD.address + member::STATE, 1);

    // What does not run: a kernel thread, and the idle task, whose outermost code is not marked.
    put_module(&mut machine);
    for (task, calls) in [
        (
            &KTHREAD,
            vec![MODULE + 0x150, code("kthread"), code("ret_from_fork_asm")],
        ),
        (&SWAPPER, vec![code("kthread"), code("_stext")]),
    ] {
        let below = task.stack + THREAD_SIZE - 0x100;
        for (index, ip) in calls.iter().enumerate() {
            machine.put(below + 8 + 8 * index as u64, *ip);
        }
        put_switch(&mut machine, task, below - 56);
    }

    // A system call, interrupted, the handler on the IRQ stack.
    let user = READER.stack + THREAD_SIZE - 168;
    put_regs(&mut machine, user, 0x40_1000, 0x33, 0x7ffd_0000_0000);
    machine.put(user - 8, code("entry_SYSCALL_64_after_hwframe"));
    let regs = user - 0x20 - 168;
    put_regs(&mut machine, regs, code("vfs_read"), 0x10, user - 0x20);
    machine.put(regs - 8, code("asm_common_interrupt"));
    machine.map_range(IRQ_END - THREAD_SIZE, IRQ_END);
    machine.put(IRQ_END - 8, regs - 8);
    machine.put(IRQ_END - 16, code("call_on_irqstack"));

    machine.put(PER_CPU + percpu::CURRENT_TASK, READER.address);
    machine.put(PER_CPU + percpu::HARDIRQ_STACK_PTR, IRQ_END - 8);
    machine.put(PER_CPU + percpu::CPU_NUMBER, 0);
    machine.put(PER_CPU + percpu::EXCEPTIONS, ENTRY_AREA + 0x7000);
    machine.put(PER_CPU + percpu::IDLE_THREADS, SWAPPER.address);
    machine
}

/// The registers of the CPU.
pub(super) fn registers() -> Registers {
    Registers {
        ip: code("handle_irq"),
        sp: IRQ_END - 0x18,
        cs: 0x10,
        ..Registers::default()
    }
}

/// The core that QEMU writes.
pub(super) fn core(mode: PagingMode) -> Vec<u8> {
    qemu(machine(mode))
}

/// The same of a machine that was changed.
pub(super) fn qemu(machine: TestMachine) -> Vec<u8> {
    with_cpu(machine, &registers(), 0)
}

/// The same with the CPU in user mode, whose page tables are the next.
pub(super) fn user_mode() -> Vec<u8> {
    let registers = Registers {
        ip: 0x40_1000,
        cs: 0x33,
        ..Registers::default()
    };
    with_cpu(machine(PagingMode::FourLevel), &registers, 0x1000)
}

fn with_cpu(mut machine: TestMachine, registers: &Registers, cr3_flags: u64) -> Vec<u8> {
    let system = SystemRegisters {
        cr3: machine.cr3() | cr3_flags,
        cr4: machine.cr4(),
        gs_base: PER_CPU,
        ..SystemRegisters::default()
    };
    machine.cpu(registers, Some(&system));
    machine.core()
}

/// The core that kdump writes. `swapper_pg_dir` and `phys_base` are what the page tables are found
/// by.
pub(super) fn kdump(release: &str) -> Vec<u8> {
    let mut machine = machine(PagingMode::FourLevel);
    machine.cpu(&registers(), None);
    let phys_base = 0x100_0000i64;
    let swapper = 0xffff_ffff_8000_0000u64
        .wrapping_add(machine.cr3())
        .wrapping_sub(phys_base as u64);
    let info = format!(
        "OSRELEASE={release}\nSYMBOL(swapper_pg_dir)={swapper:x}\nNUMBER(phys_base)={phys_base}\n\
         KERNELOFFSET={SLIDE:x}\nNUMBER(pgtable_l5_enabled)=0\n"
    );
    machine.note(b"VMCOREINFO\0", 0, info.as_bytes());
    machine.core()
}
