//! Stubs through which programs call functions of libraries, and symbols that do not say how long
//! their functions are.

use std::path::{Path, PathBuf};

use walker_user::symbolize::Reason;

use crate::{
    ask,
    build::{Folder, run},
    config, shown,
};

/// A program that calls `tiny_lib`, which is in a library.
fn program(folder: &Folder, arguments: &[&str]) -> PathBuf {
    let library = folder.write("tiny.c", "int tiny_lib(int x) { return x; }\n");
    let source = folder.write(
        "calls.c",
        "int tiny_lib(int); int main(int n, char **a) { return tiny_lib(n); }\n",
    );
    let (shared, program) = (folder.path("libtiny.so"), folder.path("calls"));
    let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
    let build = ["-shared", "-fPIC", "-o"].map(Path::new);
    let machine: Vec<&Path> = { arguments.iter().copied() }
        .filter(|argument| *argument == Path::new("-m32"))
        .collect();
    run(
        "gcc",
        &[&machine[..], &build[..], &[&shared, &library]].concat(),
    );
    let given = [
        Path::new("-O1"),
        Path::new("-o"),
        &program,
        &source,
        &shared,
    ];
    run("gcc", &[&given[..], &arguments].concat());
    program
}

/// The addresses of sections with stubs.
fn stub_addresses(program: &Path) -> Vec<u64> {
    let listing = run("readelf", &[Path::new("-SW"), program]);
    let sections = listing.lines().filter_map(|line| {
        let mut words = line.split(']').nth(1)?.split_whitespace();
        let name = words.next()?;
        let _kind = words.next()?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (address, _offset) = (number(words.next()?)?, words.next()?);
        let size = number(words.next()?)?;
        (name == ".plt" || name.starts_with(".plt.")).then_some(address..address + size)
    });
    sections.flatten().collect()
}

#[test]
fn stubs_are_named_after_what_they_call() {
    for arguments in [
        &["-fuse-ld=bfd"][..],
        &["-fuse-ld=bfd", "-fcf-protection"],
        &["-fuse-ld=bfd", "-Wl,-z,now"],
        &["-fuse-ld=bfd", "-fno-plt", "-fno-pie", "-no-pie"],
        &["-fuse-ld=lld"],
        &["-fuse-ld=lld", "-Wl,-z,ibtplt"],
        &["-fuse-ld=bfd", "-m32"],
        &["-fuse-ld=bfd", "-m32", "-fno-pie", "-no-pie"],
    ] {
        let folder = Folder::new();
        let program = program(&folder, arguments);
        let stripped = folder.path("stripped");
        run("strip", &[Path::new("-o"), &stripped, &program]);
        let addresses = stub_addresses(&program);
        for file in [&program, &stripped] {
            let answers = ask(config(), file, &addresses);
            let mut stubs = 0;
            for answer in &answers {
                if !answer.named {
                    let known = [Some(Reason::NotCovered), Some(Reason::NoSymbols)];
                    assert!(known.contains(&answer.reason), "{answer:?}");
                    continue;
                }
                let name = &answer.functions[0].name;
                assert!(name.ends_with("@plt"), "{arguments:?} {name}");
                stubs += u32::from(name == "tiny_lib@plt");
            }
            let wanted = if arguments.contains(&"-fno-plt") {
                0
            } else {
                8
            };
            assert!(stubs >= wanted, "{arguments:?}: {answers:?}");
        }
    }
}

#[test]
fn a_symbol_without_a_size_stays_in_its_section() {
    let folder = Folder::new();
    let source = folder.write(
        "sizes.s",
        ".globl main, open\n.text\nmain: ret\n.type open, @function\nopen: nop\nnop\n\
         .section .other, \"ax\", @progbits\nnop\nnop\n",
    );
    let program = folder.path("sizes");
    let start = "-Wl,--section-start=.other=0x600000";
    let arguments = ["-no-pie", "-nostdlib", start, "-Wl,-e,main", "-o"].map(Path::new);
    run("gcc", &[&arguments[..], &[&program, &source]].concat());
    let symbols = run("nm", &[&program]);
    let open = symbols
        .lines()
        .find(|line| line.ends_with(" open"))
        .unwrap();
    let open = u64::from_str_radix(open.split(' ').next().unwrap(), 16).unwrap();
    let answers = ask(config(), &program, &[open + 1, 0x600000, 0x600001]);
    assert_eq!(shown(&answers[0]), ["open"]);
    for answer in &answers[1..] {
        assert!(!answer.named, "{answer:?}");
    }
}
