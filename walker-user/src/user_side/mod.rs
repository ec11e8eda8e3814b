//! The user side of samples: from registers and copied bytes to frames that outlive the process.
//!
//! Brings together what the layers below know: side-band records and `/proc` say what a process
//! had mapped at the time of a sample, its files' tables say how to walk, and how far the walks
//! read says how much has to be copied. Addresses are not named here.

mod code;
mod jit_files;
mod memory;
mod seen;
mod tables;

pub use self::{
    code::CodePlace,
    seen::{Seen, SeenCode},
};

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use rustc_hash::FxHashMap;
use walker_common::{StackKind, wire::Registers};

use self::{
    code::ProcessCode, jit_files::JitFiles, memory::ProcessMemory, seen::SeenLog,
    tables::TableStore,
};
use crate::{
    capture::{
        budget::Budgets,
        object::Object as BpfObject,
        record::{Sample, UserStackCopy},
        side_band::SideBand,
        side_band_reader::{DEFAULT_PAGES, SideBandReader},
    },
    process::{
        names::ProcessNames,
        object::{Contents, ObjectId},
        objects::Objects,
        processes::{Follow, Processes},
    },
    resolve::UserFiles,
    stack_tree::{Code, RawFrame},
    symbolize::{self, perf_map::PerfMapFile},
    unwind::{
        Frame, FrameSource, StopReason,
        user::{
            mode::Mode,
            registers::UserRegisters,
            stack::UserStack,
            walk::{UserCode, UserWalk, UserWalker},
        },
    },
};

/// Most names of files that are not at hand.
const MAX_NO_FILES: usize = 10_000;
/// What stands for the names beyond those.
const MORE_FILES: &str = "[more files]";

/// Names of mapped files that could not be opened.
#[derive(Debug, Default)]
struct NoFiles {
    names: Vec<String>,
    ids: FxHashMap<Vec<u8>, u32>,
}

impl NoFiles {
    /// The number of a name. Past the bound all further names share one that says so.
    fn id(&mut self, name: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if self.names.len() >= MAX_NO_FILES {
            if self.names.len() == MAX_NO_FILES {
                self.names.push(MORE_FILES.to_owned());
            }
            return MAX_NO_FILES as u32;
        }
        let id = self.names.len() as u32;
        let path = Path::new(OsStr::from_bytes(name));
        self.names.push(symbolize::base_name(path));
        self.ids.insert(name.to_vec(), id);
        id
    }
}

/// What became of the user side of samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserCounters {
    /// Bytes that were copied of user stacks.
    pub bytes: u64,
    /// Records of what processes mapped that were lost.
    pub lost_records: u64,
    /// Object files whose unwind tables could not be read or are malformed.
    pub unreadable_tables: u64,
    /// Looks at what processes had mapped that a recording has no room for.
    pub unkept_mappings: u64,
}

/// Walks user stacks.
#[derive(Debug)]
pub struct UserSide {
    side_band: Option<SideBandReader>,
    processes: Processes,
    objects: Objects,
    tables: TableStore,
    memory: ProcessMemory,
    seen: SeenLog,
    /// What happened to processes, if a recording wants to know.
    events: Option<Vec<SideBand>>,
    no_files: NoFiles,
    jit_files: JitFiles,
    walker: UserWalker,
    frames: Vec<Frame>,
    budgets: Budgets<u32>,
    name_budgets: Budgets<[u8; 16]>,
    new_budgets: Vec<(u32, u32)>,
    new_name_budgets: Vec<([u8; 16], u32)>,
    counters: UserCounters,
}

impl UserSide {
    /// Nothing is known yet. Budgets stay below `budget_max` bytes.
    #[must_use]
    pub fn new(budget_max: u32) -> Self {
        Self {
            side_band: None,
            processes: Processes::new(&Follow::All),
            objects: Objects::new(),
            tables: TableStore::default(),
            memory: ProcessMemory::default(),
            seen: SeenLog::default(),
            events: None,
            no_files: NoFiles::default(),
            jit_files: JitFiles::default(),
            walker: UserWalker::new(),
            frames: Vec::new(),
            budgets: Budgets::new(budget_max),
            name_budgets: Budgets::new(budget_max),
            new_budgets: Vec::new(),
            new_name_budgets: Vec::new(),
            counters: UserCounters::default(),
        }
    }

    /// Follows what processes map, from now on, on these CPUs: `targets` and what they fork, or all.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn follow(&mut self, cpus: &[u32], targets: Option<Vec<u32>>) -> anyhow::Result<()> {
        let reader = SideBandReader::open(cpus, DEFAULT_PAGES)
            .context("cannot follow which files processes map")?;
        self.side_band = Some(reader);
        let follow = targets.map_or(Follow::All, Follow::Only);
        self.processes = Processes::new(&follow);
        self.processes.read_running();
        Ok(())
    }

    /// Walks the user stack of a sample and appends its frames, leaf first; returns why the walk
    /// ended, or `None` if the sample has no user side. `names` learns what happened up to then.
    pub fn walk(
        &mut self,
        sample: &Sample<'_>,
        names: &mut ProcessNames,
        raw: &mut Vec<RawFrame>,
    ) -> Option<StopReason> {
        let registers = sample.user_registers()?;
        let header = sample.header();
        if let Some(side_band) = &mut self.side_band {
            for record in side_band.read_until(header.time_ns) {
                self.processes.apply(&record);
                names.apply(&record);
                self.jit_files.apply(&record);
                if let Some(events) = &mut self.events {
                    events.push(record);
                }
            }
        }
        let Ok(space) = self.processes.space(header.pid, header.time_ns) else {
            self.seen.unknown(header.pid);
            raw.push(RawFrame::User {
                code: Code::Unmapped,
                address: registers.ip,
                lookup: registers.ip,
                reliable: true,
            });
            return Some(StopReason::Unmapped { ip: registers.ip });
        };
        if space.get(registers.ip).is_none() && is_exec(&registers) {
            self.seen.unmapped(header.pid, registers.ip);
            return Some(StopReason::Replaced);
        }
        let mut code = ProcessCode::new(
            header.pid,
            space,
            &mut self.objects,
            &mut self.tables,
            &mut self.memory,
            &mut self.seen,
        );
        self.frames.clear();
        let copy = sample.user_stack();
        let walk = walk_copy(
            &mut self.walker,
            &mut code,
            &registers,
            copy,
            &mut self.frames,
        );
        let mut in_memory = false;
        for frame in &self.frames {
            let lookup = frame.lookup_address();
            let (holder, address) = code.code(lookup, &mut self.no_files);
            in_memory |= holder == Code::Memory;
            raw.push(RawFrame::User {
                code: holder,
                address: address.wrapping_add(frame.ip.wrapping_sub(lookup)),
                lookup: address,
                reliable: frame.reliable,
            });
        }
        if in_memory {
            self.jit_files.met(header.pid, header.time_ns, space);
        }
        if let Some(copy) = copy {
            let copied = copy.segment.bytes.len() as u32;
            let truncated = matches!(walk.stop, StopReason::Truncated { .. });
            self.counters.bytes += u64::from(copied);
            self.learn(header.pid, header.comm, copied, walk.bytes_used, truncated);
        }
        Some(walk.stop)
    }

    fn learn(&mut self, pid: u32, comm: [u8; 16], copied: u32, used: u32, truncated: bool) {
        if let Some(budget) = self.budgets.learn(pid, copied, used, truncated) {
            self.new_budgets.push((pid, budget));
        }
        if let Some(budget) = self.name_budgets.learn(comm, copied, used, truncated) {
            self.new_name_budgets.push((comm, budget));
        }
    }

    /// To be called when samples were handled: hands new budgets to the BPF programs and keeps the
    /// side-band buffers empty. Returns whether a program was started since the last time.
    ///
    /// # Errors
    /// If a BPF map cannot be written.
    pub fn after_samples(&mut self, object: &mut BpfObject) -> anyhow::Result<bool> {
        for (pid, budget) in self.new_budgets.drain(..) {
            object.set_budget(pid, budget)?;
        }
        for (name, budget) in self.new_name_budgets.drain(..) {
            object.set_name_budget(name, budget)?;
        }
        Ok(match &mut self.side_band {
            Some(side_band) => {
                side_band.read();
                side_band.take_exec_came()
            }
            None => false,
        })
    }

    /// From now on keeps what a recording has to hold of processes.
    pub fn keep_evidence(&mut self) {
        self.seen.want();
        self.events = Some(Vec::new());
    }

    /// The next sample is the record with this number in the recording.
    pub fn at_record(&mut self, record: u64) {
        self.seen.at_record(record);
    }

    /// What walks looked at of processes since the last time.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        self.seen.take()
    }

    /// What happened to processes since the last time.
    pub fn take_events(&mut self) -> Vec<SideBand> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The object files so far; frames and ranges refer to them by index.
    #[must_use]
    pub const fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whether an object can be found at its path, too.
    #[must_use]
    pub fn is_named(&self, id: ObjectId) -> bool {
        self.objects.get(id).path().exists()
    }

    /// The names of mapped files that were not at hand, by number.
    #[must_use]
    pub fn no_files(&self) -> &[String] {
        &self.no_files.names
    }

    /// What became of it all.
    #[must_use]
    pub fn counters(&self) -> UserCounters {
        let side_band = self.side_band.as_ref().map(SideBandReader::counters);
        let side_band = side_band.unwrap_or_default();
        UserCounters {
            lost_records: side_band.lost + side_band.overflowed + side_band.malformed,
            unreadable_tables: self.tables.unreadable,
            unkept_mappings: self.seen.dropped,
            ..self.counters
        }
    }
}

impl UserFiles for UserSide {
    fn object(&mut self, id: ObjectId) -> Result<Arc<symbolize::Object>, String> {
        let object = self.objects.get(id);
        let root = object.root();
        let path = root.map_or_else(
            || object.path().to_owned(),
            |root| root.inside(object.path()),
        );
        let root = root.map(|root| Arc::clone(&root.folder));
        let file = self
            .objects
            .contents(id)
            .ok()
            .and_then(|contents| match &*contents {
                Contents::File(file) => file.try_clone().ok(),
                Contents::Memory(bytes) => in_a_file(bytes).ok(),
            });
        match file {
            Some(file) => Ok(Arc::new(symbolize::Object { file, path, root })),
            None => Err(symbolize::base_name(&path)),
        }
    }

    fn name(&self, no_file: u32) -> &str {
        self.no_files
            .names
            .get(no_file as usize)
            .map_or("[unknown]", String::as_str)
    }

    fn perf_map(&self, pid: u32) -> Option<&PerfMapFile> {
        self.jit_files.get(pid)
    }
}

/// Walks what was copied of a user stack, and appends its frames, leaf first.
pub(crate) fn walk_copy(
    walker: &mut UserWalker,
    code: &mut impl UserCode,
    registers: &Registers,
    copy: Option<UserStackCopy<'_>>,
    frames: &mut Vec<Frame>,
) -> UserWalk {
    if Mode::of_code_segment(registers.cs).is_none() {
        frames.push(interrupted(registers));
        return UserWalk {
            stop: StopReason::NoUnwindInfo { ip: registers.ip },
            bytes_used: 0,
        };
    }
    let stack = UserStack {
        segment: copy.map_or_else(Default::default, |copy| copy.segment),
        cut_by_budget: copy.is_some_and(|copy| copy.cut_by_budget),
    };
    let mut walk = walker.walk(code, &UserRegisters::from(registers), &stack, frames);
    if copy.is_none() && matches!(walk.stop, StopReason::MissingBytes { .. }) {
        walk.stop = StopReason::UnreadableStack;
    }
    walk
}

/// Whether user space entered the kernel for `execve` or `execveat`.
pub(crate) const fn is_exec(registers: &Registers) -> bool {
    match Mode::of_code_segment(registers.cs) {
        // `arch/x86/entry/syscalls/syscall_32.tbl`
        Some(Mode::Bits32) => matches!(registers.orig_ax, 11 | 358),
        _ => {
            registers.orig_ax == libc::SYS_execve as u64
                || registers.orig_ax == libc::SYS_execveat as u64
        }
    }
}

/// The bytes in a file without a name, for a reader that wants a file.
fn in_a_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// The interrupted frame alone.
pub(crate) const fn interrupted(registers: &Registers) -> Frame {
    Frame {
        ip: registers.ip,
        sp: registers.sp,
        stack: StackKind::User,
        source: FrameSource::UserRegs,
        reliable: true,
    }
}

#[cfg(test)]
mod tests {
    use walker_common::wire::{Registers, USER_CS, USER32_CS};

    use super::*;

    #[test]
    fn names_beyond_the_bound_share_one_of_their_own() {
        let mut files = NoFiles::default();
        for number in 0..MAX_NO_FILES {
            assert_eq!(files.id(format!("/f{number}").as_bytes()), number as u32);
        }
        let more = files.id(b"/another");
        assert_eq!(files.names[more as usize], MORE_FILES);
        assert_eq!(files.id(b"/yet another"), more);
        assert_eq!(files.id(b"/f7"), 7);
        assert_eq!(files.names.len(), MAX_NO_FILES + 1);
    }

    #[test]
    fn system_calls_have_other_numbers_in_32_bits() {
        let exec = |cs, orig_ax| {
            is_exec(&Registers {
                cs,
                orig_ax,
                ..Registers::default()
            })
        };
        assert!(exec(USER_CS, 59) && exec(USER_CS, 322));
        assert!(!exec(USER_CS, 11) && !exec(USER_CS, 358));
        assert!(exec(USER32_CS, 11) && exec(USER32_CS, 358));
        assert!(!exec(USER32_CS, 59) && !exec(USER32_CS, 322));
    }
}
