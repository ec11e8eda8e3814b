//! Which processes' perf maps and jitdump files are held, found while their process lives and kept
//! apart by what process had a number when.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use rustc_hash::FxHashMap;

use crate::{
    capture::side_band::{Event, SideBand},
    process::{address_space::AddressSpace, mapped_file::Backing},
    symbolize::perf_map::{Identity, PerfMapFile},
};

/// How long to wait before a process is looked at again, in nanoseconds.
const AGAIN_NS: u64 = 500_000_000;
/// Most processes of one user whose files are held.
const MAX_OF_USER: usize = 256;
/// Most processes whose files are held, beside those of root.
const MAX_HELD: usize = 1024;
/// Most processes that something is remembered of.
const MAX_KNOWN: usize = 32_768;

/// What is known of the process with a number.
#[derive(Debug)]
enum Known {
    /// Where its files are.
    Held { files: PerfMapFile, looked_ns: u64 },
    /// It could not be looked at, or there was no room.
    Missing { looked_ns: u64 },
    /// Several processes had the number, and what one calls its code is not true of the others.
    Several,
}

/// The files of processes, by number.
#[derive(Debug, Default)]
pub(super) struct JitFiles(FxHashMap<u32, Known>);

impl JitFiles {
    /// A process runs code that is in no file.
    pub(super) fn met(&mut self, pid: u32, now_ns: u64, space: &AddressSpace) {
        match self.0.get_mut(&pid) {
            Some(Known::Several) => {}
            Some(Known::Held { files, looked_ns }) => {
                if now_ns.saturating_sub(*looked_ns) < AGAIN_NS {
                    return;
                }
                *looked_ns = now_ns;
                if files
                    .identity_now()
                    .is_some_and(|now| !is_same(files.identity(), now))
                {
                    self.0.insert(pid, Known::Several);
                    return;
                }
                // Named when it is there.
                let _may_be_missing = files.look();
                find_dump(files, space);
            }
            Some(Known::Missing { looked_ns }) if now_ns.saturating_sub(*looked_ns) < AGAIN_NS => {}
            Some(Known::Missing { .. }) | None => self.find(pid, now_ns, space),
        }
    }

    fn find(&mut self, pid: u32, now_ns: u64, space: &AddressSpace) {
        if self.0.len() >= MAX_KNOWN {
            self.0
                .retain(|_, known| !matches!(known, Known::Missing { .. }));
        }
        let missing = Known::Missing { looked_ns: now_ns };
        let known = match PerfMapFile::of(pid) {
            Ok(files) if self.has_room(files.identity().user) => {
                find_dump(&files, space);
                Known::Held {
                    files,
                    looked_ns: now_ns,
                }
            }
            _ => missing,
        };
        self.0.insert(pid, known);
    }

    fn has_room(&self, user: u32) -> bool {
        let users = self.0.values().filter_map(|known| match known {
            Known::Held { files, .. } => Some(files.identity().user),
            _ => None,
        });
        let (mut own, mut others) = (0, 0);
        for holder in users {
            own += usize::from(holder == user);
            others += usize::from(holder != 0);
        }
        own < MAX_OF_USER && (user == 0 || others < MAX_HELD)
    }

    /// What happened to processes says when to look at once.
    pub(super) fn apply(&mut self, record: &SideBand) {
        let pid = match &record.event {
            Event::Exit { pid, tid } if pid == tid => *pid,
            Event::Comm {
                pid, exec: true, ..
            } => *pid,
            _ => return,
        };
        if let Some(Known::Held { files, looked_ns }) = self.0.get_mut(&pid) {
            // Some compilers write it last.
            let _may_be_missing = files.look();
            *looked_ns = 0;
        }
    }

    /// The files of a process, if it has any.
    pub(super) fn get(&self, pid: u32) -> Option<&PerfMapFile> {
        match self.0.get(&pid)? {
            Known::Held { files, .. } => Some(files),
            Known::Missing { .. } | Known::Several => None,
        }
    }
}

/// Whether a process is still the same, and no other user can have named its code before.
fn is_same(before: Identity, now: Identity) -> bool {
    before.began == now.began && (before.user == now.user || before.user == 0)
}

/// Opens the jitdump file, of which a compiler maps a page so that it is found.
fn find_dump(files: &PerfMapFile, space: &AddressSpace) {
    if files.has_dump() {
        return;
    }
    let dumps = space.iter().filter_map(|mapping| match &mapping.backing {
        Backing::File(file) => {
            let path = Path::new(OsStr::from_bytes(file.path_without_mark()));
            let name = path.file_name()?.as_bytes();
            let is_dump = name.starts_with(b"jit-") && name.ends_with(b".dump");
            is_dump.then(|| (path.to_owned(), (mapping.start, mapping.end)))
        }
        _ => None,
    });
    for (path, range) in dumps {
        if files.open_dump(&path, range).is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

    fn exit(pid: u32) -> SideBand {
        SideBand {
            time_ns: 1,
            pid,
            tid: pid,
            event: Event::Exit { pid, tid: pid },
        }
    }

    #[test]
    fn a_map_that_comes_late_is_found_when_the_process_ends() {
        let pid = process::id();
        let path = format!("/tmp/perf-{pid}.map");
        let mut files = JitFiles::default();
        files.met(pid, 1, &AddressSpace::new());
        fs::write(&path, "10 10 late\n").unwrap();
        files.apply(&exit(pid));
        fs::remove_file(&path).unwrap();
        let read = files.get(pid).unwrap().read().unwrap();
        assert_eq!(read.find(0x10).unwrap().name, "late");
    }

    #[test]
    fn names_of_one_process_are_not_given_to_another_with_its_number() {
        let one = |began, user| Identity { began, user };
        assert!(is_same(one(5, 1000), one(5, 1000)));
        assert!(!is_same(one(5, 1000), one(6, 1000)));
        assert!(!is_same(one(5, 1000), one(5, 0)), "became root's");
        assert!(is_same(one(5, 0), one(5, 1000)), "gave up what it may");
    }
}
