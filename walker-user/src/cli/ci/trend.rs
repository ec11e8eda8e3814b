//! `stackwalk ci trend`: a folder of sets, in the order in which they were recorded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::gate_args::{GateArgs, open, shown};
use crate::{
    ci::{check, load::load, sums::Space, trend::Trend},
    cli::{
        output_file::{Destination, Readers},
        pager::PagerArgs,
        run::complain,
    },
    output::gate::trend::{self, Shown},
};

/// The extension of sets.
const EXTENSION: &str = "swkset";
/// Most sets of a series.
const MAX_SETS: usize = 1000;

#[derive(Debug, Args)]
pub(in crate::cli) struct TrendArgs {
    /// The folder of the sets (*.swkset)
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    gate: GateArgs,
    /// Write a page with a small picture of each function that changed
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Write over a file that is not stackwalk's own
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pager: PagerArgs,
}

pub(super) fn trend(args: &TrendArgs) -> anyhow::Result<ExitCode> {
    let output = match &args.output {
        Some(path) => Some(Destination::open(path, args.force, Readers::All)?),
        None => None,
    };
    let mut sets = Vec::new();
    for path in paths(&args.folder)? {
        let set = open(&path)?;
        let name = path.file_stem().unwrap_or(path.as_os_str());
        sets.push((name.to_string_lossy().into_owned(), set));
    }
    sets.sort_by(|a, b| (a.1.head.began, &a.0).cmp(&(b.1.head.began, &b.0)));
    let mut space = Space::new(args.gate.scope());
    let (mut runs, mut notes, mut unit_ns) = (Vec::new(), Vec::new(), None);
    for (number, (name, set)) in sets.iter().enumerate() {
        if let Some(before) = number.checked_sub(1) {
            let (last, before) = &sets[before];
            // Another environment is told, not refused: a series outlives machines.
            match check::heads(&before.head, &set.head, true) {
                Ok(changes) => notes.extend(changes.allowed.iter().map(|change| {
                    format!(
                        "{name}: {} is `{}`, was `{}` in {last}",
                        change.fact, change.after, change.before
                    )
                })),
                Err(reasons) => {
                    anyhow::bail!(
                        "`{name}` does not follow `{last}`: {}",
                        shown(&reasons).join("; ")
                    )
                }
            }
        }
        let loaded =
            load(&mut space, set, |_| {}).with_context(|| format!("cannot read `{name}`"))?;
        ensure!(
            !loaded.runs.is_empty() && loaded.runs.iter().all(|run| run.sums.whole > 0.0),
            "`{name}` has a run without samples, or no run"
        );
        unit_ns = loaded.unit_ns;
        runs.push(loaded.runs);
    }
    let trend = Trend::new(&space, &runs, args.gate.options());
    let all = Shown {
        trend: &trend,
        names: sets.iter().map(|(name, _)| name.as_str()).collect(),
        workload: &sets[0].1.head.workload,
        notes: &notes,
        unit_ns,
    };
    args.pager
        .show(|width, mut out| trend::write(&all, width, &mut out))?;
    if let Some(destination) = output {
        let path = destination.path().display().to_string();
        destination.write(|out| trend::write_page(&all, out))?;
        complain(&format!("wrote    {path}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The sets of a folder.
fn paths(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read `{}`", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            paths.push(path);
        }
    }
    ensure!(
        paths.len() >= 2,
        "`{}` has {} sets (*.{EXTENSION}); a trend takes at least 2: `stackwalk ci record -o \
         DIR/NAME.{EXTENSION}` makes one",
        folder.display(),
        paths.len()
    );
    ensure!(
        paths.len() <= MAX_SETS,
        "`{}` has {} sets; {MAX_SETS} are the most",
        folder.display(),
        paths.len()
    );
    Ok(paths)
}
