//! Names by which the same function is found in another build.
//!
//! Compilers clone functions and split them, and say so behind the name: `.isra.0`, `.constprop.0`,
//! `.part.0` and `.cold` (gcc), `.llvm.1234` (clang's ThinLTO); Rust's legacy mangling ends with a hash,
//! which is demangled away before. Only matching uses these names; what is shown is the name as it is.

use std::borrow::Cow;

/// What clones have behind their name, each with or without a number behind it.
const CLONES: [&str; 9] = [
    ".isra",
    ".constprop",
    ".part",
    ".cold",
    ".llvm",
    ".lto_priv",
    ".ipa_ra",
    ".localalias",
    ".cfi",
];

/// The name of a function without what tells its clones apart.
#[must_use]
pub fn of_function(name: &str) -> &str {
    let mut name = name;
    while let Some((rest, number)) = name.rsplit_once('.') {
        let dotted = match number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() {
            true => rest,
            false => name,
        };
        match CLONES.iter().find_map(|clone| dotted.strip_suffix(clone)) {
            Some(original) if !original.is_empty() => name = original,
            _ => break,
        }
    }
    name
}

/// The name of a process without the numbers that workers of the kernel and of pools have:
/// `kworker/0:1-events` is `kworker/#:#-events`.
#[must_use]
pub fn of_process(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte.is_ascii_digit()) {
        return Cow::Borrowed(name);
    }
    let mut plain = String::with_capacity(name.len());
    for part in name.split_inclusive(|char: char| !char.is_ascii_digit()) {
        let text = part.trim_start_matches(|char: char| char.is_ascii_digit());
        if text.len() < part.len() {
            plain.push('#');
        }
        plain.push_str(text);
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_have_the_name_of_their_original() {
        for (name, original) in [
            ("vfs_read", "vfs_read"),
            ("ext4_map_blocks.isra.0", "ext4_map_blocks"),
            ("kfree.part.0.constprop.12", "kfree"),
            ("do_exit.cold", "do_exit"),
            ("mutex_lock.llvm.1234567890", "mutex_lock"),
            ("f.isra.0.cold", "f"),
            // Neither names of sources nor whole names are taken for what is behind one.
            (".cold", ".cold"),
            ("a.b", "a.b"),
            ("crc32.7", "crc32.7"),
            ("x.isolated", "x.isolated"),
            ("std::vec<a.part>::f", "std::vec<a.part>::f"),
            ("", ""),
        ] {
            assert_eq!(of_function(name), original);
        }
    }

    #[test]
    fn workers_are_the_same_process() {
        assert_eq!(of_process("kworker/0:1-events"), "kworker/#:#-events");
        assert_eq!(of_process("kworker/u8:12"), "kworker/u#:#");
        assert_eq!(of_process("ksoftirqd/1"), "ksoftirqd/#");
        assert_eq!(of_process("nginx"), "nginx");
        assert_eq!(of_process("é7é"), "é#é");
    }
}
