//! Starting other programs: with their output passed through, or read by xtask.
//!
//! What the output means is none of its business.

use std::{
    io::{BufRead as _, BufReader, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, bail};

/// Runs a program whose output goes where xtask's goes. An exit code other than 0 is an error.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<()> {
    let name = shown(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

/// Runs a program, copies its standard output to `out` and shows each line of it to `line`. Its
/// standard error goes where xtask's goes.
pub(crate) fn stream_lines(
    command: &mut Command,
    out: &mut dyn Write,
    mut line: impl FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| not_started(command))?;
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        let mut bytes = Vec::new();
        // A test may print anything, so lines are bytes until they are parsed.
        while stdout
            .read_until(b'\n', &mut bytes)
            .with_context(|| format!("cannot read the output of `{name}`"))?
            > 0
        {
            out.write_all(&bytes)
                .and_then(|()| out.flush())
                .with_context(|| format!("cannot pass on the output of `{name}`"))?;
            line(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
        }
    }
    child
        .wait()
        .with_context(|| format!("cannot wait for `{name}`"))
}

/// Runs a program and returns its standard output. An exit code other than 0 is an error that
/// quotes its standard error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| not_started(command))?;
    if !output.status.success() {
        bail!(
            "`{name}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it: without the folder of the program.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut text = name.to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Why a command did not even start: here the folder matters.
fn not_started(command: &Command) -> String {
    format!(
        "cannot start {}",
        Path::new(command.get_program()).display()
    )
}
