//! Reading what JIT compilers wrote: each file once as long as it does not change, and not more for
//! one user than it may cost.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    CodeSymbol, FileKey, Function,
    allowance::Allowance,
    bounded,
    jitdump::JitDump,
    perf_map::{JitFunction, PerfMap, PerfMapFile},
};

/// What JIT code is shown as a module.
pub(super) const JIT: &str = "[jit]";
/// How long the files of one user may be read at once.
const USER_TIME: Duration = Duration::from_secs(10);
/// Most users whose time is counted; the others share one allowance.
const MAX_USERS: usize = 1024;
/// How many files of each kind are kept as they were read.
const KEPT: usize = 4;

/// Files as they were read last, and the time that may be spent on more.
#[derive(Debug, Default)]
pub(super) struct JitReader {
    maps: Kept<PerfMap>,
    dumps: Kept<JitDump>,
    allowances: HashMap<u32, Allowance>,
}

/// What a process's compiler says of its code.
#[derive(Debug, Default)]
pub(super) struct JitNames {
    map: Option<Arc<PerfMap>>,
    dump: Option<Arc<JitDump>>,
    /// Whether there is more, for which there was no time.
    pub(super) too_slow: bool,
}

impl JitReader {
    /// Reads the files of a process, after it looked for its perf map again.
    pub(super) fn read(&mut self, file: &PerfMapFile) -> JitNames {
        // Without one there may be a jitdump file.
        let _may_be_missing = file.look();
        let user = file.identity().user;
        let known = self.allowances.len() < MAX_USERS || self.allowances.contains_key(&user);
        let user = if known { user } else { u32::MAX };
        let now = Instant::now();
        let allowance = self
            .allowances
            .entry(user)
            .or_insert_with(|| Allowance::new(USER_TIME, now));
        let mut names = JitNames::default();
        let slow = &mut names.too_slow;
        names.map = self
            .maps
            .get(file.map_state(), allowance, slow, || file.read());
        names.dump = self
            .dumps
            .get(file.dump_state(), allowance, slow, || file.read_dump());
        names
    }
}

impl JitNames {
    /// What a perf map alone says.
    #[cfg(test)]
    pub(super) fn of_map(map: PerfMap) -> Self {
        Self {
            map: Some(Arc::new(map)),
            ..Self::default()
        }
    }

    /// Whether there was nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_none() && self.dump.is_none()
    }

    /// The code at an address. A jitdump file says more than a perf map.
    pub(super) fn find(&self, address: u64) -> Option<CodeSymbol> {
        if let Some((function, place)) = self.dump.as_ref().and_then(|dump| dump.find(address)) {
            let mut symbol = named(function, address);
            if let (Some(first), Some(place)) = (symbol.functions.first_mut(), place) {
                first.file = Some(bounded(place.file.to_owned()));
                first.line = place.line;
            }
            return Some(symbol);
        }
        let function = self.map.as_ref()?.find(address)?;
        Some(named(function, address))
    }
}

fn named(function: &JitFunction, address: u64) -> CodeSymbol {
    CodeSymbol {
        functions: vec![Function::named(function.name.as_str())],
        module: JIT.to_owned(),
        named: true,
        offset: address - function.start,
        size: function.size,
        reason: None,
    }
}

/// The files that were read last.
#[derive(Debug)]
struct Kept<T>(Vec<(FileKey, Arc<T>)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Kept<T> {
    /// A file as it is now. `slow` becomes true if there is no time to read it.
    fn get(
        &mut self,
        state: Option<FileKey>,
        allowance: &mut Allowance,
        slow: &mut bool,
        read: impl FnOnce() -> io::Result<T>,
    ) -> Option<Arc<T>> {
        let state = state?;
        if let Some((_, kept)) = self.0.iter().find(|(of, _)| *of == state) {
            return Some(Arc::clone(kept));
        }
        let begin = Instant::now();
        if allowance.left(begin).is_zero() {
            *slow = true;
            return None;
        }
        let value = read().ok().map(Arc::new);
        allowance.spend(begin.elapsed());
        let value = value?;
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push((state, Arc::clone(&value)));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_and_not_when_the_time_of_its_user_is_used_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let state = |text: &str| {
            std::fs::write(&path, text).unwrap();
            FileKey::of(&std::fs::File::open(&path).unwrap()).ok()
        };
        let (first, second) = (state("a"), state("longer"));
        let now = Instant::now();
        let mut allowance = Allowance::new(USER_TIME, now);
        let mut kept = Kept::default();
        let mut slow = false;
        let got = kept.get(first, &mut allowance, &mut slow, || Ok(1));
        assert_eq!((got.as_deref(), slow), (Some(&1), false));
        allowance.spend(USER_TIME * 2);
        let mut used_up = Allowance::new(Duration::ZERO, now);
        let got = kept.get(first, &mut used_up, &mut slow, || Ok(2));
        assert_eq!((got.as_deref(), slow), (Some(&1), false));
        let got = kept.get(second, &mut used_up, &mut slow, || Ok(3));
        assert_eq!((got, slow), (None, true));
    }
}
