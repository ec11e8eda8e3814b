//! The tasks of a kernel in a core: all processes from `init_task.tasks`, and their threads.
//!
//! The lists are the crashed kernel's and may be what crashed it: they are bounded, no task is
//! taken twice, and what ends a list early is told.

use std::collections::HashSet;

use super::{
    kernel::CoreKernel,
    symbols::until_zero,
    task_layout::{COMM_BYTES, TaskLayout},
};
use crate::{
    classify::{KnownStack, WordSize},
    kernel::memory::ReadError,
};

/// The most tasks (`PID_MAX_LIMIT` of 64-bit kernels).
const MAX_TASKS: usize = 4 << 20;
/// The most bytes of a task that are read; it has about 10 KiB.
const MAX_SPAN: u64 = 64 << 10;
/// The most threads of a process that are looked at.
const MAX_THREADS: usize = 1 << 20;

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// Address of its `struct task_struct`.
    pub address: u64,
    /// The thread's number.
    pub pid: u32,
    /// The process's number.
    pub tgid: u32,
    /// Its name. It is the task's own choice and may hold anything.
    pub comm: String,
    /// What it is doing, as a letter of `ps`; `?` if that is not known.
    pub state: char,
    /// The lowest address of its kernel stack.
    pub stack: u64,
    /// The stack pointer with which it was switched away from, unless it runs.
    pub sp: u64,
    /// The next of all processes.
    next: u64,
    /// The next thread.
    next_thread: u64,
}

impl Task {
    /// Reads a task.
    ///
    /// # Errors
    /// If it is not in the core.
    pub(super) fn read(
        kernel: &CoreKernel,
        layout: &TaskLayout,
        address: u64,
    ) -> Result<Self, ReadError> {
        let mut bytes = vec![0; layout.span().min(MAX_SPAN) as usize];
        kernel.memory.fill(address, &mut bytes)?;
        let number = |offset: u64, size: usize| -> u64 {
            let mut word = [0; 8];
            if let Some(found) = bytes.get(offset as usize..offset as usize + size) {
                word[..size].copy_from_slice(found);
            }
            u64::from_le_bytes(word)
        };
        let size = kernel.word().bytes() as usize;
        let comm = bytes
            .get(layout.comm as usize..(layout.comm + COMM_BYTES) as usize)
            .unwrap_or(&[]);
        let state = layout.state.map(|at| number(at, 4) as u32);
        let exit_state = layout.exit_state.map_or(0, |at| number(at, 4) as u32);
        Ok(Self {
            address,
            pid: number(layout.pid, 4) as u32,
            tgid: number(layout.tgid, 4) as u32,
            comm: String::from_utf8_lossy(until_zero(comm)).into_owned(),
            state: state.map_or('?', |state| letter(state, exit_state)),
            stack: number(layout.stack, size),
            sp: number(layout.sp, size),
            next: number(layout.tasks, size),
            next_thread: number(layout.thread_node, size),
        })
    }

    /// Its kernel stack, if it can be one: a task that ended may have given it back already.
    #[must_use]
    pub(super) fn known_stack(&self, layout: &TaskLayout) -> Option<KnownStack> {
        KnownStack::task(self.stack, layout.thread_size).ok()
    }
}

/// The letter `ps` shows (`task_state_array`, `fs/proc/array.c`, 6.12; the bits are those of
/// `include/linux/sched.h`, the same since 4.14).
fn letter(state: u32, exit_state: u32) -> char {
    const NOLOAD_UNINTERRUPTIBLE: u32 = 0x402;
    let both = state | exit_state;
    match both {
        0 => 'R',
        _ if both & 0x20 != 0 => 'Z',
        _ if both & 0x10 != 0 => 'X',
        _ if state & NOLOAD_UNINTERRUPTIBLE == NOLOAD_UNINTERRUPTIBLE => 'I',
        _ if both & 0x1 != 0 => 'S',
        _ if both & 0x2 != 0 => 'D',
        _ if both & 0x4 != 0 => 'T',
        _ if both & 0x8 != 0 => 't',
        _ if both & 0x40 != 0 => 'P',
        _ => '?',
    }
}

/// The tasks that were found.
#[derive(Debug, Default)]
pub(super) struct TaskList {
    /// In the order of the kernel's lists: each process followed by its other threads.
    pub tasks: Vec<Task>,
    /// What ended a list early, one line each.
    pub broken: Vec<String>,
}

/// Reads all tasks but the idle ones of the CPUs, which are in no list.
#[must_use]
pub(super) fn all(kernel: &CoreKernel, layout: &TaskLayout, init_task: u64) -> TaskList {
    let mut list = TaskList::default();
    let mut seen = HashSet::from([init_task]);
    let first = match Task::read(kernel, layout, init_task) {
        Ok(first) => first,
        Err(error) => {
            list.broken
                .push(format!("list of processes: init_task: {error}"));
            return list;
        }
    };
    let mut next = first.next;
    list.tasks.push(first);
    loop {
        let address = container(next, layout.tasks, kernel.word());
        if address == init_task {
            break;
        }
        if !seen.insert(address) {
            list.broken.push(format!(
                "list of processes: goes round in a circle at {address:#x} without init_task"
            ));
            break;
        }
        if list.tasks.len() >= MAX_TASKS {
            list.broken
                .push(format!("list of processes: longer than {MAX_TASKS}"));
            break;
        }
        let task = match Task::read(kernel, layout, address) {
            Ok(task) => task,
            Err(error) => {
                list.broken.push(format!("list of processes: {error}"));
                break;
            }
        };
        next = task.next;
        let leader = task.clone();
        list.tasks.push(task);
        threads(kernel, layout, &leader, &mut seen, &mut list);
    }
    list
}

/// Adds the other threads of a process.
fn threads(
    kernel: &CoreKernel,
    layout: &TaskLayout,
    leader: &Task,
    seen: &mut HashSet<u64>,
    list: &mut TaskList,
) {
    let mut next = leader.next_thread;
    let mut heads = 0;
    for _ in 0..MAX_THREADS {
        let address = container(next, layout.thread_node, kernel.word());
        if address == leader.address {
            return;
        }
        let broken =
            |why: &dyn std::fmt::Display| format!("threads of process {}: {why}", leader.tgid);
        let task = Task::read(kernel, layout, address);
        match task {
            Ok(task) if task.tgid == leader.tgid && is_linked(kernel, next) => {
                if !seen.insert(address) {
                    let circle = format!("go round in a circle at {address:#x}");
                    list.broken.push(broken(&circle));
                    return;
                }
                next = task.next_thread;
                list.tasks.push(task);
            }
            // One link is the head of the list, which is not in a task.
            _ if heads == 0 => {
                heads = 1;
                match kernel.word_at(next) {
                    Ok(after) => next = after,
                    Err(error) => {
                        list.broken.push(broken(&error));
                        return;
                    }
                }
            }
            Err(error) => {
                list.broken.push(broken(&error));
                return;
            }
            Ok(_) => {
                let stray = format!("a task of another process at {address:#x}");
                list.broken.push(broken(&stray));
                return;
            }
        }
    }
    list.broken
        .push(format!("threads of process {}: too many", leader.tgid));
}

/// Whether the next link leads back to this one (`struct list_head`).
fn is_linked(kernel: &CoreKernel, link: u64) -> bool {
    let back = |next: u64| kernel.word_at(next.wrapping_add(kernel.word().bytes()));
    kernel.word_at(link).and_then(back) == Ok(link)
}

/// The struct that has a member at this address.
pub(super) fn container(member: u64, offset: u64, word: WordSize) -> u64 {
    let address = member.wrapping_sub(offset);
    match word {
        WordSize::Eight => address,
        WordSize::Four => address & 0xffff_ffff,
    }
}

#[cfg(test)]
mod tests {
    use super::letter;

    #[test]
    fn states_have_the_letters_of_ps() {
        for (state, exit_state, expected) in [
            (0, 0, 'R'),
            (1, 0, 'S'),
            (2, 0, 'D'),
            (0x402, 0, 'I'),
            (4, 0, 'T'),
            (8, 0, 't'),
            (0x40, 0, 'P'),
            (0x80, 0x20, 'Z'),
            (0x80, 0x10, 'X'),
            // TASK_FREEZABLE and TASK_KILLABLE are only added to another state.
            (0x2001, 0, 'S'),
            (0x102, 0, 'D'),
        ] {
            assert_eq!(
                letter(state, exit_state),
                expected,
                "{state:#x} {exit_state:#x}"
            );
        }
    }
}
