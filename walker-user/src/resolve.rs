//! Names for the addresses of raw stacks, each distinct one looked up once, and profiles of raw stacks
//! with their names.
//!
//! What was kept of processes and their files while they lived comes in through [`UserFiles`];
//! how a name is found is the job of [`crate::symbolize`].

use std::{collections::HashMap, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    capture::{record::name_text, session::Prepared},
    kernel::bpf_text,
    process::object::ObjectId,
    profile::{FrameId, ObjectIndex, Profile, SymbolId},
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::{
        CodeSymbol, KernelSymbol, KernelSymbols, Object, Reason, UserSymbols, perf_map::PerfMapFile,
    },
};

/// What code in no mapping is shown as.
const UNKNOWN: &str = "[unknown]";

/// What was kept of user space.
pub trait UserFiles {
    /// An object, or the base name of its path if the file cannot be opened again.
    fn object(&mut self, id: ObjectId) -> Result<Arc<Object>, String>;
    /// The name of a file that could not be opened, by its number in [`Code::NoFile`].
    fn name(&self, no_file: u32) -> &str;
    /// The perf map of a process, if it has one.
    fn perf_map(&self, pid: u32) -> Option<&PerfMapFile>;
}

/// What addresses of one piece of code have in common: what holds it, and of memory also the process
/// (0 otherwise).
pub type Holder = (Code, u32);
/// Names of user code, by what holds it and the address.
pub type UserNames = FxHashMap<Holder, HashMap<u64, Arc<CodeSymbol>>>;

/// What addresses of one piece of code have in common.
#[must_use]
pub const fn holder(code: Code, pid: u32) -> Holder {
    match code {
        Code::Memory => (code, pid),
        Code::Object(_) | Code::NoFile(_) | Code::Unmapped => (code, 0),
    }
}

/// Distinct addresses that want names.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Of the kernel.
    pub kernel: FxHashSet<u64>,
    /// Of user space.
    pub user: FxHashMap<Holder, FxHashSet<u64>>,
}

impl Addresses {
    /// Adds those of a tree's frames, of which each comes after the one it is kept below; they are
    /// numbered from `first` on. `pid_of` gives the process with a number. A frame that is `None` has
    /// no address.
    pub fn add_nodes(
        &mut self,
        first: u32,
        nodes: impl IntoIterator<Item = Option<(Place, RawFrame)>>,
        pid_of: impl Fn(u32) -> u32,
    ) {
        // The process of each frame is that of the frame it is kept below.
        let mut pids: Vec<u32> = Vec::new();
        for node in nodes {
            let Some((place, frame)) = node else {
                pids.push(0);
                continue;
            };
            let pid = match place {
                Place::Process(process) => pid_of(process),
                // What is kept below an earlier frame is a note, which has no address.
                Place::Node(parent) => parent
                    .checked_sub(first)
                    .and_then(|parent| pids.get(parent as usize).copied())
                    .unwrap_or(0),
            };
            pids.push(pid);
            self.add(pid, frame);
        }
    }

    /// Adds that of a frame of this process.
    pub fn add(&mut self, pid: u32, frame: RawFrame) {
        match frame {
            RawFrame::Note(_) => {}
            RawFrame::Kernel { lookup, .. } => {
                self.kernel.insert(lookup);
            }
            RawFrame::User { code, lookup, .. } => {
                let addresses = self.user.entry(holder(code, pid)).or_default();
                addresses.insert(lookup);
            }
        }
    }
}

/// Names of addresses.
#[derive(Debug, Default)]
pub struct Names {
    /// Of the kernel.
    pub kernel: FxHashMap<u64, KernelSymbol>,
    /// Of user space.
    pub user: UserNames,
}

/// What raw frames refer to by number.
pub trait Referred {
    /// The text of a note.
    fn note(&self, note: u32) -> &str;
    /// An object file, as the profile has it.
    fn object(&self, profile: &mut Profile, id: ObjectId) -> Option<ObjectIndex>;
}

impl Names {
    /// The frames of a stack of this process, which is root first. Every address has to have been
    /// looked up.
    pub fn frames(
        &self,
        profile: &mut Profile,
        referred: &impl Referred,
        pid: u32,
        frames: &[RawFrame],
    ) -> Vec<FrameId> {
        let mut named = Vec::with_capacity(frames.len());
        for frame in frames {
            match *frame {
                RawFrame::Note(note) => named.push(profile.note(referred.note(note))),
                RawFrame::Kernel {
                    ip,
                    lookup,
                    stack,
                    reliable,
                } => named.push(profile.kernel_frame(
                    self.kernel.get(&lookup),
                    (ip, lookup),
                    stack,
                    reliable,
                )),
                RawFrame::User {
                    code,
                    address,
                    lookup,
                    reliable,
                } => {
                    // Every look-up has an answer.
                    let names = self.user.get(&holder(code, pid));
                    let object = match code {
                        Code::Object(id) => referred.object(profile, id),
                        _ => None,
                    };
                    if let Some(symbol) = names.and_then(|names| names.get(&lookup)) {
                        let after = address.wrapping_sub(lookup);
                        named.extend(profile.user_frames(symbol, address, after, reliable, object));
                    }
                }
            }
        }
        named
    }
}

/// The names of a process and of its thread in a profile.
pub fn process_names(profile: &mut Profile, process: &Process) -> [SymbolId; 2] {
    [process.name, process.comm].map(|name| profile.intern(&name_text(&name)))
}

/// Symbols of kernel addresses: kallsyms, then the kernel's list of BPF programs, which some
/// kernels do not show in kallsyms.
pub fn name_kernel(
    prepared: &mut Prepared,
    symbols: &mut KernelSymbols,
    addresses: FxHashSet<u64>,
) -> FxHashMap<u64, KernelSymbol> {
    let in_image = |address: &u64| prepared.kernel.sampled.tables.text.is_static(*address);
    let (image, dynamic): (Vec<u64>, Vec<u64>) = addresses.into_iter().partition(in_image);
    let mut names = symbols.look_up(&prepared.kernel.symbols, &image);
    if dynamic.is_empty() {
        return names;
    }
    let bpf = prepared.bpf_text();
    let mut others = Vec::new();
    for address in dynamic {
        match bpf_text::find(&bpf, address) {
            Some(found) => {
                let symbol = KernelSymbol {
                    name: found.name.clone(),
                    module: Some("bpf".to_owned()),
                    offset: address - found.range.begin,
                    size: found.range.end - found.range.begin,
                };
                names.insert(address, symbol);
            }
            None => others.push(address),
        }
    }
    names.extend(symbols.look_up(&prepared.kernel.symbols, &others));
    names
}

/// Names of addresses of one piece of user code.
pub fn name_user(
    files: &mut dyn UserFiles,
    symbols: &mut UserSymbols,
    holder: Holder,
    addresses: FxHashSet<u64>,
) -> HashMap<u64, Arc<CodeSymbol>> {
    let addresses: Vec<u64> = addresses.into_iter().collect();
    match holder {
        (Code::Object(id), _) => match files.object(id) {
            Ok(object) => symbols.object(&object, &addresses),
            Err(name) => symbols.without_file(&name, &addresses, Reason::Unreadable),
        },
        (Code::NoFile(number), _) => {
            symbols.without_file(files.name(number), &addresses, Reason::Unreadable)
        }
        (Code::Memory, pid) => symbols.jit_file(files.perf_map(pid), &addresses),
        (Code::Unmapped, _) => symbols.without_file(UNKNOWN, &addresses, Reason::Unmapped),
    }
}
