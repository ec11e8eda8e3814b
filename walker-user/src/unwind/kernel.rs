//! The walk of one sample's kernel stacks, from the interrupted instruction, or from the function
//! that reported the event, to the outermost frame.
//!
//! ORC decides the walk where the kernel has it. Code without ORC (BPF programs and trampolines)
//! is stepped over by its frame pointer, as the kernel does. Where the walk cannot go on exactly,
//! the rest of the stacks is scanned for return addresses, and those frames are marked as not
//! reliable; the stop reason stays that of the exact walk.

use walker_common::{StackKind, wire::Registers};

use super::{
    Frame, FrameSource, StopReason,
    cursor::StackCursor,
    frame_pointer,
    memory::SampleMemory,
    orc::{OrcEntry, OrcTable},
    orc_walk::{OrcState, Step},
    scan::scan,
    start::WalkStart,
};
use crate::classify::StackSet;

/// A range of code, `begin <= address < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRange {
    /// First address.
    pub begin: u64,
    /// First address past it.
    pub end: u64,
}

impl TextRange {
    /// Whether `ip` is in it.
    #[inline]
    #[must_use]
    pub const fn holds(&self, ip: u64) -> bool {
        self.begin <= ip && ip < self.end
    }
}

/// Where the kernel may execute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextMap {
    /// The kernel image's text, then anything else, such as modules.
    pub ranges: Vec<TextRange>,
    /// The area in which BPF programs, trampolines and modules are placed at run time. An address
    /// in it may be code.
    pub dynamic: Option<TextRange>,
}

impl TextMap {
    /// Whether `ip` is in text whose bounds are known.
    #[must_use]
    pub fn is_static(&self, ip: u64) -> bool {
        self.ranges.iter().any(|range| range.holds(ip))
    }

    /// Whether `ip` can be an instruction of the kernel.
    #[must_use]
    pub fn contains(&self, ip: u64) -> bool {
        self.is_static(ip) || self.dynamic.is_some_and(|range| range.holds(ip))
    }
}

/// What the walk needs to know about a kernel besides the sample.
#[derive(Debug, Default)]
pub struct KernelTables {
    /// Where code is.
    pub text: TextMap,
    /// The ORC tables of the kernel and its modules; none if the kernel uses frame pointers.
    pub orc: Vec<OrcTable>,
}

impl KernelTables {
    /// The ORC entry for `ip`, if a table covers it.
    #[inline]
    #[must_use]
    pub fn find(&self, ip: u64) -> Option<OrcEntry> {
        self.orc.iter().find_map(|table| table.find(ip))
    }

    /// The same, with the address from which on the entry holds.
    #[must_use]
    pub fn find_with_start(&self, ip: u64) -> Option<(u64, OrcEntry)> {
        self.orc.iter().find_map(|table| table.find_with_start(ip))
    }
}

/// Walks the kernel stacks of one sample and appends its frames, leaf first, to `frames`, which
/// the caller empties and reuses.
///
/// The exact part has at most one frame for each captured word, plus one for the event itself. The
/// scan that may follow adds at most one for each captured word on each stack it enters, and as
/// stacks do not overlap, that is one for each word. So with a vector that has grown once nothing
/// is allocated.
pub fn walk(
    tables: &KernelTables,
    start: WalkStart<'_>,
    stacks: &StackSet<'_>,
    memory: &SampleMemory<'_>,
    frames: &mut Vec<Frame>,
) -> StopReason {
    let registers;
    let (event, source) = match start {
        WalkStart::Interrupted(event) if event.is_user_mode() => return StopReason::UserSample,
        WalkStart::Interrupted(event) => (event, FrameSource::Ip),
        WalkStart::Returned(returned) => {
            registers = returned.registers();
            (&registers, FrameSource::Caller)
        }
        WalkStart::SwitchedOut(returned) => {
            registers = returned.registers();
            (&registers, FrameSource::Switch)
        }
    };
    memory.warm();
    let word = stacks.word.bytes() as usize;
    let words: usize = memory
        .segments()
        .iter()
        .map(|segment| segment.bytes.len() / word)
        .sum();
    let mut cursor = match StackCursor::new(stacks, memory, event.sp) {
        Ok(cursor) => cursor,
        Err(stop) => {
            frames.push(first_frame(event, source, StackKind::Unknown));
            return stop;
        }
    };
    frames.push(first_frame(event, source, cursor.kind_at(event.sp)));
    if tables.orc.is_empty() {
        let stop = frame_pointer::walk(event, &mut cursor, &tables.text, words, frames);
        scan_the_rest(stop, &cursor, event, &tables.text, frames);
        return stop;
    }
    let mut state = OrcState::new(event, source == FrameSource::Ip, cursor);
    let stop = walk_orc(tables, &mut state, words, frames);
    scan_the_rest(stop, &state.cursor, event, &tables.text, frames);
    stop
}

/// Instead of a walk: the event's instruction, and every word that looks like a return address, as
/// frames that are not reliable.
pub fn scan_stacks(
    text: &TextMap,
    event: &Registers,
    stacks: &StackSet<'_>,
    memory: &SampleMemory<'_>,
    frames: &mut Vec<Frame>,
) {
    match StackCursor::new(stacks, memory, event.sp) {
        Ok(cursor) => {
            frames.push(first_frame(
                event,
                FrameSource::Ip,
                cursor.kind_at(event.sp),
            ));
            scan(&cursor, event.sp, text, frames);
        }
        Err(_) => frames.push(first_frame(event, FrameSource::Ip, StackKind::Unknown)),
    }
}

/// Adds what a scan finds, if the walk could not be finished.
fn scan_the_rest(
    stop: StopReason,
    cursor: &StackCursor<'_>,
    event: &Registers,
    text: &TextMap,
    frames: &mut Vec<Frame>,
) {
    if !stop.is_complete() {
        // From the last frame that was found: what the failed step made of sp is worth nothing.
        let sp = frames.last().map_or(event.sp, |frame| frame.sp);
        scan(cursor, sp, text, frames);
    }
}

fn first_frame(event: &Registers, source: FrameSource, stack: StackKind) -> Frame {
    Frame {
        ip: event.ip,
        sp: event.sp,
        stack,
        source,
        reliable: true,
    }
}

fn walk_orc(
    tables: &KernelTables,
    state: &mut OrcState<'_>,
    mut budget: usize,
    frames: &mut Vec<Frame>,
) -> StopReason {
    let entry_at = |ip| tables.find_with_start(ip);
    loop {
        // A frame takes at least one word, so the captured words bound every honest walk; only
        // register sets that send the walk in circles reach this.
        if budget == 0 {
            return StopReason::NoProgress { sp: state.sp };
        }
        budget -= 1;
        let lookup = if state.signal {
            state.ip
        } else {
            state.ip.wrapping_sub(1)
        };
        let (entry, call_source) = match tables.find(lookup) {
            Some(entry) => (entry, FrameSource::Orc),
            // A call through a null pointer: the caller is right at sp.
            None if state.ip == 0 => (OrcEntry::RETURN_ADDRESS_AT_SP, FrameSource::Orc),
            None => (OrcEntry::FRAME_POINTER, FrameSource::FramePointer),
        };
        let (source, stack) = match state.step(&entry, call_source) {
            Step::Frame(source, stack) => (source, stack),
            Step::Stop(StopReason::NoUnwindInfo { .. }) if state.leave_thunk(&entry_at) => {
                (FrameSource::Thunk, state.cursor.kind())
            }
            Step::Stop(stop) => return stop,
        };
        if !tables.text.contains(state.ip) {
            return StopReason::BadReturnAddress { ip: state.ip };
        }
        frames.push(Frame {
            ip: state.ip,
            sp: state.sp,
            stack,
            source,
            reliable: true,
        });
    }
}
