//! Names by which the same code is found in another build.
//!
//! Compilers clone functions and split them, and say so behind the name: `.isra.0`, `.constprop.0`,
//! `.part.0`, `.cold`, `.lto_priv.0` (gcc), `.llvm.1234`, `.__uniq.1234` (clang), which demanglers
//! show as ` [clone .isra.0]`; Rust's legacy mangling ends with a hash, which is demangled away
//! before. Build systems put a hash behind the names of files, as cargo does: `bench-1a2b3c4d`.
//! Only matching uses these names; reports of one recording show the names as they are.

use std::borrow::Cow;

/// What clones have behind their name, each with or without a number behind it.
const CLONES: [&str; 13] = [
    ".isra",
    ".constprop",
    ".part",
    ".cold",
    ".warm",
    ".llvm",
    ".__uniq",
    ".__part",
    ".lto_priv",
    ".ipa_ra",
    ".localalias",
    ".specialized",
    ".cfi",
];
/// What demanglers write around such a part: `f(int) [clone .isra.0]`.
const DEMANGLED: &str = " [clone ";

/// The name of a function without what tells its clones apart.
#[must_use]
pub fn of_function(name: &str) -> Cow<'_, str> {
    let mut name = without_clones(name, 1);
    let mut other = String::new();
    // Outermost last. What is no clone, such as the body of an OpenMP region, stays.
    while let Some((rest, suffix)) = name.rsplit_once(DEMANGLED)
        && let Some(suffix) = suffix.strip_suffix(']')
        && suffix.starts_with('.')
    {
        match without_clones(suffix, 0) {
            "" => {}
            kept => other.insert_str(0, &format!("{DEMANGLED}{kept}]")),
        }
        name = rest;
    }
    match other.is_empty() {
        true => Cow::Borrowed(name),
        false => Cow::Owned(format!("{name}{other}")),
    }
}

/// A symbol without the suffixes of clones, of which at least so many bytes are left.
fn without_clones(symbol: &str, least: usize) -> &str {
    let mut rest = symbol;
    while let Some((before, number)) = rest.rsplit_once('.') {
        let dotted = match number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() {
            true => before,
            false => rest,
        };
        match CLONES.iter().find_map(|clone| dotted.strip_suffix(clone)) {
            Some(original) if original.len() >= least => rest = original,
            _ => break,
        }
    }
    rest
}

/// The name of an object file or program without the hash or version of its build:
/// `bench-1a2b3c4d` is `bench-#`, `libfoo-2.36.so` is `libfoo-#.#.so`.
#[must_use]
pub fn of_file(name: &str) -> Cow<'_, str> {
    let (stem, rest) = match name.find(".so") {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    match stem.rsplit_once('-') {
        Some((before, hash)) if !before.is_empty() && is_hash(hash) => {
            Cow::Owned(format!("{before}-#{}", without_numbers(rest)))
        }
        _ => without_numbers(name),
    }
}

/// Whether this is a part of a hash in hexadecimal: a word is not.
fn is_hash(text: &str) -> bool {
    text.len() >= 4
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// The name of a process without the hash of its build and the numbers that workers of the kernel
/// and of pools have: `kworker/0:1-events` is `kworker/#:#-events`.
#[must_use]
pub fn of_process(name: &str) -> Cow<'_, str> {
    of_file(name)
}

/// A text with `#` for every number.
fn without_numbers(name: &str) -> Cow<'_, str> {
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
            ("f.__uniq.123456789.llvm.77", "f"),
            ("f(int) [clone .constprop.0]", "f(int)"),
            ("f(int) [clone .__uniq.12.llvm.7]", "f(int)"),
            ("f(int) [clone .isra.0] [clone .cold]", "f(int)"),
            // The body of a loop is another function than the one that it is in.
            ("f(int) [clone ._omp_fn.0]", "f(int) [clone ._omp_fn.0]"),
            (
                "f(int) [clone ._omp_fn.1.isra.0]",
                "f(int) [clone ._omp_fn.1]",
            ),
            (
                "f(int) [clone ._omp_fn.1] [clone .cold]",
                "f(int) [clone ._omp_fn.1]",
            ),
            ("f(int) [clone x]", "f(int) [clone x]"),
            (" [clone .cold]", ""),
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
    fn files_of_other_builds_have_the_same_name() {
        for (name, plain) in [
            ("bench-1a2b", "bench-#"),
            ("bench-0123456789abcdef", "bench-#"),
            ("my-app", "my-app"),
            ("my-face", "my-face"),
            ("libstd-1a2b3c4d.so", "libstd-#.so"),
            ("libc-2.36.so", "libc-#.#.so"),
            ("libc.so.6", "libc.so.#"),
            ("prog", "prog"),
            ("-1a2b", "-#a#b"),
            ("", ""),
        ] {
            assert_eq!(of_file(name), plain);
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
