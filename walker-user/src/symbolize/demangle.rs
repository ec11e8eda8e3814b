//! Names as their authors wrote them: what compilers of C++ and Rust made of a name is undone, and
//! every other name stays as it is.
//!
//! A demangler believes what it is given. To that of C++ a name without a prefix is a *type*: it
//! calls the C function `f` "float". So only what begins as a mangled name is handed to one. Names
//! of D (`_D…`) and of other languages stay mangled: there is no well-kept library for them.

use std::fmt;

use cpp_demangle::{DemangleOptions, Symbol};

use super::{MAX_NAME, bounded};

/// The longest mangled name that is looked at, in bytes: the time that it takes may grow faster.
const MAX_MANGLED: usize = 64 << 10;
/// How mangled names of C++ begin: the Itanium ABI's prefix, with the underscores that some
/// platforms put before it, and the constructors that GCC makes for a file.
const CPP: [&str; 4] = ["_Z", "__Z", "___Z", "_GLOBAL_"];
/// How mangled names of Rust begin: as those of C++ in the legacy form, or with a prefix of their own.
const RUST: [&str; 4] = ["_Z", "__Z", "_R", "__R"];

/// The name of a function of user space, from a symbol table or debug info; at most [`MAX_NAME`] bytes.
pub(super) fn user(name: &str) -> String {
    let readable = (name.len() <= MAX_MANGLED)
        .then(|| rust(name, &RUST).or_else(|| cpp(name)))
        .flatten();
    readable.unwrap_or_else(|| bounded(name.to_owned()))
}

/// The name of a function of the kernel, which has no C++ and only the current form of Rust's names.
pub(super) fn kernel(name: &str) -> String {
    let readable = rust(name, &["_R"]);
    readable.unwrap_or_else(|| bounded(name.to_owned()))
}

fn rust(name: &str, prefixes: &[&str]) -> Option<String> {
    if !begins(name, prefixes) {
        return None;
    }
    let readable = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    // A name that does not fit is shown as far as it does.
    let _ = fmt::write(&mut text, format_args!("{readable:#}"));
    text.shown()
}

fn cpp(name: &str) -> Option<String> {
    if !begins(name, &CPP) {
        return None;
    }
    let symbol = Symbol::new(name).ok()?;
    let mut text = Bounded::default();
    match symbol.structured_demangle(&mut text, &DemangleOptions::default()) {
        Ok(()) => text.shown(),
        // Either it is full, or the name makes no sense.
        Err(_) => text.full.then(|| text.shown()).flatten(),
    }
}

fn begins(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Text that refuses more than can be shown: a short mangled name can stand for one of any length.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    fn shown(&self) -> Option<String> {
        (!self.text.is_empty()).then(|| bounded(self.text.clone()))
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.full {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        self.full = self.text.len() > MAX_NAME;
        match self.full {
            true => Err(fmt::Error),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_NAME, kernel, user};

    #[test]
    fn a_name_without_a_prefix_is_no_type() {
        for name in [
            "f",
            "i",
            "w",
            "v",
            "PKc",
            "St",
            "Sa",
            "Dn",
            "N1aE",
            "T_",
            "ZN3foo3barE",
            "RNvC1a1b",
            "_f",
            "__f",
            "_D4main3fooFZv",
            "f.cold",
            "i.part.0",
            "_Reset",
            "__Ready",
            "runtime.goexit",
            "main.(*T).f",
            "",
        ] {
            assert_eq!(user(name), name);
            assert_eq!(kernel(name), name);
        }
    }

    #[test]
    fn mangled_names_are_undone() {
        for (mangled, name) in [
            ("_Z1fi", "f(int)"),
            ("_ZNK1n3BoxIlE3getEi", "n::Box<long>::get(int) const"),
            ("_Z1fi.cold", "f(int) [clone .cold]"),
            ("_Z1fi.isra.0", "f(int) [clone .isra.0]"),
            ("_ZN1r4Till3add17h0123456789abcdefE", "r::Till::add"),
            (
                "_ZN1r4Till3add17h0123456789abcdefE.llvm.123",
                "r::Till::add",
            ),
            ("_RNvC1a4main", "a::main"),
        ] {
            assert_eq!(user(mangled), name);
        }
        assert_eq!(kernel("_RNvC1a4main"), "a::main");
        assert_eq!(kernel("_Z1fi"), "_Z1fi");
    }

    #[test]
    fn a_short_name_for_a_huge_one_is_cut() {
        // Each substitution stands for twice what the one before stands for.
        let mut name = "_Z1fSt4pairIiiE".to_owned();
        for index in 0..20 {
            let seen = std::char::from_digit(index % 10, 36)
                .unwrap()
                .to_ascii_uppercase();
            name.push_str(&format!("St4pairIS{seen}_S{seen}_E"));
        }
        assert!(user(&name).len() <= MAX_NAME);
        assert!(user(&"_Z".repeat(MAX_NAME)).len() <= MAX_NAME);
    }

    proptest! {
        #[test]
        fn nothing_is_too_long_or_a_panic(name in "(_Z|_R|_GLOBAL_|)[A-Za-z0-9_.$]{0,80}") {
            prop_assert!(user(&name).len() <= MAX_NAME);
            prop_assert!(kernel(&name).len() <= MAX_NAME);
        }
    }
}
