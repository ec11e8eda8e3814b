//! `cargo xtask guest-ci`: the gate on a real kernel, from start to end. A guest is started twice with
//! the same workload and other parameters of its kernel, and the two sets are compared.

use std::{
    ffi::OsString,
    fs, io,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;

use super::{
    Guest,
    binaries::Binaries,
    kernel::{Choice, Kernel},
};
use crate::workspace::Workspace;

/// Lines around a set in a guest's output.
const BEGIN: &str = "stackwalk-set: begin";
const END: &str = "stackwalk-set: end";
/// What is run if nothing is said: files are written, whose pages the kernel has to find and clear.
const WORKLOAD: &str = "for i in 1 2 3 4 5 6 7 8; do \
    dd if=/dev/zero of=/tmp/file bs=64k count=1024 2>/dev/null && rm /tmp/file; done";

/// Arguments of `cargo xtask guest-ci`.
#[derive(Debug, Args)]
pub(crate) struct GuestCiArgs {
    /// The kernel, as of `cargo xtask guest`
    #[arg(long, default_value = "6.12")]
    kernel: Choice,
    /// Parameters of the kernel of the first guest
    #[arg(long, value_name = "PARAMETERS", default_value = "init_on_alloc=0")]
    before: String,
    /// Parameters of the kernel of the second guest
    #[arg(long, value_name = "PARAMETERS", default_value = "init_on_alloc=1")]
    after: String,
    /// Runs in each guest
    #[arg(long, default_value_t = 10)]
    runs: u32,
    /// Give a guest up after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    timeout: u64,
    /// Where the sets and the verdict's files go
    #[arg(long, value_name = "FOLDER", default_value = "target/guest/ci")]
    output: PathBuf,
    /// The workload, for the guest's shell
    #[arg(last = true, value_name = "COMMAND")]
    workload: Vec<OsString>,
}

/// Runs both guests. The exit status is that of `stackwalk ci compare`: 1 if the second is slower.
pub(crate) fn run(workspace: &Workspace, args: &GuestCiArgs) -> anyhow::Result<ExitCode> {
    let kernel = Kernel::get(&args.kernel, &workspace.guest())?;
    let binaries = Binaries::build(workspace)?;
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    let guest = Guest {
        workspace,
        kernel: &kernel,
        binaries: Some(&binaries),
    };
    let mut paths = Vec::new();
    for (name, parameters) in [("before", &args.before), ("after", &args.after)] {
        eprintln!("{name}: {}, {parameters}", args.kernel);
        let set = record(&guest, args, parameters)?;
        let path = args.output.join(format!("{name}.swkset"));
        fs::write(&path, set).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    let mut compare = Command::new(&binaries.stackwalk);
    // The command line is what is different.
    compare
        .args(["ci", "compare", "--allow-env-change", "--force"])
        .args(&paths);
    for name in [
        "verdict.html",
        "verdict.json",
        "junit.xml",
        "summary.md",
        "verdict.sarif",
    ] {
        compare.arg("-o").arg(args.output.join(name));
    }
    let status = compare.status().context("cannot start stackwalk")?;
    let code = status.code().context("stackwalk was killed")?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(2)))
}

/// Records a set in a guest.
fn record(guest: &Guest<'_>, args: &GuestCiArgs, parameters: &str) -> anyhow::Result<Vec<u8>> {
    let words: Vec<String> = { args.workload.iter() }
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let workload = match words.is_empty() {
        true => WORKLOAD.to_owned(),
        false => words.join(" "),
    };
    let script = format!(
        "stackwalk ci record -o /tmp/set.swkset --runs {} --name guest -- sh -c '{}' && \
         echo '{BEGIN}' && base64 /tmp/set.swkset && echo '{END}'",
        args.runs,
        workload.replace('\'', "'\\''")
    );
    let command = ["sh", "-c", &script].map(OsString::from);
    let mut set = Set::default();
    let status = guest.run(
        &command,
        |machine| {
            machine.timeout = Duration::from_secs(args.timeout);
            parameters.clone_into(&mut machine.parameters);
            // One is emulated after the other: a second one would only take turns with the first.
            machine.cpus = 1;
        },
        &mut io::sink(),
        |line| set.line(line),
    )?;
    ensure!(
        status == 0,
        "the guest's command failed with status {status}"
    );
    set.decode()
}

/// A set in the lines of a guest.
#[derive(Debug, Default)]
struct Set {
    inside: bool,
    ended: bool,
    text: String,
}

impl Set {
    fn line(&mut self, line: &str) {
        match line.trim() {
            BEGIN => self.inside = true,
            END => (self.inside, self.ended) = (false, true),
            text if self.inside => self.text.push_str(text),
            text => eprintln!("  {text}"),
        }
    }

    fn decode(&self) -> anyhow::Result<Vec<u8>> {
        if !self.ended {
            bail!("the guest did not send its set");
        }
        BASE64_STANDARD
            .decode(&self.text)
            .map_err(|error| anyhow!("what the guest sent is no set: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_found_among_other_lines() {
        let mut set = Set::default();
        for line in ["run 1/1", BEGIN, "c3Rh", "Y2t3YWxr", END, "more"] {
            set.line(line);
        }
        assert_eq!(set.decode().unwrap(), b"stackwalk");
    }

    #[test]
    fn a_set_that_was_cut_off_is_an_error() {
        let mut set = Set::default();
        for line in [BEGIN, "c3Rh"] {
            set.line(line);
        }
        assert!(
            set.decode()
                .unwrap_err()
                .to_string()
                .contains("did not send")
        );
    }
}
