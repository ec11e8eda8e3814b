//! What can be left out of a recording, and stacks of which not all can be copied.

use std::fs;

use crate::{
    Test,
    corpus::Chains,
    recorded::{Recorded, build, record, text},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(without_user_stacks),
    test!(without_kernel_stacks),
    test!(a_small_limit_truncates_walks_and_says_so),
    test!(a_handler_on_a_stack_of_its_own),
];

/// Records the program that is in system calls for half of its time, as folded stacks too.
fn record_plain(options: &[&str]) -> (Recorded, String) {
    let place = Place::new();
    let program = build(&place, "plain.c", "swplain", &[]);
    let command = ["-o", "run.folded", "--", text(&program)];
    let recorded = record(&place, &[options, &command].concat());
    let folded = fs::read_to_string(place.path("run.folded")).unwrap();
    (recorded, folded)
}

/// The samples of folded stacks in which all of these frames are.
fn samples_with(folded: &str, frames: &[&str]) -> u64 {
    let with = folded.lines().filter_map(|line| {
        let (stack, samples) = line.rsplit_once(' ').unwrap();
        let has = |frame: &&str| stack.split(';').any(|other| other == *frame);
        frames
            .iter()
            .all(has)
            .then(|| samples.parse::<u64>().unwrap())
    });
    with.sum()
}

/// What every system call goes through.
const ENTRY: &str = "entry_SYSCALL_64_after_hwframe_[k]";

fn without_user_stacks() {
    let (both, folded) = record_plain(&[]);
    let in_calls = samples_with(&folded, &["main", "sysleaf", ENTRY]);
    assert!(in_calls > 100, "{in_calls}\n{folded}");

    let (alone, folded) = record_plain(&["--no-user"]);
    assert!(both.text.contains(" <USER>\n"));
    assert!(!alone.text.contains(" <USER>\n"), "{}", alone.text);
    assert!(
        !alone.run.stderr.contains("walks    user"),
        "{}",
        alone.run.stderr
    );
    assert_eq!(samples_with(&folded, &["main"]), 0, "{folded}");
    let calls = samples_with(&folded, &[ENTRY]);
    assert!(calls > 100, "{folded}");
    for stack in alone.of_command("swplain") {
        assert!(stack.user.is_empty(), "{stack:#?}");
    }
}

fn without_kernel_stacks() {
    let (recorded, folded) = record_plain(&["--no-kernel"]);
    recorded.assert_right("swplain", &Chains::of("plain.c"), 1000);
    assert!(!folded.contains("_[k]"), "{folded}");
    for kind in ["TASK", "IRQ", "NMI"] {
        assert!(
            !recorded.text.contains(&format!(" <{kind}>\n")),
            "{}",
            recorded.text
        );
    }
    // In a system call the C library's function for it is the innermost.
    let calls = recorded.of_command("swplain").filter(|stack| {
        let at = stack.user.iter().position(|name| name == "sysleaf");
        at.is_some_and(|at| at + 1 < stack.user.len())
    });
    let calls: u64 = calls.map(|stack| stack.samples).sum();
    assert!(calls > 100, "{folded}");
}

fn a_small_limit_truncates_walks_and_says_so() {
    let place = Place::new();
    let program = build(&place, "recursion.c", "swdeep", &[]);
    let limit = ["--user-stack-max", "1", "--"];
    let recorded = record(&place, &[&limit[..], &[text(&program)]].concat());
    assert!(
        recorded.text.contains("  (incomplete: truncated)\n"),
        "{}",
        recorded.text
    );
    let mut truncated = 0;
    for stack in recorded.of_command("swdeep") {
        if stack.stop != "truncated" {
            continue;
        }
        truncated += stack.samples;
        // The innermost functions, and nothing that was made up behind the last byte.
        let mut inside = stack
            .user
            .iter()
            .skip_while(|name| *name != "down")
            .peekable();
        if inside.peek().is_some() {
            let depth = inside.by_ref().take_while(|name| *name == "down").count();
            assert!((2..100).contains(&depth), "{stack:#?}");
            assert_eq!(inside.next(), None, "{stack:#?}");
        }
    }
    assert!(truncated > 1000, "{truncated}\n{}", recorded.run.stderr);
    let walks = recorded.run.stderr.split("walks    user ").nth(1).unwrap();
    let counted = walks.split("truncated ").nth(1).unwrap();
    let counted = counted.split([' ', '\n']).next().unwrap();
    assert_eq!(
        counted.trim_end_matches(',').replace(',', ""),
        truncated.to_string()
    );
}

/// The stack that the handler interrupted is not where its own is, so it is not copied. What the
/// handler interrupted is known from the registers that the kernel saved.
fn a_handler_on_a_stack_of_its_own() {
    let place = Place::new();
    let program = build(&place, "altstack.c", "swalt", &[]);
    let recorded = record(&place, &["--", text(&program)]);
    let whole = Chains::of("altstack.c");
    let mut samples = 0;
    for stack in recorded.of_command("swalt") {
        let names: Vec<&str> = stack.user.iter().map(String::as_str).collect();
        let Some(at) = names.iter().position(|name| *name == "handler") else {
            continue;
        };
        samples += stack.samples;
        // Outermost what was interrupted, then what returns from the handler.
        assert_eq!(at, 2, "{stack:#?}");
        assert!(
            ["handler"].starts_with(&names[at..]) || ["handler", "in_handler"] == names[at..],
            "{stack:#?}"
        );
        assert!(
            names[0].contains("kill") || names[0].contains("raise"),
            "{stack:#?}"
        );
        assert!(
            ["missing-bytes", "truncated"].contains(&&*stack.stop),
            "{stack:#?}"
        );
        assert!(!stack.complete, "{stack:#?}");
    }
    assert!(samples > 1000, "{samples} in {}", recorded.text);
    // Outside of it all is as ever.
    let verdict = recorded.verdict("swalt", &whole);
    assert_eq!(verdict.wrong, 0, "{verdict:#?}");
    assert!(verdict.right > 100, "{verdict:#?}");
}
