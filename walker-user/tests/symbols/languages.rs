//! Names as their authors wrote them.

use std::path::Path;

use crate::{
    ask,
    build::{Folder, function, run},
    config, shown,
};

#[test]
fn c() {
    let folder = Folder::new();
    // As C++'s demanglers know them these are types.
    let names = ["f", "i", "d", "v", "x", "w", "St", "PKc"];
    let functions = names.map(|name| format!("int {name}(int n) {{ return n; }}\n"));
    let source = folder.write(
        "a.c",
        &(functions.concat() + "int main(void) { return 0; }\n"),
    );
    let program = folder.path("a");
    for debug in ["-g", "-g0"] {
        run(
            "gcc",
            &[Path::new(debug), Path::new("-o"), &program, &source],
        );
        for name in names {
            let (start, _) = function(&program, |symbol| symbol == name);
            let answer = &ask(config(), &program, &[start])[0];
            assert_eq!(answer.functions[0].name, name);
        }
    }
}

#[test]
fn cpp() {
    let folder = Folder::new();
    let source = folder.write(
        "a.cc",
        "namespace n { template <class T> struct Box { T t; \
         __attribute__((noinline)) T get(int i) const { return t + i; } }; \
         template struct Box<long>; }\n\
         int main() { return n::Box<long>{1}.get(2); }\n",
    );
    let program = folder.path("a");
    for debug in ["-g", "-g0"] {
        run(
            "g++",
            &[Path::new(debug), Path::new("-o"), &program, &source],
        );
        let (start, _) = function(&program, |name| name == "_ZNK1n3BoxIlE3getEi");
        let answer = &ask(config(), &program, &[start])[0];
        assert_eq!(answer.functions[0].name, "n::Box<long>::get(int) const");
        assert_eq!(answer.functions[0].line.is_some(), debug == "-g");
    }
}

#[test]
fn rust() {
    let folder = Folder::new();
    let source = folder.write(
        "r.rs",
        "mod shop { pub struct Till(pub u64); impl Till {\n\
         #[inline(never)] pub fn add(&mut self, n: u64) { self.0 += n.leading_zeros() as u64; }\n\
         } }\n\
         fn main() { let mut t = shop::Till(1); t.add(std::env::args().count() as u64); \
         println!(\"{}\", t.0); }\n",
    );
    let program = folder.path("r");
    let arguments = ["-Copt-level=2", "-g", "-o"].map(Path::new);
    run("rustc", &[&arguments[..], &[&program, &source]].concat());
    let (start, size) = function(&program, |name| name.contains("4Till3add"));
    let addresses: Vec<u64> = (start..start + size).collect();
    let answers = ask(config(), &program, &addresses);
    let is_add = |name: &str| name.contains("r::shop::Till") && name.ends_with("::add");
    assert!(is_add(&answers[0].functions[0].name), "{:?}", answers[0]);
    let on_line_2 = |answer| shown(answer)[0].ends_with("::add r.rs:2");
    assert!(answers.iter().any(on_line_2), "{answers:?}");
}
