//! Names for the addresses of a recording that has none of them: of one that did not end properly, or
//! was told not to look.
//!
//! Files are found at the paths they had, or below another root, and have to be the same build. The
//! kernel is asked if it is the one that was recorded, whatever boot it was.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{DAMAGED, reader::Recording, rows::ObjectRow};
use crate::{
    elf::{BuildId, ElfFacts},
    kernel::kallsyms::Kallsyms,
    process::object::ObjectId,
    resolve::{self, Addresses, Names, UserFiles},
    symbolize::{
        KernelSymbol, KernelSymbols, Object, UserSymbols, base_name, perf_map::PerfMapFile,
    },
    sys::regular_file,
};

/// What the vDSO has instead of a path.
const VDSO: &[u8] = b"[vdso]";

/// Opens the files that a recording names.
#[derive(Debug)]
pub struct RecordedFiles<'a> {
    recording: &'a Recording,
    root: PathBuf,
}

impl<'a> RecordedFiles<'a> {
    /// Files are looked for below `root`.
    #[must_use]
    pub const fn new(recording: &'a Recording, root: PathBuf) -> Self {
        Self { recording, root }
    }

    /// Whether an object is the code that the kernel gives every process.
    pub(super) fn is_vdso(&self, id: ObjectId) -> bool {
        let row = self.recording.objects.get(id.0 as usize);
        row.and_then(Option::as_ref)
            .is_some_and(|row| row.path == VDSO)
    }

    /// The build ID of an object.
    pub(super) fn build_id(&self, id: ObjectId) -> Option<BuildId> {
        let row = self.recording.objects.get(id.0 as usize)?.as_ref()?;
        BuildId::new(&row.build_id).ok()
    }

    /// The path and the open file of an object, if it is there and the same.
    pub(super) fn open(&self, id: ObjectId) -> Result<Object, String> {
        let Some(Some(row)) = self.recording.objects.get(id.0 as usize) else {
            return Err(DAMAGED.to_owned());
        };
        let path = Path::new(OsStr::from_bytes(&row.path));
        let name = || base_name(path);
        if !path.is_absolute() {
            return Err(name());
        }
        let relative = path.strip_prefix("/").unwrap_or(path);
        let file = regular_file::open(&self.root.join(relative)).map_err(|_| name())?;
        match is_same(&file, row) {
            true => Ok(Object {
                file,
                path: path.to_owned(),
                root: None,
            }),
            false => Err(name()),
        }
    }
}

/// Whether a file is the one that was recorded.
fn is_same(file: &std::fs::File, row: &ObjectRow) -> bool {
    if let Ok(id) = BuildId::new(&row.build_id) {
        return ElfFacts::read(file).is_ok_and(|facts| facts.build_id == Some(id));
    }
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    let time = std::os::unix::fs::MetadataExt::mtime(&metadata);
    let nanoseconds = std::os::unix::fs::MetadataExt::mtime_nsec(&metadata);
    row.state == Some((metadata.len(), time, nanoseconds))
}

impl UserFiles for RecordedFiles<'_> {
    fn object(&mut self, id: ObjectId) -> Result<Arc<Object>, String> {
        self.open(id).map(Arc::new)
    }

    fn name(&self, no_file: u32) -> &str {
        let name = self.recording.no_files.get(no_file as usize);
        name.map_or("[unknown]", String::as_str)
    }

    fn perf_map(&self, _pid: u32) -> Option<&PerfMapFile> {
        // A map that is there now is of another process.
        None
    }
}

impl Recording {
    /// The addresses of samples that have no name in the file.
    #[must_use]
    pub fn unnamed(&self) -> Addresses {
        match self.head.named {
            true => Addresses::default(),
            false => self.without_names(self.addresses()),
        }
    }

    /// Those of these addresses that have no name.
    #[must_use]
    pub fn without_names(&self, mut addresses: Addresses) -> Addresses {
        let names = &self.names;
        addresses
            .kernel
            .retain(|address| !names.kernel.contains_key(address));
        addresses.user.retain(|holder, addresses| {
            if let Some(names) = names.user.get(holder) {
                addresses.retain(|address| !names.contains_key(address));
            }
            !addresses.is_empty()
        });
        addresses
    }

    /// Takes the names that were found for addresses that had none.
    pub fn add_names(&mut self, found: Names) {
        self.names.kernel.extend(found.kernel);
        for (holder, names) in found.user {
            self.names.user.entry(holder).or_default().extend(names);
        }
    }
}

/// Names of user addresses, from the files at hand.
pub fn name_user(
    files: &mut RecordedFiles<'_>,
    symbols: &mut UserSymbols,
    addresses: FxHashMap<resolve::Holder, FxHashSet<u64>>,
) -> resolve::UserNames {
    let named = addresses.into_iter().map(|(holder, addresses)| {
        let names: HashMap<_, _> = resolve::name_user(files, symbols, holder, addresses);
        (holder, names)
    });
    named.collect()
}

/// Names of kernel addresses, if the running kernel is the recorded one. Modules and BPF programs
/// are named only if it has not been booted again.
pub fn name_kernel(
    recording: &Recording,
    addresses: &FxHashSet<u64>,
) -> Option<FxHashMap<u64, KernelSymbol>> {
    let recorded = recording.head.kernel.as_ref()?;
    let kallsyms = Kallsyms::of_running_kernel().ok()?;
    let stext = kallsyms.address("_stext")?;
    if kallsyms.digest() != recorded.kallsyms_digest {
        return None;
    }
    let moved = stext.wrapping_sub(recorded.stext);
    let in_image = |address: u64| {
        let holds = |&(begin, end): &(u64, u64)| begin <= address && address < end;
        recorded.text.iter().any(holds)
    };
    let same_boot = moved == 0 && super::head::boot_id() == recording.head.host.boot_id;
    let asked: Vec<u64> = addresses
        .iter()
        .filter(|address| same_boot || in_image(**address))
        .map(|address| address.wrapping_add(moved))
        .collect();
    let found = KernelSymbols::new().look_up(&kallsyms, &asked);
    let found = found
        .into_iter()
        .map(|(address, symbol)| (address.wrapping_sub(moved), symbol));
    Some(found.collect())
}
