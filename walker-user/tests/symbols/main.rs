//! Symbols of real files, made by the compilers and tools of this machine, read by the real worker
//! process. Needs gcc (also for 32 bits), g++, lld, rustc, binutils, dwz and xz, and no privilege.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

mod build;
mod debug_info;
mod hostile;
mod languages;
mod parts;
mod shown;
mod stubs;

use std::{fs::File, path::Path, sync::Arc};

use walker_user::symbolize::{
    CodeSymbol, Object,
    service::{Config, Service},
};

/// As the program does it, with the program that was built for this test.
fn config() -> Config {
    Config {
        program: env!("CARGO_BIN_EXE_stackwalk").into(),
        debug_dirs: Vec::new(),
        ..Config::default()
    }
}

fn object(path: &Path) -> Arc<Object> {
    Arc::new(Object {
        file: File::open(path).unwrap(),
        path: path.to_owned(),
        root: None,
    })
}

fn ask(config: Config, path: &Path, addresses: &[u64]) -> Vec<CodeSymbol> {
    let service = Service::start(config).unwrap();
    let answers = service.ask(&object(path), addresses.to_vec()).wait();
    assert_eq!(answers.len(), addresses.len());
    answers
}

/// `name file:line` of each function at one address, `+` before inlined ones.
fn shown(symbol: &CodeSymbol) -> Vec<String> {
    let functions = symbol.functions.iter();
    functions
        .map(|function| {
            let sign = if function.inlined { "+" } else { "" };
            let file = function.file.as_deref().map(|file| {
                let name = Path::new(file).file_name().unwrap();
                format!(" {}", name.to_string_lossy())
            });
            let line = function.line.map(|line| format!(":{line}"));
            format!(
                "{sign}{}{}{}",
                function.name,
                file.unwrap_or_default(),
                line.unwrap_or_default()
            )
        })
        .collect()
}
