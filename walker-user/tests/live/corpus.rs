//! The corpus: small programs that say which calls lead to the functions they spend their time in,
//! and the check of their recorded stacks against that.
//!
//! How they are built is in here too, because the compiler's options (no frame pointers, static,
//! position independent, …) are part of what is tested.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::Place;

/// The folder of the sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

/// The options with which C and C++ are built, besides what a test adds: what distributions use,
/// and nothing that would make a stack easier to walk.
const OPTIONS: [&str; 5] = [
    "-fomit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-Wall",
    "-Werror",
    "-pthread",
];

/// A source file of the corpus.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

/// Whether a compiler or interpreter is there.
pub(crate) fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok()
}

/// Builds a C or C++ source with `compiler`, and returns where the program is.
pub(crate) fn compile(place: &Place, compiler: &str, name: &str, options: &[&str]) -> PathBuf {
    let out = place.path(name.split('.').next().unwrap());
    let mut command = Command::new(compiler);
    command.args(OPTIONS).args(options).arg("-o").arg(&out);
    run(command.arg(source(name)));
    out
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The calls that a source says it makes: alternatives, root first.
pub(crate) struct Chains(Vec<Vec<String>>);

impl Chains {
    /// Reads them from the lines with `chain:` at the head of a source.
    pub(crate) fn of(name: &str) -> Self {
        let text = fs::read_to_string(source(name)).unwrap();
        let chains: Vec<Vec<String>> = text
            .lines()
            .filter_map(|line| line.split_once("chain: "))
            .map(|(_, chain)| expand(chain))
            .collect();
        assert!(!chains.is_empty(), "{name} does not say its calls");
        Self(chains)
    }

    /// Chains as the heads of sources have them.
    pub(crate) fn new(chains: &[&str]) -> Self {
        Self(chains.iter().map(|chain| expand(chain)).collect())
    }

    /// The functions that are the program's own.
    fn own(&self) -> BTreeSet<&str> {
        let all = self.0.iter().flatten().map(String::as_str);
        all.filter(|function| *function != "*").collect()
    }
}

/// `f +3` stands for `f f f`.
fn expand(chain: &str) -> Vec<String> {
    let mut calls: Vec<String> = Vec::new();
    for word in chain.split_whitespace() {
        match word.strip_prefix('+').map(str::parse::<usize>) {
            Some(times) => {
                let function = calls.last().unwrap().clone();
                calls.extend(std::iter::repeat_n(function, times.unwrap() - 1));
            }
            None => calls.push(word.to_owned()),
        }
    }
    calls
}

/// One distinct stack of a recording in text form.
#[derive(Debug, Clone)]
pub(crate) struct TextStack {
    pub(crate) comm: String,
    pub(crate) samples: u64,
    pub(crate) complete: bool,
    pub(crate) stop: String,
    /// Names of the user frames, root first.
    pub(crate) user: Vec<String>,
}

/// Reads the stacks of a `.txt` file.
pub(crate) fn read(path: &Path) -> Vec<TextStack> {
    let text = fs::read_to_string(path).unwrap();
    let mut stacks = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if lines.peek() != Some(&"Call Trace:") {
            continue;
        }
        let (head, verdict) = line.rsplit_once("  (").unwrap();
        let (verdict, stop) = verdict.trim_end_matches(')').split_once(": ").unwrap();
        let fields: Vec<&str> = head.split("  ").collect();
        let samples = fields[fields.len() - 2].trim_end_matches(" samples");
        let mut stack = TextStack {
            comm: fields[0].to_owned(),
            samples: samples.parse().unwrap(),
            complete: verdict == "complete",
            stop: stop.to_owned(),
            user: Vec::new(),
        };
        let mut in_user = false;
        for line in lines.by_ref().skip(1).take_while(|line| !line.is_empty()) {
            match line.strip_prefix("  ") {
                None => in_user = line == " <USER>",
                Some(frame) if in_user => {
                    let name = frame.trim_start_matches("? ").split("+0x").next().unwrap();
                    stack.user.push(name.to_owned());
                }
                Some(_) => {}
            }
        }
        stack.user.reverse();
        stacks.push(stack);
    }
    stacks
}

/// How the stacks of a program compare with what it says of itself, in samples.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The true chain, or a part of it from its beginning on, walked to the end.
    pub(crate) right: u64,
    /// Before or after the program's own functions ran.
    pub(crate) outside: u64,
    /// Ended early for want of bytes, or of another stack, and says so.
    pub(crate) short: u64,
    /// Ended early for another reason, and says so.
    pub(crate) broken: u64,
    /// Anything else.
    pub(crate) wrong: u64,
    /// Some of the short, broken and wrong ones.
    pub(crate) shown: Vec<TextStack>,
}

impl Verdict {
    /// Judges the stacks of the program called `comm`. `name_of` makes a frame's name comparable
    /// with the names in the chains.
    pub(crate) fn of(
        stacks: &[TextStack],
        comm: &str,
        chains: &Chains,
        name_of: fn(&str) -> &str,
    ) -> Self {
        let own = chains.own();
        let mut verdict = Self::default();
        for stack in stacks.iter().filter(|stack| stack.comm == comm) {
            let names: Vec<&str> = stack.user.iter().map(|name| name_of(name)).collect();
            let in_own = names.iter().any(|name| own.contains(name));
            let matches = chains.0.iter().any(|chain| is_chain(&names, chain, &own));
            // A process that ends has no stack in the end, and where Go switches stacks the rest
            // is on another one.
            let want = ["truncated", "missing-bytes", "stack-switch"];
            let place = if want.contains(&&*stack.stop) {
                &mut verdict.short
            } else if ["unreadable-stack", "program-replaced"].contains(&&*stack.stop) {
                // The program has ended and its memory is being cleared away, or its file is about
                // to be executed.
                &mut verdict.outside
            } else if !stack.complete {
                &mut verdict.broken
            } else if !in_own {
                &mut verdict.outside
            } else if matches {
                &mut verdict.right
            } else {
                &mut verdict.wrong
            };
            *place += stack.samples;
            if (!stack.complete || in_own && !matches) && verdict.shown.len() < 5 {
                verdict.shown.push(stack.clone());
            }
        }
        verdict
    }

    /// No stack is wrong, and nine of ten are whole: what 32-bit libraries have in assembly often
    /// has no unwind information, and the walk ends there.
    pub(crate) fn assert_none_wrong(&self, name: &str) {
        let all = self.right + self.outside + self.short + self.broken + self.wrong;
        println!("{name}, 32 bits: {self}");
        assert_eq!(self.wrong, 0, "{name}: {self:#?}");
        assert!(self.right > 100, "{name}: too few samples: {self:#?}");
        let short = self.short + self.broken + self.outside;
        assert!(short * 10 <= all, "{name}: {self:#?}");
    }

    /// No stack is wrong, and hardly any is short or outside of the program's own functions.
    pub(crate) fn assert_right(&self, name: &str) {
        let all = self.right + self.outside + self.short + self.broken + self.wrong;
        println!("{name}: {self}");
        assert_eq!(self.wrong, 0, "{name}: {self:#?}");
        assert!(self.right > 100, "{name}: too few samples: {self:#?}");
        // A walk that ran out of bytes makes the budget grow, which takes a few samples.
        assert!(self.short * 50 <= all, "{name}: {self:#?}");
        assert!(self.broken * 1000 <= all, "{name}: {self:#?}");
        assert!(self.outside * 20 <= all, "{name}: {self:#?}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            right,
            outside,
            short,
            broken,
            wrong,
            ..
        } = self;
        write!(
            f,
            "{right} right, {outside} outside, {short} truncated, {broken} broken, {wrong} wrong"
        )
    }
}

/// Whether `names`, from the first function of `chain` on, are its calls. They may end early, or
/// leave the chain for functions that are not the program's own; `*` stands for any of those.
fn is_chain(names: &[&str], chain: &[String], own: &BTreeSet<&str>) -> bool {
    let Some(begin) = names.iter().position(|name| *name == chain[0]) else {
        return false;
    };
    let mut names = &names[begin..];
    let mut chain = chain;
    let mut skip = false;
    while let (Some(name), Some(call)) = (names.first(), chain.first()) {
        if call == "*" {
            skip = true;
            chain = &chain[1..];
        } else if name == call {
            skip = false;
            names = &names[1..];
            chain = &chain[1..];
        } else if skip && !own.contains(name) {
            names = &names[1..];
        } else {
            break;
        }
    }
    !names.iter().any(|name| own.contains(name))
}
