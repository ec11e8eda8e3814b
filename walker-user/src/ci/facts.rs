//! What a profile was measured under: facts of the machine, its kernel and how it was sampled, by name.
//!
//! Sets are compared only if the facts that shape every number agree. The kernel's version is none of
//! them: it is what is tested.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Facts that may differ, as they are what is tested.
const TESTED: [&str; 2] = ["kernel release", "kernel version"];
/// Most bytes of a file that is read for a fact.
const MAX_BYTES: u64 = 4 << 20;
/// What of the kernel's command line only says where it was loaded from.
const OF_THE_LOADER: [&str; 3] = ["BOOT_IMAGE=", "initrd=", "root="];

/// Facts by name. What is not known is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(pub BTreeMap<String, String>);

/// A fact that is another in two sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is.
    pub fact: String,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub after: String,
}

impl Facts {
    /// Those of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut facts = Self::default();
        let of_kernel = |name: &str| line(&format!("/proc/sys/kernel/{name}"));
        facts.add("kernel release", of_kernel("osrelease"));
        facts.add("kernel version", of_kernel("version"));
        facts.add("kernel config", config_digest());
        facts.add(
            "command line",
            line("/proc/cmdline").map(|line| options(&line)),
        );
        facts.add("cpu", cpu_model());
        facts.add("cpus", line("/sys/devices/system/cpu/online"));
        facts.add("smt", line("/sys/devices/system/cpu/smt/active"));
        facts.add("governor", governors());
        let no_turbo = line("/sys/devices/system/cpu/intel_pstate/no_turbo");
        let boost = line("/sys/devices/system/cpu/cpufreq/boost");
        facts.add("turbo off (intel_pstate)", no_turbo);
        facts.add("boost", boost);
        facts.add(
            "clock source",
            line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        );
        facts.add(
            "transparent hugepages",
            line("/sys/kernel/mm/transparent_hugepage/enabled"),
        );
        for (name, state) in mitigations() {
            facts.add(&format!("mitigation {name}"), Some(state));
        }
        facts
    }

    /// Adds a fact, if it is known.
    pub fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// What is another in `after`, of what both know: first what is tested, then what makes numbers
    /// incomparable.
    #[must_use]
    pub fn changes(&self, after: &Self) -> [Vec<Change>; 2] {
        let both = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name, value, after.0.get(name)?)));
        let changes =
            both.filter(|(_, before, after)| before != after)
                .map(|(fact, before, after)| Change {
                    fact: fact.clone(),
                    before: before.clone(),
                    after: after.clone(),
                });
        let (tested, others) = changes.partition(|change| TESTED.contains(&change.fact.as_str()));
        [tested, others]
    }
}

/// The first line of a small file, if there is one.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The options of a kernel's command line that are not about where it was loaded from.
fn options(line: &str) -> String {
    let words = line.split_whitespace();
    let options = words.filter(|word| !OF_THE_LOADER.iter().any(|name| word.starts_with(name)));
    options.collect::<Vec<_>>().join(" ")
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.filter(|model| !model.is_empty())
}

/// The names of all frequency governors in use.
fn governors() -> Option<String> {
    let mut names: Vec<String> = entries("/sys/devices/system/cpu")
        .filter_map(|cpu| line(cpu.join("cpufreq/scaling_governor").to_str()?))
        .collect();
    names.sort();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", "))
}

fn mitigations() -> Vec<(String, String)> {
    entries("/sys/devices/system/cpu/vulnerabilities")
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, line(path.to_str()?)?))
        })
        .collect()
}

fn entries(folder: &str) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// What tells the kernel's configuration from others: a digest of its options, without comments.
fn config_digest() -> Option<String> {
    let release = line("/proc/sys/kernel/osrelease")?;
    let text = match fs::File::open("/proc/config.gz") {
        Ok(file) => read(GzDecoder::new(file)),
        Err(_) => {
            let path = format!("/boot/config-{release}");
            fs::File::open(Path::new(&path)).ok().and_then(read)
        }
    }?;
    let mut digest = Sha256::new();
    // The compiler's version follows the machine that built it.
    let options = text.lines().filter(|line| line.starts_with("CONFIG_"));
    let of_compiler = [
        "CONFIG_CC_VERSION",
        "CONFIG_GCC_VERSION",
        "CONFIG_LD_VERSION",
        "CONFIG_AS_",
    ];
    for option in options.filter(|line| !of_compiler.iter().any(|name| line.starts_with(name))) {
        digest.update(option);
        digest.update("\n");
    }
    let digest = digest.finalize();
    Some(
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

fn read(file: impl Read) -> Option<String> {
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        let pairs = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        Facts(pairs.collect())
    }

    #[test]
    fn this_machine_is_no_different_from_itself() {
        let facts = Facts::of_this_machine();
        assert!(facts.0.contains_key("kernel release"), "{facts:?}");
        assert_eq!(facts.changes(&Facts::of_this_machine()), [vec![], vec![]]);
    }

    #[test]
    fn what_is_tested_may_differ_and_what_one_does_not_know_is_no_change() {
        let before = facts(&[
            ("kernel release", "6.1"),
            ("governor", "powersave"),
            ("smt", "1"),
        ]);
        let after = facts(&[
            ("kernel release", "6.2"),
            ("governor", "performance"),
            ("cpu", "x"),
        ]);
        let [tested, others] = before.changes(&after);
        assert_eq!(tested.len(), 1);
        assert_eq!(tested[0].fact, "kernel release");
        assert_eq!(others.len(), 1);
        assert_eq!(
            (others[0].before.as_str(), others[0].after.as_str()),
            ("powersave", "performance")
        );
    }

    #[test]
    fn where_a_kernel_was_loaded_from_is_no_option() {
        let line = "BOOT_IMAGE=/vmlinuz-6.1 root=/dev/vda1 quiet init_on_alloc=1";
        assert_eq!(options(line), "quiet init_on_alloc=1");
    }
}
