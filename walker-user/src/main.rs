//! The command `stackwalk`.

use std::process::ExitCode;

fn main() -> ExitCode {
    walker_user::cli::main()
}
