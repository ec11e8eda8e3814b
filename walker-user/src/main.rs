//! The command `stackwalk`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use walker_user::{cli, symbolize::worker};

/// glibc's allocator keeps what was freed for the thread that freed it: after some minutes of `live`
/// the process held twice what it used. One pool for all threads is no way out, as the thread that takes
/// samples then waits for others, nor is to give memory back by hand, for which all wait.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    worker::main_if_asked().unwrap_or_else(cli::main)
}
