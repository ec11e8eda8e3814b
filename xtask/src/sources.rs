//! The hash of everything the BPF object is built from, by which a committed object that is older
//! than its sources is noticed without building anything.
//!
//! The toolchain is not part of it: `object_record` keeps its versions apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use crate::{build_ebpf::FLAGS, workspace::Workspace};

/// The crates of the project that end up in the object.
const CRATES: [&str; 2] = ["walker-common", "walker-ebpf"];

/// The crates from elsewhere that end up in it: `aya-ebpf` and what it is split into. What they
/// need to be compiled (syn, quote, …) leaves no code in the object.
const LOCKED_PREFIX: &str = "aya-ebpf";

/// The cargo profile the object is built with.
const PROFILE: &str = "bpf";

/// The hash of the sources as the tree has them now.
pub(crate) fn hash(workspace: &Workspace) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    for path in files(workspace.root())? {
        let name = path
            .to_str()
            .with_context(|| format!("{} is not a UTF-8 name: rename it", path.display()))?;
        let full = workspace.root().join(&path);
        let bytes = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
        feed(&mut hasher, name, &bytes);
    }
    let manifest: Table = parse(workspace, "Cargo.toml")?;
    feed(&mut hasher, "profile", profile(&manifest)?.as_bytes());
    feed(&mut hasher, "edition", edition(&manifest)?.as_bytes());
    feed(&mut hasher, "flags", FLAGS.join("\n").as_bytes());
    let lock: Table = parse(workspace, "Cargo.lock")?;
    feed(&mut hasher, "crates", locked(&lock)?.as_bytes());
    Ok(hex(&hasher.finalize()))
}

/// The SHA-256 of a file, in hex.
pub(crate) fn file_hash(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// Adds a named part. The lengths keep two parts from being taken for one another.
fn feed(hasher: &mut Sha256, name: &str, content: &[u8]) {
    for part in [name.as_bytes(), &without_crlf(content)] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// A checkout with CRLF line ends gives the same object, so it has the same hash.
fn without_crlf(content: &[u8]) -> Vec<u8> {
    let next = content.iter().skip(1).map(Some).chain([None]);
    content
        .iter()
        .zip(next)
        .filter(|&(&byte, next)| !(byte == b'\r' && next == Some(&b'\n')))
        .map(|(&byte, _)| byte)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(workspace: &Workspace, path: &str) -> anyhow::Result<Table> {
    workspace
        .read(path)?
        .parse()
        .with_context(|| format!("{path} is not valid TOML"))
}

/// The source files, from the project's root, in an order that no file system decides.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in CRATES {
        found.push(Path::new(name).join("Cargo.toml"));
        // A build script would be a source as well.
        let script = Path::new(name).join("build.rs");
        if root.join(&script).exists() {
            found.push(script);
        }
        collect(root, &Path::new(name).join("src"), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read the folder {}", root.join(dir).display());
    for entry in fs::read_dir(root.join(dir)).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = dir.join(entry.file_name());
        if entry.file_type().with_context(unreadable)?.is_dir() {
            collect(root, &path, found)?;
        } else if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            // Hidden files are an editor's, and it may have some open.
            found.push(path);
        }
    }
    Ok(())
}

/// The settings of the BPF profile, those it inherits included, one a line.
fn profile(manifest: &Table) -> anyhow::Result<String> {
    let profiles = manifest.get("profile").and_then(Value::as_table);
    let mut settings = Table::new();
    let mut name = PROFILE.to_owned();
    // dev, release and a few of our own: a longer chain can only be a circle.
    for _ in 0..8 {
        let Some(profile) = profiles.and_then(|all| all.get(&name)?.as_table()) else {
            break;
        };
        for (key, value) in profile {
            if key != "inherits" {
                settings.entry(key).or_insert_with(|| value.clone());
            }
        }
        match profile.get("inherits").and_then(Value::as_str) {
            Some(parent) => parent.clone_into(&mut name),
            None => break,
        }
    }
    if settings.is_empty() {
        bail!(
            "Cargo.toml has no [profile.{PROFILE}]: put it back, the BPF object is built with it"
        );
    }
    let mut lines: Vec<String> = settings
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// The edition that the crates inherit.
fn edition(manifest: &Table) -> anyhow::Result<String> {
    manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("edition")?.as_str())
        .map(str::to_owned)
        .context("Cargo.toml has no workspace.package.edition: put it back, the crates inherit it")
}

/// Name and version of the crates from elsewhere, one a line.
fn locked(lock: &Table) -> anyhow::Result<String> {
    let mut lines: Vec<String> = lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let name = package.get("name")?.as_str()?;
            let version = package.get("version")?.as_str()?;
            name.starts_with(LOCKED_PREFIX)
                .then(|| format!("{name} {version}"))
        })
        .collect();
    if lines.is_empty() {
        bail!("Cargo.lock names no {LOCKED_PREFIX}: run `cargo update --workspace` and try again");
    }
    lines.sort();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with just the files that the hash reads.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.write("walker-common/Cargo.toml", "[package]\n");
            tree.write(
                "walker-common/src/lib.rs",
                "pub mod wire;\npub const A: u8 = 1;\n",
            );
            tree.write("walker-common/src/wire.rs", "");
            tree.write("walker-ebpf/Cargo.toml", "[package]\n");
            tree.write("walker-ebpf/src/main.rs", "fn main() {}\n");
            tree.write(
                "Cargo.toml",
                "[workspace.package]\nedition = \"2024\"\n[profile.release]\ndebug = 1\nlto = \
                 \"thin\"\n[profile.bpf]\ninherits = \"release\"\nlto = \"fat\"\n",
            );
            tree.write(
                "Cargo.lock",
                "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n[[package]]\nname = \
                 \"clap\"\nversion = \"4.6.0\"\n",
            );
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn replace(&self, path: &str, from: &str, to: &str) {
            let text = fs::read_to_string(self.0.path().join(path)).unwrap();
            assert!(text.contains(from), "{path} has no {from:?}");
            self.write(path, &text.replace(from, to));
        }

        fn hash(&self) -> String {
            hash(&Workspace::at(self.0.path())).unwrap()
        }
    }

    #[test]
    fn the_place_of_the_tree_does_not_matter() {
        assert_eq!(Tree::new().hash(), Tree::new().hash());
    }

    #[test]
    fn each_thing_the_object_is_built_from_matters() {
        let before = Tree::new().hash();
        for (path, from, to) in [
            ("walker-common/src/lib.rs", "= 1", "= 2"),
            ("walker-common/Cargo.toml", "package", "package]\n[features"),
            ("walker-ebpf/src/main.rs", "{}", "{ }"),
            ("Cargo.toml", "fat", "off"),
            ("Cargo.toml", "debug = 1", "debug = 2"),
            ("Cargo.toml", "2024", "2021"),
            ("Cargo.lock", "0.2.1", "0.2.2"),
        ] {
            let tree = Tree::new();
            tree.replace(path, from, to);
            assert_ne!(tree.hash(), before, "{path}: {from} -> {to}");
        }
    }

    #[test]
    fn a_new_file_or_a_new_name_matters() {
        let before = Tree::new().hash();
        let tree = Tree::new();
        tree.write("walker-ebpf/src/deep/er.rs", "");
        assert_ne!(tree.hash(), before);
        let tree = Tree::new();
        fs::rename(
            tree.0.path().join("walker-common/src/wire.rs"),
            tree.0.path().join("walker-common/src/wired.rs"),
        )
        .unwrap();
        assert_ne!(tree.hash(), before);
    }

    #[test]
    fn what_the_object_is_not_built_from_does_not_matter() {
        let before = Tree::new().hash();
        let tree = Tree::new();
        tree.replace("Cargo.lock", "4.6.0", "4.7.0");
        // Overridden in the BPF profile.
        tree.replace("Cargo.toml", "thin", "off");
        tree.write("walker-ebpf/src/.main.rs.swp", "x");
        tree.write("walker-user/src/lib.rs", "x");
        assert_eq!(tree.hash(), before);
    }

    #[test]
    fn crlf_does_not_matter() {
        let tree = Tree::new();
        let before = tree.hash();
        tree.replace("walker-common/src/lib.rs", "\n", "\r\n");
        tree.replace("walker-ebpf/Cargo.toml", "\n", "\r\n");
        assert_eq!(tree.hash(), before);
    }
}
