//! What is found out about the kernel, against what the kernel says by another way.

use std::{
    mem,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use libtest_mimic::Completion;
use tokio::runtime::Builder;
use walker_common::{StackKind, maps::names};
use walker_user::{
    btf::Btf,
    capture::{
        object::Object,
        session::{Prepared, Session, Setup, online_cpus, prepare},
        target::Target,
    },
    classify::KnownStack,
    kernel::{
        kallsyms::Kallsyms,
        memory::KernelMemory as _,
        orc_source::{self, RawOrc},
        stacks::CpuStackTable,
    },
};

use crate::{Test, capture::options, support::Place, test};

pub(crate) const TESTS: &[Test] = &[
    test!(every_bpf_program_loads),
    test!(memory_that_is_not_there_cannot_be_read),
    test!(the_per_cpu_data_is_that_of_each_cpu),
    test!(the_stacks_have_their_sizes_and_do_not_overlap),
    test!(the_stacks_are_shown),
    test!(may be ignored: the_unwind_table_is_found_the_same_both_ways),
    test!(the_unwind_table_is_whole),
    test!(our_own_programs_are_on_the_list_of_bpf_text),
    test!(the_doctor_finds_nothing_bad),
    test!(may be ignored: signals_do_not_keep_programs_from_loading),
];

fn prepared() -> Prepared {
    prepare(&Setup::without_samples()).unwrap()
}

/// The table of a CPU, which is there for every CPU that is online.
fn table(prepared: &Prepared, cpu: u32) -> CpuStackTable {
    let mut tables = prepared.kernel.cpus();
    let (_, table) = tables.find(|(number, _)| *number == cpu).unwrap();
    table.clone()
}

/// Keeps this thread on one CPU; it may go anywhere again when this is dropped.
pub(crate) struct Pinned {
    before: libc::cpu_set_t,
}

impl Pinned {
    pub(crate) fn to(cpu: u32) -> Self {
        // SAFETY: a CPU set is a plain array of bits, for which zeros are valid.
        let (mut before, mut only): (libc::cpu_set_t, libc::cpu_set_t) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        // SAFETY: the pointers are to CPU sets of the size given, and `cpu` is below their size.
        unsafe {
            let size = size_of::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size, &raw mut before), 0);
            libc::CPU_SET(cpu as usize, &mut only);
            assert_eq!(libc::sched_setaffinity(0, size, &raw const only), 0);
        }
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let size = size_of::<libc::cpu_set_t>();
        // SAFETY: the pointer is to a CPU set of the size given.
        unsafe { libc::sched_setaffinity(0, size, &raw const self.before) };
    }
}

/// Those that are missing here were loaded and run to prepare.
fn every_bpf_program_loads() {
    let mut prepared = prepared();
    let object = &mut prepared.object;
    for name in [
        names::PROG_CAPTURE,
        names::PROG_CAPTURE_EVENT,
        names::PROG_CAPTURE_COST,
        names::PROG_KERNEL_UNWIND,
    ] {
        object.load_perf(name).unwrap();
    }
    for (name, tracepoint) in [
        (names::PROG_FORK, "sched_process_fork"),
        (names::PROG_EXEC, "sched_process_exec"),
        (names::PROG_FREE, "sched_process_free"),
        (names::PROG_WAKING, "sched_waking"),
        (names::PROG_SWITCH, "sched_switch"),
        (names::PROG_IRQ_ENTRY, "irq_handler_entry"),
        (names::PROG_IRQ_EXIT, "irq_handler_exit"),
        (names::PROG_SOFTIRQ_ENTRY, "softirq_entry"),
        (names::PROG_SOFTIRQ_EXIT, "softirq_exit"),
        (names::PROG_VECTOR_ENTRY, "local_timer_entry"),
        (names::PROG_VECTOR_EXIT, "local_timer_exit"),
    ] {
        object.attach_raw_tracepoint(name, tracepoint).unwrap();
    }
    for name in names::PROG_TRACE {
        object
            .attach_raw_tracepoint(name, "sched_process_exit")
            .unwrap();
    }
}

fn memory_that_is_not_there_cannot_be_read() {
    let mut prepared = prepared();
    // The first page, and the hole between the halves of the address space.
    for address in [0, 0x8000_0000_0000_0000] {
        let read = prepared.object.read(address, 8);
        assert!(read.is_err(), "{address:#x}: {read:?}");
    }
    let task = prepared.object.cpu_facts(0).unwrap().unwrap().task;
    assert!(prepared.object.read(task, 8).is_ok());
}

fn the_per_cpu_data_is_that_of_each_cpu() {
    let mut prepared = prepared();
    let offsets = prepared.kernel.offsets.clone();
    let read = |object: &mut Object, address: u64| object.read_u64(address).unwrap();
    for cpu in online_cpus().unwrap() {
        let base = table(&prepared, cpu).base;
        let object = &mut prepared.object;
        assert_eq!(object.read_u32(base + offsets.cpu_number).unwrap(), cpu);

        // Asked on the CPU that this thread is kept on, the running task is this thread.
        let _pinned = Pinned::to(cpu);
        let facts = object.cpu_facts(cpu).unwrap().unwrap();
        let tgid = object.read_u32(facts.task + offsets.task_tgid).unwrap();
        assert_eq!(tgid, std::process::id());
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() }.cast_unsigned();
        let pid = object.read_u32(facts.task + offsets.task_pid).unwrap();
        assert_eq!(pid, tid);
        assert_eq!(read(object, base + offsets.current_task), facts.task);
        let stack = read(object, facts.task + offsets.task_stack);
        assert_eq!(stack, facts.task_stack);
        if let Some(top_of_stack) = offsets.top_of_stack {
            let top = read(object, base + top_of_stack);
            assert_eq!(top, facts.task_stack + offsets.thread_size);
        }
    }
}

fn the_stacks_have_their_sizes_and_do_not_overlap() {
    let mut prepared = prepared();
    let btf = Btf::of_running_kernel().unwrap();
    let exception_stacks = btf.members_of("cea_exception_stacks").unwrap();
    let size = |kind: StackKind| {
        let member = match kind {
            StackKind::Irq => return btf.size_of("irq_stack").unwrap(),
            StackKind::Entry => return btf.size_of("entry_stack").unwrap(),
            StackKind::DoubleFault => "DF_stack",
            StackKind::Nmi => "NMI_stack",
            StackKind::Debug => "DB_stack",
            StackKind::MachineCheck => "MCE_stack",
            StackKind::Vc => "VC_stack",
            StackKind::Vc2 => "VC2_stack",
            StackKind::Unknown | StackKind::Task | StackKind::SoftIrq | StackKind::User => {
                panic!("{kind:?} is no stack of a CPU of x86_64")
            }
        };
        let member = exception_stacks.iter().find(|found| found.name == member);
        member.unwrap().size_bytes
    };
    let mut all: Vec<Range<u64>> = Vec::new();
    for cpu in online_cpus().unwrap() {
        let stacks = table(&prepared, cpu).stacks;
        for needed in [StackKind::Irq, StackKind::Entry, StackKind::Nmi] {
            let of_kind = |stack: &&KnownStack| stack.kind == needed;
            assert_eq!(stacks.iter().filter(of_kind).count(), 1, "{needed:?}");
        }
        for stack in &stacks {
            assert_eq!(stack.end - stack.begin, size(stack.kind), "{stack:?}");
            all.push(stack.begin..stack.end);
        }
        let facts = prepared.object.cpu_facts(cpu).unwrap().unwrap();
        let task = facts.task_stack..facts.task_stack + prepared.kernel.offsets.thread_size;
        assert!(
            !all.iter().any(|stack| overlap(stack, &task)),
            "the stack of a task is one of {stacks:?}"
        );
    }
    // No two stacks of any CPUs share a byte, so those of two CPUs differ.
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            assert!(!overlap(one, other), "{one:#x?} and {other:#x?}");
        }
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn the_stacks_are_shown() {
    let run = Place::new().run(&["stacks"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let prepared = prepared();
    for cpu in online_cpus().unwrap() {
        assert!(run.stdout.contains(&format!("CPU {cpu} ")), "{run:?}");
        for stack in table(&prepared, cpu).stacks {
            let range = format!("{:#018x} {:#018x}", stack.begin, stack.end);
            let line = run.stdout.lines().find(|line| line.contains(&range));
            let line = line.unwrap_or_else(|| panic!("no {range} in {run:?}"));
            assert!(line.contains(stack.kind.name()), "{line}");
        }
    }
    assert!(run.stdout.contains("TASK"), "{run:?}");
}

fn the_unwind_table_is_found_the_same_both_ways() -> Completion {
    let mut prepared = prepared();
    let symbols = &prepared.kernel.symbols;
    let Some(location) = orc_source::by_symbols(symbols) else {
        return Completion::ignored_with("kallsyms of this kernel has no bounds of the ORC tables");
    };
    let by_operands = orc_source::by_operands(&mut prepared.object, symbols).unwrap();
    assert_eq!(by_operands, location);
    Completion::Completed
}

fn the_unwind_table_is_whole() {
    let mut prepared = prepared();
    let symbols = &prepared.kernel.symbols;
    let location = orc_source::by_symbols(symbols)
        .map_or_else(
            || orc_source::by_operands(&mut prepared.object, symbols),
            Ok,
        )
        .unwrap();
    assert!(
        (50_000..4_000_000).contains(&location.count),
        "{} entries",
        location.count
    );
    let raw = RawOrc::read(&mut prepared.object, location).unwrap();
    let addresses: Vec<u64> = raw
        .ips
        .as_chunks::<4>()
        .0
        .iter()
        .zip((raw.ips_address..).step_by(4))
        .map(|(offset, at)| at.wrapping_add_signed(i32::from_le_bytes(*offset).into()))
        .collect();
    assert_eq!(addresses.len() as u64, location.count);
    assert!(addresses.is_sorted());

    let text = symbols.kernel_text().unwrap();
    let table = &prepared.kernel.sampled.tables.orc[0];
    assert!(text.holds(table.begin()), "{:#x}", table.begin());
    assert!(table.len() as u64 <= location.count);
    assert!(table.len() as u64 > location.count / 2);
    let unwinder = symbols.address("unwind_next_frame").unwrap();
    assert!(table.find(unwinder).is_some());
}

fn our_own_programs_are_on_the_list_of_bpf_text() {
    let mut prepared = prepared();
    let image = prepared.kernel.symbols.kernel_text().unwrap();
    let count = |list: &[walker_user::kernel::bpf_text::BpfSymbol]| {
        list.iter()
            .filter(|symbol| {
                symbol.name.starts_with("bpf_prog_") && symbol.name.ends_with("_read_kernel")
            })
            .count()
    };
    let before = prepared.bpf_text();
    assert!(count(&before) > 0, "{before:?}");
    assert!(before.is_sorted_by_key(|symbol| symbol.range.begin));
    assert!(!before.iter().any(|symbol| image.holds(symbol.range.begin)));
    assert!(
        before
            .windows(2)
            .all(|pair| pair[0].range.end <= pair[1].range.begin),
        "{before:?}"
    );

    // More programs, more text. Another stackwalk on this machine may take its own away at the
    // same moment, so this may need another look.
    let mut others = Vec::new();
    crate::wait::until("the list grows", || {
        others.push(self::prepared());
        count(&prepared.bpf_text()) > count(&before)
    });

    // What kallsyms shows of it is the same.
    let symbols = Kallsyms::of_running_kernel().unwrap();
    let now = prepared.bpf_text();
    let known = |begin: &&u64| now.iter().any(|symbol| symbol.range.begin == **begin);
    let shown = symbols.bpf_symbols();
    assert!(
        shown.iter().filter(known).count() * 2 >= shown.len(),
        "the list has {now:?}, kallsyms {shown:x?}"
    );
}

fn the_doctor_finds_nothing_bad() {
    let run = Place::new().run(&["doctor"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(run.stdout.contains("\nrecord works here\n"), "{run:?}");
    assert!(!run.stdout.contains("BAD"), "{run:?}");
}

/// The verifier gives up if a signal comes, and has to be asked again.
fn signals_do_not_keep_programs_from_loading() -> Completion {
    if crate::guest::here() {
        return Completion::ignored_with("its gaps are too short for an emulated CPU");
    }
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing. It stays, but nobody else sends this signal.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let stop = AtomicBool::new(false);
    // SAFETY: pthread_self has no preconditions.
    let this = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        let signals = scope.spawn(|| {
            // Bursts that interrupt the verifier every time, with gaps in which it gets through.
            for count in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // SAFETY: the thread that is signalled waits for this one.
                unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
                let in_burst = !count.is_multiple_of(15);
                thread::sleep(Duration::from_millis(if in_burst { 4 } else { 200 }));
            }
        });
        let target = Target::System;
        let results: Vec<_> = (0..10)
            .map(|_| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { Session::open(&options(&target)).map(drop) })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        signals.join().unwrap();
        for result in results {
            result.unwrap();
        }
    });
    Completion::Completed
}
