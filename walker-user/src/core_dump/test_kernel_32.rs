//! A made-up 32-bit kernel without type information, moved by KASLR: two CPUs, five tasks.

use walker_common::wire::Registers;

use super::{
    notes::SystemRegisters, paging::PagingMode, task_layout::SwitchFrame, task_layout::TaskLayout,
    test_machine::TestMachine,
};

/// What KASLR added.
pub(super) const SLIDE: u64 = 0x0300_0000;
pub(super) const THREAD_SIZE: u64 = 0x2000;
/// Link addresses.
const TEXT: u64 = 0xc100_0000;
const BANNER: u64 = 0xc120_0040;
const DATA: u64 = 0xc130_0000;
const INIT_TASK: u64 = DATA + 0x1000;
const INIT_STACK: u64 = DATA + 0x4000;
const PER_CPU_START: u64 = 0xc150_0000;
const SWAPPER_PG_DIR: u64 = 0xc160_0000;
/// Where things are that are allocated, which KASLR does not move.
const TASKS: u64 = 0xc800_0000;
const STACKS: u64 = 0xc900_0000;
const SIGNALS: u64 = 0xca00_0000;
const PER_CPU: u64 = 0xcb00_0000;
const ENTRY_AREA: u64 = 0xff80_0000;
pub(super) const HARDIRQ: u64 = 0xcc00_0000;
pub(super) const SOFTIRQ: u64 = 0xcc01_0000;
/// A `struct pt_regs`, and what is left free above that of the entry.
const REGS: u64 = 68;
const PADDING: u64 = 16;

/// What `structure` has to find.
pub(super) const LAYOUT: TaskLayout = TaskLayout {
    stack: 20,
    pid: 0x140,
    tgid: 0x144,
    comm: 0x200,
    state: Some(16),
    exit_state: None,
    tasks: 0x100,
    thread_node: 0x1a4,
    sp: 0x318,
    switch: SwitchFrame {
        bp: 16,
        ip: 20,
        bytes: 24,
    },
    thread_size: THREAD_SIZE,
};
const REAL_PARENT: u64 = 0x14c;
const SIBLINGS: u64 = 0x15c;
const GROUP_LEADER: u64 = 0x164;

/// Functions, 0x100 bytes each.
pub(super) const FUNCTIONS: [&str; 9] = [
    "_stext",
    "entry_INT80_32",
    "do_int80_syscall_32",
    "__schedule",
    "kthread",
    "call_on_stack",
    "net_rx_action",
    "asm_common_interrupt",
    "serial8250_interrupt",
];

/// An address in a function, where it is in memory.
pub(super) fn code(name: &str) -> u64 {
    let index = FUNCTIONS.iter().position(|function| *function == name);
    TEXT + SLIDE + 0x100 * index.expect("a function of the kernel") as u64 + 0x50
}

/// The kernel's System.map.
pub(super) fn system_map() -> String {
    let mut map = String::new();
    for (index, name) in FUNCTIONS.iter().enumerate() {
        map += &format!("{:08x} T {name}\n", TEXT + 0x100 * index as u64);
    }
    for (address, name) in [
        (TEXT + 0x1000, "_etext"),
        (BANNER, "linux_banner"),
        (DATA, "__per_cpu_offset"),
        (DATA + 0x100, "nr_cpu_ids"),
        (DATA + 0x108, "__cpu_online_mask"),
        (INIT_TASK, "init_task"),
        (INIT_STACK, "init_stack"),
        (PER_CPU_START, "__per_cpu_start"),
        (PER_CPU_START + 0x10, "current_task"),
        (PER_CPU_START + 0x14, "hardirq_stack_ptr"),
        (PER_CPU_START + 0x18, "softirq_stack_ptr"),
        (PER_CPU_START + 0x1c, "idle_threads"),
        (SWAPPER_PG_DIR, "swapper_pg_dir"),
    ] {
        map += &format!("{address:08x} D {name}\n");
    }
    map
}

/// A task of the tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) address: u64,
    pub(super) stack: u64,
    pid: u32,
    tgid: u32,
    comm: &'static str,
}

const fn task(number: u64, pid: u32, tgid: u32, comm: &'static str) -> Made {
    Made {
        address: TASKS + 0x2000 * number,
        stack: STACKS + THREAD_SIZE * number,
        pid,
        tgid,
        comm,
    }
}

pub(super) const SWAPPER: Made = Made {
    address: INIT_TASK + SLIDE,
    stack: INIT_STACK + SLIDE,
    ..task(0, 0, 0, "swapper/0")
};
pub(super) const INIT: Made = task(1, 1, 1, "init");
pub(super) const KTHREADD: Made = task(2, 2, 2, "kthreadd");
pub(super) const SERVER: Made = task(3, 30, 30, "server");
pub(super) const WORKER: Made = task(4, 31, 30, "worker\x1b[2J");

impl Made {
    /// Where the registers of the entry from user mode are.
    pub(super) const fn user_regs(&self) -> u64 {
        self.stack + THREAD_SIZE - PADDING - REGS
    }
}

pub(super) fn put_frame(machine: &mut TestMachine, bp: u64, next_bp: u64, ip: u64) {
    machine.put(bp, next_bp);
    machine.put(bp + 4, ip);
}

fn put_regs(machine: &mut TestMachine, at: u64, ip: u64, bp: u64, user: bool) {
    let (cs, ss) = if user { (0x73, 0x7b) } else { (0x60, 0x68) };
    for (offset, value) in [
        (20, bp),
        (48, ip),
        (52, cs),
        (56, 0x246),
        (60, at + REGS),
        (64, ss),
    ] {
        machine.put(at + offset, value);
    }
}

/// Leaves a system call on a task's stack. Returns the frame pointer in the function it called.
fn put_system_call(machine: &mut TestMachine, task: &Made) -> u64 {
    let regs = task.user_regs();
    put_regs(machine, regs, 0x0804_8123, 0xbf80_0010, true);
    put_frame(machine, regs - 8, 0xbf80_0010, code("entry_INT80_32"));
    put_frame(machine, regs - 0x40, regs - 8, code("do_int80_syscall_32"));
    regs - 0x40
}

/// Leaves a switch on top of what is on a task's stack.
fn put_switch(machine: &mut TestMachine, task: &Made, bp: u64) {
    let sp = bp - 0x60;
    machine.put(sp + LAYOUT.switch.bp, bp);
    machine.put(sp + LAYOUT.switch.ip, code("__schedule"));
    machine.put(task.address + LAYOUT.sp, sp);
}

fn put_task(machine: &mut TestMachine, task: &Made, state: u32) {
    let at = task.address;
    machine.map_range(task.stack, task.stack + THREAD_SIZE);
    machine.map_range(at, at + 0x1000);
    machine.put_u32(at + 16, state);
    machine.put(at + LAYOUT.stack, task.stack);
    machine.put_u32(at + LAYOUT.pid, task.pid);
    machine.put_u32(at + LAYOUT.tgid, task.tgid);
    machine.write(at + LAYOUT.comm, task.comm.as_bytes());
    machine.put(at + REAL_PARENT, SWAPPER.address);
    machine.put(at + REAL_PARENT + 4, SWAPPER.address);
    for list in [
        REAL_PARENT + 8,
        SIBLINGS,
        GROUP_LEADER + 4,
        GROUP_LEADER + 12,
    ] {
        machine.put(at + list, at + list);
        machine.put(at + list + 4, at + list);
    }
    machine.put(at + GROUP_LEADER, at);
}

/// Links list heads in a circle.
pub(super) fn put_list(machine: &mut TestMachine, links: &[u64]) {
    for (index, link) in links.iter().enumerate() {
        let next = links[(index + 1) % links.len()];
        machine.put(*link, next);
        machine.put(next + 4, *link);
    }
}

/// The kernel's memory: CPU 0 in an interrupt of a softirq of `server`'s system call, CPU 1 in
/// user mode in its other thread.
pub(super) fn machine(mode: PagingMode) -> TestMachine {
    let mut machine = TestMachine::new(mode);
    machine.map(TEXT + SLIDE, true);
    machine.write(BANNER + SLIDE, b"Linux version 6.1.0-test (gcc) #1 SMP\n\0");
    machine.map_range(DATA + SLIDE, DATA + SLIDE + 0x8000);
    machine.put_u32(DATA + SLIDE + 0x100, 2);
    machine.put(DATA + SLIDE + 0x108, 0b11);

    for (task, state) in [
        (SWAPPER, 0),
        (INIT, 1),
        (KTHREADD, 0x402),
        (SERVER, 0),
        (WORKER, 0),
    ] {
        put_task(&mut machine, &task, state);
    }
    let leaders = [SWAPPER, INIT, KTHREADD, SERVER];
    put_list(
        &mut machine,
        &leaders.map(|task| task.address + LAYOUT.tasks),
    );
    for (index, leader) in leaders.iter().enumerate() {
        let mut links = vec![
            SIGNALS + 0x100 * index as u64,
            leader.address + LAYOUT.thread_node,
        ];
        if leader.pid == SERVER.pid {
            links.push(WORKER.address + LAYOUT.thread_node);
        }
        put_list(&mut machine, &links);
    }

    // What does not run: the idle task, a system call, a kernel thread.
    let regs = SWAPPER.user_regs();
    put_frame(&mut machine, regs - 8, 0x0100_0000, code("kthread"));
    put_switch(&mut machine, &SWAPPER, regs - 8);
    let bp = put_system_call(&mut machine, &INIT);
    put_switch(&mut machine, &INIT, bp);
    let regs = KTHREADD.user_regs();
    put_frame(
        &mut machine,
        regs - 0x20,
        regs & 0x7fff_ffff,
        code("kthread"),
    );
    put_switch(&mut machine, &KTHREADD, regs - 0x20);

    // What runs.
    let task_bp = put_system_call(&mut machine, &SERVER);
    machine.map_range(SOFTIRQ, SOFTIRQ + THREAD_SIZE);
    machine.map_range(HARDIRQ, HARDIRQ + THREAD_SIZE);
    let softirq_bp = SOFTIRQ + THREAD_SIZE - 0x40;
    put_frame(&mut machine, softirq_bp, task_bp, code("call_on_stack"));
    machine.put(SOFTIRQ, task_bp - 0x10);
    let regs = softirq_bp - 0x100;
    put_regs(&mut machine, regs, code("net_rx_action"), softirq_bp, false);
    let irq_bp = HARDIRQ + THREAD_SIZE - 8;
    put_frame(
        &mut machine,
        irq_bp,
        regs & 0x7fff_ffff,
        code("asm_common_interrupt"),
    );
    machine.put(HARDIRQ, regs - 0x10);

    for (cpu, current) in [(0, SERVER), (1, WORKER)] {
        let area = PER_CPU + 0x10_0000 * cpu;
        machine.put(
            DATA + SLIDE + 4 * cpu,
            area.wrapping_sub(PER_CPU_START + SLIDE),
        );
        machine.put(area + 0x10, current.address);
        machine.put(area + 0x14, HARDIRQ + 0x10_0000 * cpu);
        machine.put(area + 0x18, SOFTIRQ + 0x10_0000 * cpu);
        machine.put(area + 0x1c, SWAPPER.address);
        let kernel = Registers {
            ip: code("serial8250_interrupt"),
            sp: irq_bp - 0x20,
            bp: irq_bp,
            cs: 0x60,
            ..Registers::default()
        };
        let user = Registers {
            ip: 0x0804_9000,
            sp: 0xbf90_0000,
            cs: 0x73,
            ..Registers::default()
        };
        let system = SystemRegisters {
            cr3: machine.cr3(),
            cr4: machine.cr4(),
            fs_base: area.wrapping_sub(PER_CPU_START + SLIDE) & 0xffff_ffff,
            gdt_base: ENTRY_AREA + 0x1_0000 * cpu,
            tr_base: ENTRY_AREA + 0x1_0000 * cpu + 0x5000,
            ..SystemRegisters::default()
        };
        machine.cpu(if cpu == 0 { &kernel } else { &user }, Some(&system));
    }
    machine
}
