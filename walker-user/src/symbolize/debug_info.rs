//! Functions, inlined functions and source lines of an address, from DWARF with addr2line: also of
//! functions in several parts, of what `dwz` moved to another file, and of split DWARF.
//!
//! Runs in the worker process only. Which file has the debug info is not decided here, and a name is
//! as it is in there, mangled or not.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use addr2line::{Context, LookupContinuation as _, LookupResult, SplitDwarfLoad};
use gimli::{Dwarf, DwarfPackage, EndianArcSlice, LittleEndian, SectionId};
use object::{Object as _, ObjectSection as _, read::ReadCache};

use super::{Reason, debug_files::DebugFiles, elf::Facts};

/// Most files of split DWARF that are opened; a large program has some thousands.
const MAX_SPLIT: usize = 20_000;

type Slice = EndianArcSlice<LittleEndian>;

/// A function at an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// As it is in the debug info; `None` if only a line is known.
    pub(super) name: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// The debug info of one file.
pub(super) struct DebugInfo<'a> {
    context: Context<Slice>,
    files: &'a DebugFiles<'a>,
    /// The package of all split DWARF of the program, if there is one.
    package: Option<DwarfPackage<Slice>>,
    /// Split DWARF by its path; `None` for what is not there.
    split: HashMap<PathBuf, Option<Arc<Dwarf<Slice>>>>,
    /// How many more bytes may be read.
    left: u64,
    /// What is not whole.
    missing: Option<Reason>,
}

impl<'a> DebugInfo<'a> {
    /// Reads at most `most` bytes, decompressed, of the debug info of `file`, and of what belongs to
    /// it. `program` is the path of the program.
    pub(super) fn read(
        (file, path, facts): (&File, &Path, &Facts),
        program: &Path,
        files: &'a DebugFiles<'a>,
        most: u64,
    ) -> Result<Self, Reason> {
        let unusable = |_| Reason::DebugInfoUnusable;
        let mut left = most
            .checked_sub(facts.debug_info)
            .ok_or(Reason::DebugInfoTooLarge)?;
        let mut dwarf = sections(file, |id| Some(id.name())).map_err(unusable)?;
        let mut missing = None;
        if facts.shared_debug.is_some() {
            match files.shared(path, facts) {
                Some(shared) if shared.facts.debug_info <= left => {
                    left -= shared.facts.debug_info;
                    dwarf.set_sup(sections(&shared.file, |id| Some(id.name())).map_err(unusable)?);
                }
                Some(_) => missing = Some(Reason::DebugInfoTooLarge),
                None => missing = Some(Reason::NoSharedDebugInfo),
            }
        }
        let mut info = Self {
            context: Context::from_dwarf(dwarf).map_err(|_| Reason::DebugInfoUnusable)?,
            files,
            package: None,
            split: HashMap::new(),
            left,
            missing,
        };
        info.package = [path, program].into_iter().find_map(|path| {
            let mut path = path.as_os_str().to_owned();
            path.push(".dwp");
            info.package_at(Path::new(&path))
        });
        Ok(info)
    }

    fn package_at(&mut self, path: &Path) -> Option<DwarfPackage<Slice>> {
        let found = self.files.split(path)?;
        self.left = self.left.checked_sub(found.facts.debug_info)?;
        let sections = Sections::of(&found.file).ok()?;
        let load = |id: SectionId| Ok::<_, gimli::Error>(sections.get(id.dwo_name()));
        DwarfPackage::load(load, slice(&[])).ok()
    }

    /// The functions at an address, outermost first; empty if the debug info says nothing of it.
    ///
    /// # Errors
    /// If what it says makes no sense.
    pub(super) fn functions(&mut self, address: u64, most: usize) -> Result<Vec<Found>, Reason> {
        let context = &self.context;
        let mut lookup = context.find_frames(address);
        let frames = loop {
            match lookup {
                LookupResult::Output(frames) => break frames,
                LookupResult::Load { load, continuation } => {
                    let split = split_dwarf(
                        &load,
                        self.package.as_ref(),
                        self.files,
                        &mut self.split,
                        &mut self.left,
                    );
                    if let Err(reason) = split {
                        self.missing.get_or_insert(reason);
                    }
                    lookup = continuation.resume(split.ok());
                }
            }
        };
        let mut frames = frames.map_err(|_| Reason::DebugInfoUnusable)?;
        let mut functions = Vec::new();
        while let Some(frame) = frames.next().map_err(|_| Reason::DebugInfoUnusable)? {
            let name = frame
                .function
                .and_then(|name| Some(name.raw_name().ok()?.into_owned()))
                .filter(|name| !name.is_empty());
            let location = frame.location;
            functions.push(Found {
                name,
                file: { location.as_ref() }.and_then(|at| at.file.map(ToOwned::to_owned)),
                line: location.and_then(|at| at.line).filter(|line| *line != 0),
            });
        }
        functions.reverse();
        functions.truncate(most);
        Ok(functions)
    }

    /// Why some of it is not there.
    pub(super) const fn missing(&self) -> Option<Reason> {
        self.missing
    }
}

/// Split DWARF that a unit of the program wants.
fn split_dwarf(
    load: &SplitDwarfLoad<Slice>,
    package: Option<&DwarfPackage<Slice>>,
    files: &DebugFiles<'_>,
    known: &mut HashMap<PathBuf, Option<Arc<Dwarf<Slice>>>>,
    left: &mut u64,
) -> Result<Arc<Dwarf<Slice>>, Reason> {
    let found = package.and_then(|package| package.find_cu(load.dwo_id, &load.parent).ok()?);
    if let Some(found) = found {
        return Ok(Arc::new(found));
    }
    let text = |slice: &Slice| OsStr::from_bytes(slice.bytes()).to_owned();
    let name = load
        .path
        .as_ref()
        .map(text)
        .ok_or(Reason::NoSplitDebugInfo)?;
    let dir = load.comp_dir.as_ref().map(text).unwrap_or_default();
    let path = Path::new(&dir).join(name);
    if let Some(known) = known.get(&path) {
        return known.clone().ok_or(Reason::NoSplitDebugInfo);
    }
    let mut read = || {
        let found = files.split(&path).ok_or(Reason::NoSplitDebugInfo)?;
        *left = { left.checked_sub(found.facts.debug_info) }.ok_or(Reason::DebugInfoTooLarge)?;
        let mut split =
            sections(&found.file, SectionId::dwo_name).map_err(|_| Reason::DebugInfoUnusable)?;
        split.make_dwo(&load.parent);
        // The file may be of another build.
        is_of(&split, load)
            .then(|| Arc::new(split))
            .ok_or(Reason::NoSplitDebugInfo)
    };
    let read = read();
    if known.len() < MAX_SPLIT {
        known.insert(path, read.as_ref().ok().cloned());
    }
    read
}

/// Whether the unit that is wanted is in there.
fn is_of(split: &Dwarf<Slice>, load: &SplitDwarfLoad<Slice>) -> bool {
    let mut units = split.units();
    while let Ok(Some(header)) = units.next() {
        if split
            .unit(header)
            .is_ok_and(|unit| unit.dwo_id == Some(load.dwo_id))
        {
            return true;
        }
    }
    false
}

fn slice(bytes: &[u8]) -> Slice {
    Slice::new(Arc::from(bytes), LittleEndian)
}

/// The DWARF sections of a file, under the names that `name` gives them.
fn sections(
    file: &File,
    name: impl Fn(SectionId) -> Option<&'static str>,
) -> Result<Dwarf<Slice>, object::Error> {
    let sections = Sections::of(file)?;
    Dwarf::load(|id| Ok(sections.get(name(id))))
}

/// The debug sections of a file by name, decompressed.
struct Sections(HashMap<Vec<u8>, Slice>);

impl Sections {
    fn of(file: &File) -> Result<Self, object::Error> {
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache)?;
        let mut sections = HashMap::new();
        for section in elf.sections() {
            let name = section.name_bytes()?;
            if name.starts_with(b".debug_") {
                sections.insert(name.to_vec(), slice(&section.uncompressed_data()?));
            }
        }
        Ok(Self(sections))
    }

    /// An empty one if it is not there.
    fn get(&self, name: Option<&str>) -> Slice {
        let found = name.and_then(|name| self.0.get(name.as_bytes()));
        found.cloned().unwrap_or_else(|| slice(&[]))
    }
}
