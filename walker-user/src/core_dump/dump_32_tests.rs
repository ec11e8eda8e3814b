//! A 32-bit kernel without type information, from its core to the text.

use super::{
    CoreDump, CoreError, Report, Selection,
    paging::PagingMode,
    tasks::Task,
    test_kernel_32::{
        self as kernel, INIT, KTHREADD, LAYOUT, Made, SERVER, SWAPPER, WORKER, machine, system_map,
    },
    test_machine::TestMachine,
};

fn open(machine: &TestMachine) -> Result<CoreDump, CoreError> {
    CoreDump::from_source(Box::new(machine.core()), system_map().as_bytes())
}

fn everything() -> Selection {
    Selection {
        cpus: true,
        tasks: true,
        ..Selection::default()
    }
}

fn text(core: &CoreDump, selection: &Selection) -> String {
    let mut out = Vec::new();
    Report::new(core).write(selection, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn all_cpus_and_tasks_are_shown() {
    let core = open(&machine(PagingMode::Pae)).unwrap();
    assert_eq!(
        text(&core, &everything()),
        "\
Linux version 6.1.0-test (gcc) #1 SMP

CPU 0  PID 30  server  (complete: user-mode)
Call Trace:
 <IRQ>
  serial8250_interrupt+0x50
  asm_common_interrupt+0x50/0x100
 </IRQ>
 <SOFTIRQ>
  net_rx_action+0x50/0x100
  call_on_stack+0x50/0x100
 </SOFTIRQ>
 <TASK>
  do_int80_syscall_32+0x50/0x100
  entry_INT80_32+0x50/0x100
 </TASK>

CPU 1  PID 31  worker_[2J  user mode at 0x8049000, sp 0xbf900000: on the kernel's stack are only \
the registers of the next entry

PID 0  swapper/0  R  (complete: end-of-stack)
Call Trace:
 <TASK>
  __schedule+0x50/0x100
  kthread+0x50/0x100
 </TASK>

PID 1  init  S  (complete: user-mode)
Call Trace:
 <TASK>
  __schedule+0x50/0x100
  do_int80_syscall_32+0x50/0x100
  entry_INT80_32+0x50/0x100
 </TASK>

PID 2  kthreadd  I  (complete: end-of-stack)
Call Trace:
 <TASK>
  __schedule+0x50/0x100
  kthread+0x50/0x100
 </TASK>

PID 30  server  running on CPU 0, above

PID 31  worker_[2J  running on CPU 1, above

2 CPUs, 5 tasks
walks    5 of 5 complete: end-of-stack 2, user-mode 2, user-sample 1
"
    );
}

#[test]
fn the_layout_of_tasks_is_found_by_their_structure() {
    for mode in [PagingMode::Pae, PagingMode::TwoLevel] {
        assert_eq!(open(&machine(mode)).unwrap().layout, LAYOUT, "{mode:?}");
    }
}

#[test]
fn what_a_field_must_hold_is_asked_of_every_task() {
    // One task is enough to refute what the others would prove.
    for (task, offset, value, what) in [
        (SWAPPER, LAYOUT.stack, 0x1234, "the stack of init_task"),
        (SWAPPER, LAYOUT.comm, 0x7878_7878, "the name of init_task"),
        (KTHREADD, LAYOUT.pid, 1, "the numbers"),
        (INIT, LAYOUT.tgid, 7, "the numbers"),
        (KTHREADD, LAYOUT.thread_node, 0x1234, "the lists of threads"),
        (INIT, LAYOUT.sp, KTHREADD.stack, "the saved stack pointers"),
    ] {
        let mut machine = machine(PagingMode::Pae);
        machine.put(task.address + offset, value);
        let error = open(&machine).unwrap_err();
        assert!(matches!(error, CoreError::Structure(_)), "{error}");
        let error = error.to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn tasks_are_selected_by_name_and_number() {
    let core = open(&machine(PagingMode::Pae)).unwrap();
    let shown = |comms: &[&str], pids: &[u32]| -> Vec<String> {
        let selection = Selection {
            tasks: true,
            comms: comms.iter().map(|&name| name.to_owned()).collect(),
            pids: pids.to_vec(),
            ..Selection::default()
        };
        let text = text(&core, &selection);
        let heads = text.lines().filter(|line| line.starts_with("PID "));
        heads
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(shown(&["init"], &[]), ["1"]);
    assert_eq!(shown(&[], &[30]), ["30", "31"], "a process has threads");
    assert_eq!(shown(&[], &[31]), ["31"]);
    assert_eq!(shown(&["init"], &[2]), [""; 0]);
    // A filter holds for the CPUs as well.
    let selection = Selection {
        pids: vec![31],
        ..everything()
    };
    let text = text(&core, &selection);
    assert!(
        !text.contains("\nCPU 0") && text.contains("\nCPU 1"),
        "{text}"
    );
}

/// A core whose layout is known, with something wrong that came later.
fn broken(spoil: impl Fn(&mut TestMachine)) -> CoreDump {
    let mut machine = machine(PagingMode::Pae);
    spoil(&mut machine);
    let whole = open(&self::machine(PagingMode::Pae)).unwrap();
    let mut core = open(&self::machine(PagingMode::Pae)).unwrap();
    let tables = machine.tables();
    let file = super::file::CoreFile::open(Box::new(machine.core())).unwrap();
    core.kernel.memory = super::memory::CoreMemory::new(file, tables);
    core.list = super::tasks::all(&core.kernel, &whole.layout, SWAPPER.address);
    core
}

fn found(core: &CoreDump) -> Vec<u64> {
    core.list
        .tasks
        .iter()
        .map(|task: &Task| task.address)
        .collect()
}

fn addresses(tasks: &[Made]) -> Vec<u64> {
    tasks.iter().map(|task| task.address).collect()
}

#[test]
fn a_list_that_goes_round_in_a_circle_ends_and_is_told() {
    let core = broken(|machine| {
        machine.put(SERVER.address + LAYOUT.tasks, INIT.address + LAYOUT.tasks);
    });
    assert_eq!(
        found(&core),
        addresses(&[SWAPPER, INIT, KTHREADD, SERVER, WORKER])
    );
    assert_eq!(core.list.broken.len(), 1);
    assert!(
        core.list.broken[0].contains("circle"),
        "{:?}",
        core.list.broken
    );
    assert!(text(&core, &everything()).contains("\nmissing  list of processes: "));
}

#[test]
fn a_list_that_leads_nowhere_ends_and_is_told() {
    let core = broken(|machine| machine.put(INIT.address + LAYOUT.tasks, 0x1234));
    assert_eq!(found(&core), addresses(&[SWAPPER, INIT]));
    assert!(
        core.list.broken[0].contains("not mapped"),
        "{:?}",
        core.list.broken
    );
}

#[test]
fn broken_lists_of_threads_end_and_the_processes_go_on() {
    for next in [WORKER.address + LAYOUT.thread_node, 0x1234, INIT.address] {
        let core = broken(|machine| machine.put(WORKER.address + LAYOUT.thread_node, next));
        let all = found(&core);
        assert_eq!(all[..4], addresses(&[SWAPPER, INIT, KTHREADD, SERVER]));
        assert_eq!(
            core.list.broken.len(),
            1,
            "{next:#x}: {:?}",
            core.list.broken
        );
        assert!(core.list.broken[0].contains("process 30"));
    }
}

#[test]
fn a_cpu_in_the_middle_of_a_switch_is_on_the_other_tasks_stack() {
    let machine = machine(PagingMode::Pae);
    // CPU 0 says it runs init, and its stack pointer is on kthreadd's stack.
    let regs = KTHREADD.user_regs();
    let mut core = open(&machine).unwrap();
    core.cpus[0].current = Some(INIT.address);
    let note = core.cpus[0].note.as_mut().unwrap();
    note.registers.ip = kernel::code("__schedule");
    note.registers.sp = regs - 0x60;
    note.registers.bp = regs - 0x20;
    let text = text(&core, &everything());
    assert!(
        text.contains("\nCPU 0  PID 2  kthreadd  being switched to from PID 1  init  (complete"),
        "{text}"
    );
}

#[test]
fn without_qemus_notes_what_they_lead_to_is_said_to_be_missing() {
    let whole = machine(PagingMode::Pae);
    let mut core = open(&whole).unwrap();
    core.cpus[0].note = None;
    core.cpus[0].unknown = vec!["its registers: no note has them".to_owned()];
    let text = text(&core, &everything());
    assert!(
        text.contains("\nCPU 0  PID 30  server\n not known: its registers"),
        "{text}"
    );
}
