//! The command `stackwalk`.

use std::process::ExitCode;

use walker_user::{cli, symbolize::worker};

fn main() -> ExitCode {
    worker::main_if_asked().unwrap_or_else(cli::main)
}
