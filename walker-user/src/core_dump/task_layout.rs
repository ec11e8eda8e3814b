//! Where a kernel keeps what is wanted of its tasks: offsets in `struct task_struct`, from the
//! kernel's own type information. For kernels without, `structure` finds them.

use crate::btf::{Btf, BtfError};

/// Offsets in the frame that `__switch_to_asm()` leaves on top of the stack of a task that does
/// not run (`struct inactive_task_frame`, `arch/x86/include/asm/switch_to.h`), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SwitchFrame {
    /// The frame pointer.
    pub bp: u64,
    /// The return address.
    pub ip: u64,
    /// The size of it all.
    pub bytes: u64,
}

/// Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskLayout {
    /// `stack`: the lowest address of the task's kernel stack.
    pub stack: u64,
    /// `pid`, of 32 bits.
    pub pid: u64,
    /// `tgid`, of 32 bits.
    pub tgid: u64,
    /// `comm`, of 16 bytes.
    pub comm: u64,
    /// `__state`, of which the lowest 32 bits count; `None` if it is not known.
    pub state: Option<u64>,
    /// `exit_state`, of 32 bits; `None` if it is not known.
    pub exit_state: Option<u64>,
    /// `tasks`: the list of all processes.
    pub tasks: u64,
    /// `thread_node`: the list of a process's threads. One link of it is the head, in
    /// `struct signal_struct`.
    pub thread_node: u64,
    /// `thread.sp`: the stack pointer of a task that does not run.
    pub sp: u64,
    /// What is there.
    pub switch: SwitchFrame,
    /// `THREAD_SIZE`: the size of the task's kernel stack.
    pub thread_size: u64,
}

/// Bytes of `comm` (`TASK_COMM_LEN`).
pub(super) const COMM_BYTES: u64 = 16;

impl TaskLayout {
    /// Takes everything from type information.
    ///
    /// # Errors
    /// If the kernel's lacks something.
    pub(super) fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let offset = |path: &str| Ok::<u64, BtfError>(btf.member(path)?.bit_offset / 8);
        let optional = |path: &str| {
            let member = btf.find_member(path)?;
            Ok::<_, BtfError>(member.map(|member| member.bit_offset / 8))
        };
        Ok(Self {
            stack: offset("task_struct.stack")?,
            pid: offset("task_struct.pid")?,
            tgid: offset("task_struct.tgid")?,
            comm: offset("task_struct.comm")?,
            // Renamed in 5.14.
            state: match optional("task_struct.__state")? {
                Some(state) => Some(state),
                None => optional("task_struct.state")?,
            },
            exit_state: optional("task_struct.exit_state")?,
            tasks: offset("task_struct.tasks")?,
            thread_node: offset("task_struct.thread_node")?,
            sp: offset("task_struct.thread.sp")?,
            switch: SwitchFrame {
                bp: offset("inactive_task_frame.bp")?,
                ip: offset("inactive_task_frame.ret_addr")?,
                bytes: btf.size_of("inactive_task_frame")?,
            },
            thread_size: btf
                .size_of("thread_union")
                .or_else(|_| btf.size_of("irq_stack"))?,
        })
    }

    /// How many bytes of a task hold all of this.
    #[must_use]
    pub(super) fn span(&self) -> u64 {
        [
            self.stack,
            self.pid,
            self.tgid,
            self.comm + COMM_BYTES,
            self.tasks + 8,
            self.thread_node + 8,
            self.sp,
            self.state.unwrap_or(0),
            self.exit_state.unwrap_or(0),
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
            + 8
    }
}
