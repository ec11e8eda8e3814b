//! One recorded sample in full: registers, stacks and what was copied of them, and every frame with
//! the rule that found it and the bytes it was read from.

use std::io::{self, Write};

use walker_common::wire::{Registers, SegmentStatus};

use super::frame_text;
use crate::{
    capture::record::{Sample, UserStackCopy},
    output::{duration, grouped, printable},
    recording::{
        reader::{Recording, Row},
        replay::{Replay, Walked},
    },
    stack_tree::{Code, RawFrame},
    unwind::{
        Frame, FrameSource, StopReason,
        memory::SampleMemory,
        orc::{OrcEntry, OrcKind, OrcRegister},
    },
};

/// Where `struct pt_regs` keeps the instruction pointer.
const IP_IN_REGISTERS: u64 = std::mem::offset_of!(Registers, ip) as u64;

/// A sample that is looked at.
pub(super) struct Inspected<'a> {
    pub(super) recording: &'a Recording,
    pub(super) number: u32,
    pub(super) row: &'a Row,
    pub(super) sample: &'a Sample<'a>,
    pub(super) walked: &'a Walked,
}

/// Writes all of it.
pub(super) fn write(
    inspected: &Inspected<'_>,
    replay: &mut Replay<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    write_head(inspected, out)?;
    write_registers("registers", inspected.sample.registers(), out)?;
    if let Some(user) = inspected.sample.user_registers()
        && user != *inspected.sample.registers()
    {
        write_registers("user registers", &user, out)?;
    }
    write_segments(inspected, out)?;
    write_kernel_frames(inspected, out)?;
    write_user_frames(inspected, replay, out)
}

fn write_head(inspected: &Inspected<'_>, out: &mut impl Write) -> io::Result<()> {
    let header = inspected.sample.header();
    let head = &inspected.recording.head;
    let event = head.events.get(header.event as usize);
    let comm = printable(&String::from_utf8_lossy(inspected.sample.comm()));
    let after = header.time_ns.saturating_sub(head.began_monotonic_ns);
    writeln!(
        out,
        "sample {} of {}: {comm}, process {}, thread {}, CPU {}, at {:.6} s, event {}, record {}",
        grouped(u64::from(inspected.number)),
        grouped(inspected.recording.rows.len() as u64),
        header.pid,
        header.tid,
        header.cpu,
        after as f64 / 1e9,
        event.map_or("unknown", |event| event.name.as_str()),
        grouped(inspected.row.record),
    )?;
    let took = match header.duration_ns {
        0 => String::new(),
        nanoseconds => format!(", took {}", duration(nanoseconds)),
    };
    writeln!(
        out,
        "weight {}, walk starts at {:?}{took}",
        grouped(inspected.row.weight),
        inspected.sample.start()
    )
}

fn write_registers(title: &str, registers: &Registers, out: &mut impl Write) -> io::Result<()> {
    let Registers {
        r15,
        r14,
        r13,
        r12,
        bp,
        bx,
        r11,
        r10,
        r9,
        r8,
        ax,
        cx,
        dx,
        si,
        di,
        orig_ax,
        ip,
        cs,
        flags,
        sp,
        ss,
    } = *registers;
    writeln!(out, "\n{title}:")?;
    let rows = [
        [("ip", ip), ("sp", sp), ("flags", flags), ("bp", bp)],
        [("ax", ax), ("bx", bx), ("cx", cx), ("dx", dx)],
        [("si", si), ("di", di), ("r8", r8), ("r9", r9)],
        [("r10", r10), ("r11", r11), ("r12", r12), ("r13", r13)],
        [("r14", r14), ("r15", r15), ("cs", cs), ("ss", ss)],
    ];
    for row in rows {
        for (name, value) in row {
            write!(out, "  {name:>5} {value:016x}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "  orig_ax {orig_ax:x}")
}

fn write_segments(inspected: &Inspected<'_>, out: &mut impl Write) -> io::Result<()> {
    let sample = inspected.sample;
    let stacks = inspected.recording.kernel.stacks_of(sample);
    writeln!(out, "\nstacks, as they were found:")?;
    for segment in sample.segments() {
        let end = segment.address.wrapping_add(u64::from(segment.length));
        let known = stacks
            .all()
            .find(|stack| stack.begin <= segment.address && segment.address <= stack.end);
        let classified = match known {
            Some(stack) => format!(
                "{} stack {:#x}..{:#x}, {} bytes in use, {} left",
                stack.kind.name(),
                stack.begin,
                stack.end,
                grouped(stack.end - segment.address),
                grouped(segment.address - stack.begin),
            ),
            None => "on no stack that is known".to_owned(),
        };
        let copied = match segment.status {
            SegmentStatus::Captured => {
                format!("{} bytes copied", grouped(segment.bytes.len() as u64))
            }
            SegmentStatus::Unreadable => "could not be read".to_owned(),
            SegmentStatus::NoRoom => "no room in the record".to_owned(),
            SegmentStatus::UnknownStack => "not copied".to_owned(),
            SegmentStatus::Revisited => "leads back to a stack that is above".to_owned(),
            SegmentStatus::Absent => "none".to_owned(),
        };
        writeln!(
            out,
            "  {:<6} {:#018x}..{end:#018x}  {classified}; {copied}",
            segment.kind.name(),
            segment.address
        )?;
    }
    if let Some(copy) = sample.user_stack() {
        let segment = copy.segment;
        let end = segment.address.wrapping_add(segment.bytes.len() as u64);
        let cut = match copy.cut_by_budget {
            true => ", cut by the process's budget",
            false => "",
        };
        writeln!(
            out,
            "  USER   {:#018x}..{end:#018x}  {} bytes copied{cut}",
            segment.address,
            grouped(segment.bytes.len() as u64)
        )?;
    }
    Ok(())
}

fn write_kernel_frames(inspected: &Inspected<'_>, out: &mut impl Write) -> io::Result<()> {
    let Inspected {
        recording,
        row,
        sample,
        walked,
        ..
    } = inspected;
    if walked.kernel.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nkernel frames, innermost first:")?;
    let memory = sample.memory();
    let mut below: Option<&Frame> = None;
    for (index, frame) in walked.kernel.iter().enumerate() {
        let reporting = match index < usize::from(row.reporting) {
            true => "  (only reports the event; left out elsewhere)",
            false => "",
        };
        let raw = RawFrame::kernel(frame);
        for line in frame_text::lines(&recording.names, sample.header().pid, &raw) {
            writeln!(
                out,
                "{index:>3} {:<5} {:016x} {line}{reporting}",
                frame.stack.name(),
                frame.ip
            )?;
        }
        let found = kernel_rule(frame, below, recording, &memory);
        writeln!(
            out,
            "      sp {:#018x}  {}: {found}",
            frame.sp,
            frame.source.name()
        )?;
        below = Some(frame);
    }
    let stop = walked.kernel_stop;
    writeln!(out, "  the walk ended: {}", in_words(stop))
}

/// How a kernel frame was found from the one below it.
fn kernel_rule(
    frame: &Frame,
    below: Option<&Frame>,
    recording: &Recording,
    memory: &SampleMemory<'_>,
) -> String {
    let Some(below) = below else {
        return match frame.source {
            FrameSource::Caller => "where the program that took the sample returns to".to_owned(),
            _ => "the event's own registers".to_owned(),
        };
    };
    match frame.source {
        FrameSource::Orc | FrameSource::OrcRegs => {
            let tables = &recording.kernel.tables;
            match tables.find_with_start(below.lookup_address()) {
                Some((start, entry)) => orc_rule(frame, below, start, &entry, memory),
                None => "no ORC entry is recorded for it".to_owned(),
            }
        }
        FrameSource::FramePointer => format!(
            "no ORC entry: {}; {}",
            OrcEntry::FRAME_POINTER,
            word(memory, frame.sp.wrapping_sub(8))
        ),
        FrameSource::Thunk => format!(
            "a retpoline thunk, which has no unwind information; {}",
            word(memory, frame.sp.wrapping_sub(8))
        ),
        FrameSource::Scan => format!("looks like a return address; {}", word(memory, frame.sp)),
        _ => word(memory, frame.sp.wrapping_sub(8)),
    }
}

fn orc_rule(
    frame: &Frame,
    below: &Frame,
    start: u64,
    entry: &OrcEntry,
    memory: &SampleMemory<'_>,
) -> String {
    let offset = i64::from(entry.sp_offset);
    let cfa = match (entry.kind, entry.sp_reg) {
        // What returns leaves its frame behind, so that the stack pointer then is the CFA.
        (OrcKind::Call, _) => Some(frame.sp),
        (_, OrcRegister::Sp) => Some(below.sp.wrapping_add_signed(offset)),
        (_, OrcRegister::SpIndirect) => memory
            .read_u64(below.sp)
            .map(|word| word.wrapping_add_signed(offset)),
        _ => None,
    };
    let read = match (entry.kind, cfa) {
        (OrcKind::Call, Some(cfa)) => word(memory, cfa.wrapping_sub(8)),
        (OrcKind::Regs, Some(cfa)) => word(memory, cfa.wrapping_add(IP_IN_REGISTERS)),
        (OrcKind::RegsPartial, Some(cfa)) => word(memory, cfa),
        _ => String::new(),
    };
    let cfa = cfa.map_or_else(String::new, |cfa| format!("CFA {cfa:#x}; "));
    format!("{cfa}ORC entry at {start:#x}: {entry}; {read}")
}

/// The word of the captured bytes at an address.
fn word(memory: &SampleMemory<'_>, address: u64) -> String {
    match memory.read_u64(address) {
        Some(word) => format!("[{address:#x}] = {word:016x}"),
        None => format!("[{address:#x}] was not copied"),
    }
}

fn write_user_frames(
    inspected: &Inspected<'_>,
    replay: &mut Replay<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    let Inspected {
        recording,
        sample,
        walked,
        ..
    } = inspected;
    let Some(stop) = walked.user_stop else {
        return Ok(());
    };
    writeln!(out, "\nuser frames, innermost first:")?;
    let copy = sample.user_stack();
    let raw: Vec<RawFrame> = walked.raw_user().collect();
    for (index, (frame, raw)) in walked.user.iter().zip(&raw).enumerate() {
        for line in frame_text::lines(&recording.names, sample.header().pid, raw) {
            writeln!(out, "{index:>3} USER  {:016x} {line}", frame.ip)?;
        }
        let below = index.checked_sub(1).map(|below| walked.user_code[below]);
        let found = user_rule(frame, below, replay, copy);
        writeln!(
            out,
            "      sp {:#018x}  {}: {found}",
            frame.sp,
            frame.source.name()
        )?;
    }
    writeln!(out, "  the walk ended: {}", in_words(Some(stop)))
}

/// How a user frame was found from the one below it.
fn user_rule(
    frame: &Frame,
    below: Option<(Code, u64)>,
    replay: &mut Replay<'_>,
    copy: Option<UserStackCopy<'_>>,
) -> String {
    let Some((code, address)) = below else {
        return "the registers of user space".to_owned();
    };
    let stack = |address: u64| {
        let at = copy.and_then(|copy| {
            let offset = usize::try_from(address.checked_sub(copy.segment.address)?).ok()?;
            copy.segment.bytes.get(offset..)?.first_chunk().copied()
        });
        match at.map(u64::from_le_bytes) {
            Some(word) => format!("[{address:#x}] = {word:016x}"),
            None => format!("[{address:#x}] was not copied"),
        }
    };
    let cfi = match frame.source {
        FrameSource::Cfi | FrameSource::CfiExpression | FrameSource::CfiSignal => true,
        FrameSource::Scan => return format!("looks like a return address; {}", stack(frame.sp)),
        _ => false,
    };
    let row = match code {
        Code::Object(id) if cfi => {
            let object = replay.code.object(id.0);
            object.and_then(|object| object.tables()?.describe(address))
        }
        _ => None,
    };
    match row {
        Some(row) => {
            let cfa = frame.sp;
            let read = row.return_address.map_or_else(String::new, |offset| {
                format!("; {}", stack(cfa.wrapping_add_signed(offset)))
            });
            format!("CFA {cfa:#x}; CFI row at {address:#x}: {}{read}", row.text)
        }
        None if cfi => format!("found by CFI; {}", stack(frame.sp.wrapping_sub(8))),
        None => stack(frame.sp.wrapping_sub(8)),
    }
}

fn in_words(stop: Option<StopReason>) -> String {
    match stop {
        Some(stop) if stop.is_complete() => format!("{stop} (complete: {})", stop.name()),
        Some(stop) => format!("{stop} (incomplete: {})", stop.name()),
        None => "there was none".to_owned(),
    }
}
