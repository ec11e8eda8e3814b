//! Writes the manual pages and shell completions of `stackwalk` into a folder;
//! `cargo xtask dist` runs it. It is no part of the program, so that the program does not carry what
//! only packaging needs.

mod pages;

use std::{env, io, path::Path};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1) else {
        return Err(io::Error::other("usage: manual FOLDER"));
    };
    pages::write_all(Path::new(&folder))
}
