//! The last resort: when the exact walk had to give up, every word further up that looks like a
//! return address becomes a frame that is marked as not reliable.

use std::ops::ControlFlow;

use walker_common::StackKind;

use super::{Frame, FrameSource, cursor::StackCursor, kernel::TextMap};
use crate::classify::{
    StackInfo, VisitMask,
    dump::{Mode, Start, TraceFrame, TraceVisitor, dump_trace},
};

/// Scans from `sp` to the end of its stack and on through the stacks not walked before. If `sp`
/// itself is on a stack that the walk had left, there is nothing to scan.
pub(super) fn scan(cursor: &StackCursor<'_>, sp: u64, text: &TextMap, frames: &mut Vec<Frame>) {
    let mut collector = Collector {
        walked: cursor.visited(),
        unfinished: Some(cursor.kind()),
        stack: StackKind::Unknown,
        frames,
    };
    // The frame pointer would only tell reliable frames from others, and here none is.
    let start = Start { ip: 0, sp, bp: 0 };
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
    /// The stack on which the walk ended, until the scan has begun.
    unfinished: Option<StackKind>,
    stack: StackKind,
    frames: &'f mut Vec<Frame>,
}

impl TraceVisitor for Collector<'_> {
    fn stack_begin(&mut self, info: &StackInfo) -> ControlFlow<()> {
        let unfinished = self.unfinished.take() == Some(info.kind);
        if !unfinished && self.walked.contains(info.kind) {
            return ControlFlow::Break(());
        }
        self.stack = info.kind;
        ControlFlow::Continue(())
    }

    fn frame(&mut self, frame: &TraceFrame) -> ControlFlow<()> {
        // Without a slot it is the interrupted instruction, which is a frame already.
        if let Some(slot) = frame.slot {
            self.frames.push(Frame {
                ip: frame.address,
                sp: slot,
                stack: self.stack,
                source: FrameSource::Scan,
                reliable: false,
            });
        }
        ControlFlow::Continue(())
    }

    fn stack_end(&mut self, _info: &StackInfo) {}
}
