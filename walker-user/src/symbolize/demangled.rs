//! Names as their authors wrote them.
//!
//! Only what begins with the prefix of a mangling is one: `f` is a C function, and not C++'s type
//! `float`, as a demangler that takes whatever it can would have it. D's names (`_D`) stay as they
//! are.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// The longest mangled name that is looked at, in bytes: the time that it takes grows faster than it.
const MAX_MANGLED: usize = 16 << 10;
/// How deep a name may nest types.
const MAX_DEPTH: u32 = 128;

/// The prefixes of Itanium's mangling (C++, and Rust before 2025), with what Mach-O and LTO put
/// before.
const ITANIUM: [&str; 3] = ["_Z", "__Z", "___Z"];

/// A name in the form of its language; itself if it is not mangled, or wrongly.
pub(super) fn demangled(name: &str) -> String {
    if name.len() > MAX_MANGLED {
        return name.to_owned();
    }
    let is_itanium = ITANIUM.iter().any(|prefix| name.starts_with(prefix));
    if (is_itanium || name.starts_with("_R"))
        && let Ok(rust) = rustc_demangle::try_demangle(name)
    {
        // Without the hash.
        return format!("{rust:#}");
    }
    let options = ParseOptions::default().recursion_limit(MAX_DEPTH);
    is_itanium
        .then(|| Symbol::new_with_options(name, &options).ok())
        .flatten()
        .and_then(|symbol| {
            let options = DemangleOptions::default().recursion_limit(MAX_DEPTH);
            symbol.demangle_with_options(&options).ok()
        })
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn only_mangled_names_are_changed() {
        for name in [
            "f", "i", "d", "v", "x", "St", "Pf", "PKc", "w", "main", "_init", "_Dmain", "__do",
            "_R", "_Z", "", "Ss", "_ZN", "_Reset",
        ] {
            assert_eq!(demangled(name), name);
        }
    }

    #[test]
    fn every_mangling_is_known() {
        for (mangled, name) in [
            ("_ZNK1n3BoxIlE3getEi", "n::Box<long>::get(int) const"),
            ("_Z4workv.cold", "work() [clone .cold]"),
            ("_ZN4shop4Till3add17h0123456789abcdefE", "shop::Till::add"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_RNvC6_123foo3bar.llvm.1234", "123foo::bar"),
        ] {
            assert_eq!(demangled(mangled), name);
        }
    }

    #[test]
    fn names_without_end_take_no_time() {
        let nested = format!("_Z1f{}v", "P".repeat(10_000));
        assert_eq!(demangled(&nested), nested);
        let long = format!("_Z{}", "1a".repeat(1 << 20));
        assert_eq!(demangled(&long), long);
    }
}
