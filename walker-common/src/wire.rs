//! The records of the ring buffer: one of variable length per sample, and a short one for the end
//! of a wait.
//!
//! A sample is a [`SampleHeader`], then (only from the oracle program) the kernel's own call
//! chain, then the bytes of the captured segments, one after the other, each padded to 8 bytes:
//! the kernel stacks, the registers of user space if they are not among those, the user stack.
//! Nothing here is trusted by the reader: lengths are checked against the record's real size.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the record layout. Raised whenever a struct in this module changes.
pub const WIRE_VERSION: u16 = 3;

/// At most this many kernel stacks are captured in one sample: a task, an IRQ, an entry and three
/// exception stacks, which is deeper than x86 can nest in practice.
pub const MAX_SEGMENTS: usize = 6;

/// At most this many addresses come from `bpf_get_stack` (`kernel.perf_event_max_stack`, whose
/// default is 127).
pub const MAX_CHAIN: usize = 127;

/// Bytes reserved for the kernel's call chain in a record of the oracle program.
pub const CHAIN_BYTES: usize = MAX_CHAIN * 8;

/// The longest piece of one stack: `THREAD_SIZE` and `IRQ_STACK_SIZE` with KASAN, 32 KiB.
pub const MAX_SEGMENT_BYTES: usize = 32 * 1024;

/// Room for the bytes of kernel stacks in one record. Every stack in play fits unless several are all but
/// full at once, which is recorded as [`SegmentStatus::NoRoom`].
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// The most that is copied of a user stack.
pub const MAX_USER_BYTES: usize = 64 * 1024;

/// Bytes of the registers that the entry from user space saves, `struct pt_regs`.
pub const REGISTER_BYTES: usize = size_of::<Registers>();

/// The code segment of 64-bit user code (`__USER_CS`, `arch/x86/include/asm/segment.h`), in the
/// lower 16 bits of [`Registers::cs`].
pub const USER_CS: u64 = 0x33;
/// The code segment of 32-bit user code (`__USER32_CS`).
pub const USER32_CS: u64 = 0x23;

/// [`SampleHeader::flags`]: the event interrupted user mode, so there is no kernel stack.
pub const FLAG_USER_MODE: u16 = 1;
/// [`SampleHeader::flags`]: there is no stack table for this CPU (it came online later), so only
/// the task stack could be recognised.
pub const FLAG_NO_CPU_TABLE: u16 = 2;
/// [`SampleHeader::flags`]: not a sample, but a [`WaitEnd`].
pub const FLAG_WAIT_END: u16 = 4;

/// How far below a program's context its caller keeps the address to return to: at most this many
/// bytes. They are copied with the stack.
pub const BELOW_CONTEXT: u64 = 512;

/// Where the walk of a sample begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Start {
    /// At the registers of the event: what it interrupted.
    Registers = 0,
    /// In the function that called the program, whose context is on its stack (raw tracepoints,
    /// watchpoints). The registers are none, or those that the event interrupted.
    Caller = 1,
    /// In the function whose trampoline called the program (fentry, fexit).
    Trampoline = 2,
    /// In the caller of the function that reported the event: the registers are those that
    /// `perf_arch_fetch_caller_regs()` makes up (`arch/x86/include/asm/perf_event.h`, 6.18), of
    /// which the stack pointer is that function's frame address.
    Frame = 3,
}

impl Start {
    /// The start with this number, or `None` if there is none.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Registers),
            1 => Some(Self::Caller),
            2 => Some(Self::Trampoline),
            3 => Some(Self::Frame),
            _ => None,
        }
    }
}

/// [`SegmentHeader::flags`] of a user stack: there was more of it than the process's budget.
pub const SEGMENT_CUT_BY_BUDGET: u16 = 1;
/// [`SegmentHeader::flags`] of a user stack: what follows the copied bytes could not be read.
pub const SEGMENT_CUT_BY_FAULT: u16 = 2;

/// The general registers of x86_64, in the order of the kernel's `struct pt_regs`
/// (`arch/x86/include/asm/ptrace.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
#[allow(missing_docs, reason = "each field is the register of that name")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub bp: u64,
    pub bx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub ax: u64,
    pub cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    pub orig_ax: u64,
    pub ip: u64,
    pub cs: u64,
    pub flags: u64,
    pub sp: u64,
    pub ss: u64,
}

impl Registers {
    /// Whether these registers were saved in user mode: the privilege level in `cs` is not 0.
    #[must_use]
    pub const fn is_user_mode(&self) -> bool {
        self.cs & 3 != 0
    }
}

/// What became of one segment of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentStatus {
    /// Its bytes are in the record.
    Captured = 0,
    /// The kernel could not read it; there are no bytes.
    Unreadable = 1,
    /// The record had no room left for it; there are no bytes.
    NoRoom = 2,
    /// The pointer is on no known stack; there are no bytes and no length.
    UnknownStack = 3,
    /// The pointer leads back to a stack that is already in the record; there are no bytes.
    Revisited = 4,
    /// There is none, or it was not wanted; there are no bytes.
    Absent = 5,
}

impl SegmentStatus {
    /// The status with this number, or `None` if there is none.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Captured),
            1 => Some(Self::Unreadable),
            2 => Some(Self::NoRoom),
            3 => Some(Self::UnknownStack),
            4 => Some(Self::Revisited),
            5 => Some(Self::Absent),
            _ => None,
        }
    }
}

/// One piece of a stack: from the pointer that led there to the end of the stack that holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct SegmentHeader {
    /// Address of the first byte.
    pub address: u64,
    /// Bytes from `address` to the end of the stack, or to where the copy of a user stack was cut.
    /// They are in the record only if `status` is [`SegmentStatus::Captured`].
    pub length: u32,
    /// The capture's own idea of the [`StackKind`](crate::StackKind), by number.
    pub kind: u8,
    /// A [`SegmentStatus`], by number.
    pub status: u8,
    /// `SEGMENT_*` bits.
    pub flags: u16,
}

/// The fixed part of a sample record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct SampleHeader {
    /// Bytes of the whole record, this header included.
    pub size: u32,
    /// [`WIRE_VERSION`].
    pub version: u16,
    /// `FLAG_*` bits.
    pub flags: u16,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// ID of the task's cgroup (v2), as in `name_to_handle_at()`.
    pub cgroup_id: u64,
    /// Thread-group ID in the initial PID namespace (what user space calls the PID).
    pub pid: u32,
    /// Thread ID in the initial PID namespace.
    pub tid: u32,
    /// The CPU the sample was taken on.
    pub cpu: u32,
    /// Entries of `segments` in use.
    pub segment_count: u32,
    /// Lowest address of the task's kernel stack; 0 if it could not be read.
    pub task_stack: u64,
    /// Offset of the first segment byte from the start of the record.
    pub data_offset: u32,
    /// Bytes of kernel call chain behind the header; a negative errno if the kernel refused;
    /// 0 in records of the plain capture program.
    pub chain_bytes: i32,
    /// Name of the thread, zero padded.
    pub comm: [u8; 16],
    /// The registers the event interrupted.
    pub regs: Registers,
    /// The kernel stacks, in the order in which they were found.
    pub segments: [SegmentHeader; MAX_SEGMENTS],
    /// Where the entry from user space saved its registers; absent if the event interrupted user
    /// space, whose registers then are `regs`, or a kernel thread. Captured only if the kernel
    /// stack that holds them is not.
    pub user_regs: SegmentHeader,
    /// The user stack, from the red zone below its stack pointer on.
    pub user_stack: SegmentHeader,
    /// Index of the event in the order in which user space opened them.
    pub event: u32,
    /// A [`Start`], by number.
    pub start: u32,
    /// Where [`Start`] is not [`Start::Registers`]: the address of the program's context.
    pub context: u64,
    /// How long what the event reports took, in nanoseconds; 0 for an event that takes no time.
    pub duration_ns: u64,
    /// What the event is about: the number of an interrupt, its vector, the softirq, or the state in
    /// which a task was switched out.
    pub subject: u64,
    /// The name of that, zero padded: the handler of an interrupt.
    pub subject_name: [u8; 16],
}

/// The end of a wait: a task that was switched out runs again. Its stack was a sample when the wait
/// began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct WaitEnd {
    /// Bytes of the record.
    pub size: u32,
    /// [`WIRE_VERSION`].
    pub version: u16,
    /// [`FLAG_WAIT_END`].
    pub flags: u16,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// When the wait began, as [`SampleHeader::time_ns`] of its sample.
    pub since_ns: u64,
    /// The thread that waited.
    pub tid: u32,
    /// The thread that was running when it was woken; 0 is the idle task.
    pub waker_tid: u32,
    /// `WAKER_*`.
    pub waker_kind: u32,
    /// Nothing.
    pub pad: u32,
    /// Name of the thread `waker_tid`, zero padded.
    pub waker_comm: [u8; 16],
}

/// [`WaitEnd::waker_kind`]: nobody was seen to wake it: it had not gone to sleep, or was woken
/// before the recording.
pub const WAKER_NONE: u32 = 0;
/// [`WaitEnd::waker_kind`]: the thread itself.
pub const WAKER_TASK: u32 = 1;
/// [`WaitEnd::waker_kind`]: an interrupt that the thread was hit by.
pub const WAKER_INTERRUPT: u32 = 2;

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Registers>() == 168);
    assert!(offset_of!(Registers, ip) == 128);
    assert!(offset_of!(Registers, sp) == 152);
    assert!(size_of::<SegmentHeader>() == 16);
    assert!(size_of::<SampleHeader>() == 416);
    assert!(size_of::<WaitEnd>() == 56);
    assert!(offset_of!(SampleHeader, regs) == 72);
    assert!(offset_of!(SampleHeader, segments) == 240);
    assert!(offset_of!(SampleHeader, user_regs) == 336);
    assert!(REGISTER_BYTES.is_multiple_of(8));
    assert!(CHAIN_BYTES.is_multiple_of(8));
};
