//! The last resort: when the exact walk had to give up, every word further up that looks like a
//! return address becomes a frame that is marked as not reliable.

use std::ops::ControlFlow;

use walker_common::StackKind;

use super::{Frame, FrameSource, cursor::StackCursor, kernel::TextMap};
use crate::classify::{
    StackInfo, VisitMask,
    dump::{Mode, Start, TraceFrame, TraceVisitor, dump_trace},
};

/// Scans from `sp` to the end of its stack and on through the stacks not walked before.
pub(super) fn scan(
    cursor: &StackCursor<'_>,
    sp: u64,
    bp: u64,
    text: &TextMap,
    frames: &mut Vec<Frame>,
) {
    let mut collector = Collector {
        walked: cursor.visited(),
        first: true,
        stack: StackKind::Unknown,
        frames,
    };
    // The interrupted instruction is a frame already; a null one adds none.
    let start = Start { ip: 0, sp, bp };
    let is_text = |ip| text.contains(ip);
    // How the scan ends says nothing new: the walk's own stop reason is the one that counts.
    let _end = dump_trace(
        cursor.stacks(),
        cursor.memory(),
        start,
        &is_text,
        Mode::Scan,
        &mut collector,
    );
}

struct Collector<'f> {
    walked: VisitMask,
    first: bool,
    stack: StackKind,
    frames: &'f mut Vec<Frame>,
}

impl TraceVisitor for Collector<'_> {
    fn stack_begin(&mut self, info: &StackInfo) -> ControlFlow<()> {
        // The scan begins on the stack where the walk ended; any other that was walked is done.
        if !self.first && self.walked.contains(info.kind) {
            return ControlFlow::Break(());
        }
        self.first = false;
        self.stack = info.kind;
        ControlFlow::Continue(())
    }

    fn frame(&mut self, frame: &TraceFrame) -> ControlFlow<()> {
        self.frames.push(Frame {
            ip: frame.address,
            sp: frame.slot.unwrap_or(0),
            stack: self.stack,
            source: FrameSource::Scan,
            reliable: false,
        });
        ControlFlow::Continue(())
    }

    fn stack_end(&mut self, _info: &StackInfo) {}
}
