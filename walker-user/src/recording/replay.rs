//! Walks recorded samples again: the same bytes and, unless told otherwise, the same rules.
//!
//! That it comes to the same frames as when it was recorded shows that a walk depends on nothing but
//! what is in the file. How frames are shown is the business of the commands.

use std::path::Path;

use super::{
    head::{EventHead, KernelHead},
    reader::Recording,
    recorded_code::RecordedCode,
};
use crate::{
    capture::record::Sample,
    kernel::sampled::SampledKernel,
    stack_tree::{Code, RawFrame},
    unwind::{Frame, StopReason, user::walk::UserWalker},
    user_side::{interrupted, is_exec, walk_copy},
};

/// What kernel stacks are walked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unwinder {
    /// The recorded ORC tables, as when it was recorded.
    #[default]
    Orc,
    /// Frame pointers.
    FramePointer,
    /// Every word that looks like a return address.
    Scan,
}

/// A sample that was walked again.
#[derive(Debug, Default)]
pub struct Walked {
    /// Its kernel frames, leaf first.
    pub kernel: Vec<Frame>,
    /// Why their walk ended; `None` if kernel stacks were not recorded, or were only scanned.
    pub kernel_stop: Option<StopReason>,
    /// Its user frames, leaf first.
    pub user: Vec<Frame>,
    /// What holds the code of each, and the address there to look up.
    pub user_code: Vec<(Code, u64)>,
    /// Why their walk ended; `None` if there is no user side, or it could not be walked.
    pub user_stop: Option<StopReason>,
}

impl Walked {
    /// The user frames as they are kept of a sample.
    pub fn raw_user(&self) -> impl Iterator<Item = RawFrame> + '_ {
        let frames = self.user.iter().zip(&self.user_code);
        frames.map(|(frame, &(code, lookup))| RawFrame::User {
            code,
            address: lookup.wrapping_add(frame.ip.wrapping_sub(frame.lookup_address())),
            lookup,
            reliable: frame.reliable,
        })
    }
}

/// Walks samples again.
#[derive(Debug)]
pub struct Replay<'a> {
    recording: &'a Recording,
    unwinder: Unwinder,
    /// The kernel without ORC tables, if it is to be walked by frame pointers.
    without_orc: Option<SampledKernel>,
    /// The code of the processes.
    pub code: RecordedCode<'a>,
    walker: UserWalker,
}

impl<'a> Replay<'a> {
    /// Before the first record. Files of programs are looked for below `symfs`.
    #[must_use]
    pub fn new(recording: &'a Recording, unwinder: Unwinder, symfs: &Path) -> Self {
        let kernel = recording.head.kernel.as_ref();
        let kernel = kernel.filter(|_| unwinder == Unwinder::FramePointer);
        Self {
            recording,
            unwinder,
            without_orc: kernel.map(KernelHead::sampled),
            code: RecordedCode::new(recording, symfs),
            walker: UserWalker::new(),
        }
    }

    /// Walks a sample. Samples come in the order of their records.
    pub fn walk(&mut self, record: u64, sample: &Sample<'_>, walked: &mut Walked) {
        self.code.go_to(record);
        walked.user.clear();
        walked.user_code.clear();
        walked.kernel.clear();
        walked.kernel_stop = None;
        walked.user_stop = None;
        if self.recording.head.options.kernel {
            walked.kernel_stop = self.walk_kernel(sample, &mut walked.kernel);
        }
        if self.recording.head.options.user_stack_max > 0 {
            self.walk_user(sample, walked);
        }
    }

    fn walk_kernel(&self, sample: &Sample<'_>, frames: &mut Vec<Frame>) -> Option<StopReason> {
        let event = sample.header().event as usize;
        let entry = self.recording.head.events.get(event);
        let entry = entry.and_then(EventHead::entry);
        let recorded = &self.recording.kernel;
        match self.unwinder {
            Unwinder::Orc => Some(recorded.walk(sample, entry, frames)),
            Unwinder::FramePointer => {
                let kernel = self.without_orc.as_ref().unwrap_or(recorded);
                Some(kernel.walk(sample, entry, frames))
            }
            Unwinder::Scan => {
                recorded.scan(sample, frames);
                None
            }
        }
    }

    fn walk_user(&mut self, sample: &Sample<'_>, walked: &mut Walked) {
        let Some(registers) = sample.user_registers() else {
            return;
        };
        let mut process = self.code.of_process(sample.header().pid);
        if process.is_unknown() {
            walked.user.push(interrupted(&registers));
            walked.user_code.push((Code::Unmapped, registers.ip));
            walked.user_stop = Some(StopReason::Unmapped { ip: registers.ip });
            return;
        }
        if !process.is_mapped(registers.ip) && is_exec(&registers) {
            walked.user_stop = Some(StopReason::Replaced);
            return;
        }
        let copy = sample.user_stack();
        let frames = &mut walked.user;
        let walk = walk_copy(&mut self.walker, &mut process, &registers, copy, frames);
        for frame in frames.iter() {
            walked
                .user_code
                .push(process.locate(frame.lookup_address()));
        }
        walked.user_stop = Some(walk.stop);
    }
}

/// Whether two frames are the same, as far as a recording tells.
#[must_use]
pub fn is_same(recorded: &RawFrame, again: &RawFrame) -> bool {
    match (recorded, again) {
        (
            RawFrame::User {
                code: Code::NoFile(_),
                address,
                lookup,
                reliable,
            },
            RawFrame::User {
                code: Code::NoFile(_),
                address: again_address,
                lookup: again_lookup,
                reliable: again_reliable,
            },
        ) => (address, lookup, reliable) == (again_address, again_lookup, again_reliable),
        _ => recorded == again,
    }
}
