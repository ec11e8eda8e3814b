//! How good the gate is, and how fast.
//!
//! With a folder of sets (`GATE_POOL`), each called GROUP-NUMBER.swkset and those of group `base` alike:
//! how often it cries wolf where runs of the base are compared with others of the base, how often it
//! finds the slowdown of each other group, and whether it names a function that `GATE_RIGHT` (a
//! regular expression) matches first. Groups of ten runs are drawn at random without putting back; the
//! same runs are in many pairs, so the shares are those of these runs. Beside it stand what changes of
//! shares alone (as `perf diff` shows them) and wall times would have said.
//!
//! Always: how long it takes to compare two sets of 20 runs of 10,000 functions.

#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use regex::Regex;
use walker_user::ci::{
    compare::{Comparison, Options, Run, Status},
    load::load,
    set::{RunHead, Set, SetHead, SetWriter},
    stats::{Random, RankTest, mean},
    sums::{Scope, Space},
};

/// Runs of a side.
const RUNS: usize = 10;
/// Pairs of a group.
const PAIRS: usize = 400;

fn main() -> anyhow::Result<()> {
    speed()?;
    match std::env::var_os("GATE_POOL") {
        Some(folder) => pool(Path::new(&folder)),
        None => {
            println!("GATE_POOL names no folder of sets: only the speed was measured");
            Ok(())
        }
    }
}

/// What three ways to judge say of pairs.
#[derive(Debug, Default)]
struct Said {
    gate: usize,
    right: usize,
    shares: usize,
    wall: usize,
}

fn pool(folder: &Path) -> anyhow::Result<()> {
    let right = std::env::var("GATE_RIGHT").unwrap_or_else(|_| ".".to_owned());
    let right = Regex::new(&right).context("GATE_RIGHT")?;
    let mut space = Space::new(Scope::default());
    let mut groups: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    let mut paths: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    paths.sort_by_key(std::fs::DirEntry::path);
    for entry in paths {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some((group, _)) = name.split_once('-') else {
            continue;
        };
        let set = Set::open(File::open(entry.path())?)?;
        let loaded = load(&mut space, &set, |_| {})?;
        groups
            .entry(group.to_owned())
            .or_default()
            .extend(loaded.runs);
    }
    let base = groups
        .get("base")
        .context("there is no set base-N.swkset")?;
    ensure!(
        base.len() >= 2 * RUNS,
        "the base has {} runs; 20 are needed",
        base.len()
    );
    println!(
        "{:>8} {:>6} {:>12} {:>12} {:>12} {:>12}",
        "group", "runs", "regression", "named right", "share +1 pt", "wall p<.01"
    );
    for (name, runs) in &groups {
        let mut random = Random::new(17);
        let mut said = Said::default();
        for _ in 0..PAIRS {
            let mut before = drawn(&mut random, base);
            let after = match name == "base" {
                true => before.split_off(RUNS),
                false => drawn(&mut random, runs),
            };
            judge(&space, [&before[..RUNS], &after[..RUNS]], &right, &mut said)?;
        }
        let share = |count: usize| format!("{:.2} %", 100.0 * count as f64 / PAIRS as f64);
        println!(
            "{name:>8} {:>6} {:>12} {:>12} {:>12} {:>12}",
            runs.len(),
            share(said.gate),
            share(said.right),
            share(said.shares),
            share(said.wall)
        );
    }
    Ok(())
}

/// The runs in another order.
fn drawn(random: &mut Random, runs: &[Run]) -> Vec<Run> {
    let mut drawn = runs.to_vec();
    for index in (1..drawn.len()).rev() {
        drawn.swap(index, random.below(index + 1));
    }
    drawn
}

fn judge(space: &Space, sides: [&[Run]; 2], right: &Regex, said: &mut Said) -> anyhow::Result<()> {
    let comparison = Comparison::new(space, sides, Options::default())?;
    if comparison.has(Status::Regression) {
        said.gate += 1;
        let first = comparison.causes.first();
        let name = first.map(|cause| comparison.function(cause.function).name.as_str());
        said.right += usize::from(name.is_some_and(|name| right.is_match(name)));
    }
    // The rule of somebody who reads `perf diff`: a function's own share grew by a point.
    let share = |runs: &[Run], function: u32| {
        let own = |run: &Run| {
            run.sums
                .functions
                .get(&function)
                .map_or(0.0, |weights| weights[0])
        };
        runs.iter().map(own).sum::<f64>() / runs.iter().map(|run| run.sums.whole).sum::<f64>()
    };
    let functions = 0..space.functions().len() as u32;
    let grew = |function| share(sides[1], function) - share(sides[0], function) >= 0.01;
    said.shares += usize::from(functions.into_iter().any(grew));
    let wall = sides.map(|runs| {
        runs.iter()
            .map(|run| run.wall_ns / run.work)
            .collect::<Vec<_>>()
    });
    let p = RankTest::new([RUNS, RUNS]).p(&wall[0], &wall[1]);
    said.wall += usize::from(p < 0.01 && mean(&wall[1]) > mean(&wall[0]));
    Ok(())
}

/// Two sets of 20 runs with 10,000 functions.
fn speed() -> anyhow::Result<()> {
    let sets = [synthetic(1)?, synthetic(2)?];
    let mut best = Duration::MAX;
    let mut functions = 0;
    for _ in 0..5 {
        let began = Instant::now();
        let mut space = Space::new(Scope::default());
        let before = load(&mut space, &sets[0], |_| {})?;
        let after = load(&mut space, &sets[1], |_| {})?;
        Comparison::new(&space, [&before.runs, &after.runs], Options::default())?;
        best = best.min(began.elapsed());
        functions = space.functions().len();
    }
    println!(
        "two sets of 20 runs, {functions} functions: {:.2} s",
        best.as_secs_f64()
    );
    Ok(())
}

fn synthetic(seed: u64) -> anyhow::Result<Set> {
    let mut random = Random::new(seed);
    let mut structure = Random::new(0);
    // The callers of each function, by depth: of the first thousand, the same in all runs.
    let callers: Vec<usize> = (0..10_000 * 20)
        .map(|number| structure.below(50) + number % 20 * 50)
        .collect();
    let mut set = SetWriter::new(tempfile::tempfile()?, SetHead::default());
    for _ in 0..20 {
        let mut file = tempfile::tempfile()?;
        std::io::Write::write_all(&mut file, &recording(&mut random, &callers)?)?;
        set.add(RunHead::default(), &file)?;
    }
    let mut file = set.finish()?;
    std::io::Seek::rewind(&mut file)?;
    Ok(Set::open(file)?)
}

/// A run of about 20,000 samples, in which each of 10,000 functions is a leaf.
fn recording(random: &mut Random, callers: &[usize]) -> anyhow::Result<Vec<u8>> {
    let names: Vec<String> = (0..10_000)
        .map(|number| format!("function_{number}"))
        .collect();
    let stacks: Vec<(Vec<usize>, u32)> = (0..names.len())
        .map(|leaf| {
            let path = callers[leaf * 20..][..20].iter().copied();
            (path.chain([leaf]).collect(), 1 + random.below(3) as u32)
        })
        .collect();
    Ok(synthetic::recording(&names, &stacks)?)
}
