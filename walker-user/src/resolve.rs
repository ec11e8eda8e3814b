//! From distinct raw stacks to a profile: every distinct address is named once.
//!
//! What was kept of processes and their files while they lived comes in through [`UserFiles`];
//! how a name is found is the job of [`crate::symbolize`].

use std::{collections::HashMap, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    aggregate::{Aggregate, Code, RawFrame},
    capture::{record::name_text, session::Prepared},
    kernel::bpf_text,
    process::object::ObjectId,
    profile::{Meta, Profile, WeightedStack},
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

/// Addresses by what holds their code; of memory also by process.
type Addresses = FxHashMap<(Code, u32), FxHashSet<u64>>;
/// Names of user code, likewise.
type UserNames = FxHashMap<(Code, u32), HashMap<u64, Arc<CodeSymbol>>>;

/// What addresses of one piece of code have in common.
const fn holder(code: Code, pid: u32) -> (Code, u32) {
    match code {
        Code::Memory => (code, pid),
        Code::Object(_) | Code::NoFile(_) | Code::Unmapped => (code, 0),
    }
}

/// Names every distinct address of `aggregate` and builds the profile.
pub fn profile(
    aggregate: &Aggregate,
    meta: Meta,
    prepared: &mut Prepared,
    kernel_symbols: &mut KernelSymbols,
    user: Option<(&mut dyn UserFiles, &mut UserSymbols)>,
) -> Profile {
    let stacks: Vec<_> = aggregate.stacks().collect();
    let mut kernel: FxHashSet<u64> = FxHashSet::default();
    let mut addresses = Addresses::default();
    for stack in &stacks {
        for frame in &stack.frames {
            match *frame {
                RawFrame::Note(_) => continue,
                RawFrame::Kernel { lookup, .. } => kernel.insert(lookup),
                RawFrame::User { code, lookup, .. } => {
                    let holder = holder(code, stack.process.pid);
                    addresses.entry(holder).or_default().insert(lookup)
                }
            };
        }
    }
    let kernel = name_kernel(prepared, kernel_symbols, kernel);
    let names = user.map_or_else(UserNames::default, |(files, symbols)| {
        name_user(files, symbols, addresses)
    });

    let mut profile = Profile::new(meta);
    for stack in stacks {
        let mut frames = Vec::with_capacity(stack.frames.len());
        for frame in &stack.frames {
            match *frame {
                RawFrame::Note(note) => frames.push(profile.note(aggregate.note_text(note))),
                RawFrame::Kernel {
                    ip,
                    lookup,
                    stack,
                    reliable,
                } => frames.push(profile.kernel_frame(
                    kernel.get(&lookup),
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
                    // Every address was looked up, and every look-up has an answer.
                    let names = names.get(&holder(code, stack.process.pid));
                    if let Some(symbol) = names.and_then(|names| names.get(&lookup)) {
                        let after = address - lookup;
                        frames.extend(profile.user_frames(symbol, address, after, reliable, None));
                    }
                }
            }
        }
        let comm = profile.intern(&name_text(&stack.process.comm));
        profile.push(WeightedStack {
            comm,
            pid: Some(stack.process.pid),
            frames,
            event: stack.event as usize,
            samples: stack.samples,
            weight: stack.weight,
            stop: stack.stop,
            complete: stack.complete,
        });
    }
    profile
}

/// Symbols of kernel addresses: kallsyms, then the kernel's list of BPF programs, which some
/// kernels do not show in kallsyms.
fn name_kernel(
    prepared: &mut Prepared,
    symbols: &mut KernelSymbols,
    addresses: FxHashSet<u64>,
) -> FxHashMap<u64, KernelSymbol> {
    let in_image = |address: &u64| prepared.kernel.tables.text.is_static(*address);
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

fn name_user(
    files: &mut dyn UserFiles,
    symbols: &mut UserSymbols,
    addresses: Addresses,
) -> UserNames {
    let mut names = UserNames::default();
    for (holder, addresses) in addresses {
        let addresses: Vec<u64> = addresses.into_iter().collect();
        let found = match holder {
            (Code::Object(id), _) => match files.object(id) {
                Ok(object) => symbols.object(&object, &addresses),
                Err(name) => symbols.without_file(&name, &addresses, Reason::Unreadable),
            },
            (Code::NoFile(number), _) => {
                symbols.without_file(files.name(number), &addresses, Reason::Unreadable)
            }
            (Code::Memory, pid) => symbols.jit_file(files.perf_map(pid), &addresses),
            (Code::Unmapped, _) => symbols.without_file(UNKNOWN, &addresses, Reason::Unmapped),
        };
        names.insert(holder, found);
    }
    names
}
