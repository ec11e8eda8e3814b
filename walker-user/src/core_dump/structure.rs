//! The layout of tasks in a kernel without type information, as distributions build theirs for
//! i386: found by what the fields must hold, each proved on every task before it is used.
//!
//! The order of the fields around which this looks is that of `struct task_struct`
//! (`include/linux/sched.h`), the same from 5.4 to 6.18 in what is used: `pid`, `tgid`, perhaps a
//! stack canary, `real_parent`, `parent`, `children`, `sibling`, `group_leader`.

use std::collections::HashSet;

use super::{
    CoreError,
    kernel::CoreKernel,
    symbols::until_zero,
    task_layout::{COMM_BYTES, SwitchFrame, TaskLayout},
    tasks::container,
};

/// How much of a task is looked at, in bytes; the FPU state that may follow is of no interest.
const SPAN: u64 = 16 << 10;
/// The most tasks on which a guess is proved.
const MAX_PROVED: usize = 256;
/// The most links of all lists that are followed; a guess that is wrong ends within a few, unless
/// the core was made to mislead.
const MAX_LINKS: usize = 4 << 20;
/// `THREAD_SIZE` of 32-bit kernels in all versions (`page_32_types.h`).
const THREAD_SIZE_32: u64 = 8 << 10;
/// Where the thread list can be, in words behind `group_leader`.
const THREAD_NODE_WORDS: std::ops::RangeInclusive<u64> = 4..=40;
/// What the switch can leave on a stack (`struct inactive_task_frame` of 32-bit kernels): with the
/// flags, from 5.1 on, and without.
const SWITCH_FRAMES: [SwitchFrame; 2] = [
    SwitchFrame {
        bp: 16,
        ip: 20,
        bytes: 24,
    },
    SwitchFrame {
        bp: 12,
        ip: 16,
        bytes: 20,
    },
];

/// The bytes of a task, as words.
struct Raw {
    address: u64,
    bytes: Vec<u8>,
    word: u64,
}

impl Raw {
    /// As much of a task as is mapped, by pages.
    fn read(kernel: &CoreKernel, address: u64) -> Self {
        let mut bytes = Vec::new();
        let end = address.saturating_add(SPAN);
        let mut at = address;
        while at < end {
            let step = (4096 - at % 4096).min(end - at);
            let mut page = vec![0; step as usize];
            if kernel.memory.fill(at, &mut page).is_err() {
                break;
            }
            bytes.extend(page);
            at += step;
        }
        Self {
            address,
            bytes,
            word: kernel.word().bytes(),
        }
    }

    fn word(&self, offset: u64) -> Option<u64> {
        let bytes = self
            .bytes
            .get(offset as usize..(offset + self.word) as usize)?;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        let bytes = self.bytes.get(offset as usize..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The offsets of all words.
    fn offsets(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.bytes.len() as u64 / self.word * self.word).step_by(self.word as usize)
    }

    /// Whether it has a name, as every task has.
    fn is_named(&self, comm: u64) -> bool {
        let name = self
            .bytes
            .get(comm as usize..(comm + COMM_BYTES) as usize)
            .map(until_zero);
        name.is_some_and(|name| {
            (1..COMM_BYTES as usize).contains(&name.len())
                && name
                    .iter()
                    .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
        })
    }
}

/// Finds the layout. `running` are the tasks that run, whose saved stack pointers are old.
///
/// # Errors
/// With what could not be found.
pub(super) fn discover(
    kernel: &CoreKernel,
    running: &HashSet<u64>,
) -> Result<TaskLayout, CoreError> {
    let word = kernel.word().bytes();
    let init_task = kernel.required("init_task")?;
    let init_stack = match kernel.address("init_stack") {
        Some(stack) => stack,
        None => kernel.required("init_thread_union")?,
    };
    let init = Raw::read(kernel, init_task);
    let stack = init
        .offsets()
        .find(|offset| init.word(*offset) == Some(init_stack))
        .ok_or(CoreError::Structure("the stack of init_task"))?;
    let comm = init
        .bytes
        .windows(10)
        .position(|text| text.starts_with(b"swapper\0") || text == b"swapper/0\0")
        .ok_or(CoreError::Structure("the name of init_task"))? as u64;
    let family = init
        .offsets()
        .find(|offset| {
            [0, 1, 6]
                .iter()
                .all(|index| init.word(offset + index * word) == Some(init_task))
        })
        .ok_or(CoreError::Structure("the parents of init_task"))?;
    let mut links = MAX_LINKS;
    let (tasks, ring) = init
        .offsets()
        .filter_map(|offset| {
            Some((
                offset,
                ring(kernel, &init, offset, comm, stack, &mut links)?,
            ))
        })
        .max_by_key(|(_, ring)| ring.len())
        .ok_or(CoreError::Structure("the list of all tasks"))?;
    let others: Vec<Raw> = ring
        .iter()
        .take(MAX_PROVED)
        .map(|address| Raw::read(kernel, *address))
        .collect();
    let pid = [3, 2]
        .into_iter()
        .filter_map(|words| family.checked_sub(words * word))
        .find(|pid| are_pids(&init, &others, *pid))
        .ok_or(CoreError::Structure("the numbers of the tasks"))?;
    let thread_node = THREAD_NODE_WORDS
        .map(|words| family + (6 + words) * word)
        .find(|offset| {
            others
                .iter()
                .all(|leader| is_thread_list(kernel, leader, *offset, pid + 4, &mut links))
        })
        .ok_or(CoreError::Structure("the lists of threads"))?;
    let (sp, switch) = init
        .offsets()
        .skip_while(|offset| *offset <= comm)
        .find_map(|offset| {
            let switch = saved_stack_pointer(kernel, &others, running, stack, offset)?;
            Some((offset, switch))
        })
        .ok_or(CoreError::Structure("the saved stack pointers"))?;
    Ok(TaskLayout {
        stack,
        pid,
        tgid: pid + 4,
        comm,
        state: state_before(&init, &others, stack),
        exit_state: None,
        tasks,
        thread_node,
        sp,
        switch,
        thread_size: THREAD_SIZE_32,
    })
}

/// The tasks of a list through the links at `offset`, without `init`, if it is one: every link is
/// in something that has a name and a stack, leads back, and the last leads to `init` again.
fn ring(
    kernel: &CoreKernel,
    init: &Raw,
    offset: u64,
    comm: u64,
    stack: u64,
    links: &mut usize,
) -> Option<Vec<u64>> {
    let word = kernel.word();
    let mut found = Vec::new();
    let mut before = container(init.address, offset.wrapping_neg(), word);
    let mut next = init.word(offset)?;
    while container(next, offset, word) != init.address {
        *links = links.checked_sub(1)?;
        let address = container(next, offset, word);
        // Something that is no list of tasks is told by its first link: not all of it is read.
        let name = kernel_name(kernel, address.wrapping_add(comm));
        let its_stack = kernel.word_at(address.wrapping_add(stack)).ok()?;
        let back = kernel.word_at(next.wrapping_add(word.bytes())).ok()?;
        // A process that has ended has given its stack back.
        let is_task = name && its_stack.is_multiple_of(THREAD_SIZE_32);
        if !is_task || back != before {
            return None;
        }
        found.push(address);
        before = next;
        next = kernel.word_at(next).ok()?;
    }
    (!found.is_empty()).then_some(found)
}

fn kernel_name(kernel: &CoreKernel, address: u64) -> bool {
    let mut bytes = vec![0; COMM_BYTES as usize];
    kernel.memory.fill(address, &mut bytes).is_ok() && {
        let raw = Raw {
            address,
            bytes,
            word: kernel.word().bytes(),
        };
        raw.is_named(0)
    }
}

/// Whether this is `pid`, followed by `tgid`: 0 of the idle task, 1 of the first process, and of
/// every other process twice the same number that no other has.
fn are_pids(init: &Raw, others: &[Raw], offset: u64) -> bool {
    let mut seen = HashSet::new();
    let both = |task: &Raw| Some((task.u32(offset)?, task.u32(offset + 4)?));
    both(init) == Some((0, 0))
        && others.first().and_then(both) == Some((1, 1))
        && others.iter().all(|task| {
            both(task).is_some_and(|(pid, tgid)| pid == tgid && pid != 0 && seen.insert(pid))
        })
}

/// Whether the links at `offset` are those of a process's threads: the list goes round, all its
/// links but one, the head, are in threads of this process.
fn is_thread_list(
    kernel: &CoreKernel,
    leader: &Raw,
    offset: u64,
    tgid: u64,
    links: &mut usize,
) -> bool {
    let word = kernel.word();
    let group = leader.u32(tgid);
    let mut heads = 0;
    let Some(mut next) = leader.word(offset) else {
        return false;
    };
    // Garbage can lead round in a circle without the leader.
    let mut seen = HashSet::new();
    while *links > 0 && seen.insert(next) {
        *links -= 1;
        let address = container(next, offset, word);
        if address == leader.address {
            return heads == 1;
        }
        if kernel.u32_at(address.wrapping_add(tgid)).ok() != group {
            heads += 1;
        }
        match kernel.word_at(next) {
            Ok(after) if heads <= 1 => next = after,
            _ => return false,
        }
    }
    false
}

/// The frame that the words at `offset` lead to, if they are the saved stack pointers: of every
/// task that does not run it is on its own stack, and the frame returns into the kernel's text.
fn saved_stack_pointer(
    kernel: &CoreKernel,
    others: &[Raw],
    running: &HashSet<u64>,
    stack: u64,
    offset: u64,
) -> Option<SwitchFrame> {
    let text = kernel.text().ok()?;
    SWITCH_FRAMES.into_iter().find(|frame| {
        let mut proved = 0;
        let all = others
            .iter()
            .filter(|task| !running.contains(&task.address) && task.word(stack) != Some(0))
            .all(|task| {
                let (Some(sp), Some(begin)) = (task.word(offset), task.word(stack)) else {
                    return false;
                };
                proved += 1;
                let on_stack = sp >= begin && sp - begin < THREAD_SIZE_32;
                on_stack
                    && kernel
                        .word_at(sp.wrapping_add(frame.ip))
                        .is_ok_and(|ip| text.holds(ip))
            });
        all && proved > 0
    })
}

/// The state, which is right before the stack unless the kernel is a real-time one: a few bits in
/// every task, none in one that can run.
fn state_before(init: &Raw, others: &[Raw], stack: u64) -> Option<u64> {
    let offset = stack.checked_sub(4)?;
    let is_state = |task: &Raw| task.u32(offset).is_some_and(|state| state <= 0xffff);
    (init.u32(offset) == Some(0) && others.iter().all(is_state)).then_some(offset)
}
