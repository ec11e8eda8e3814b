//! Walks: against the kernel's own unwinder, and across stacks.

use serde_json::Value;
use walker_common::StackKind;
use walker_user::{
    capture::{record::Record, target::Target},
    kernel::bpf_text,
    unwind::{Frame, FrameSource, StopReason},
    verify::{Outcome, compare},
};

use crate::{
    Test,
    capture::{Capture, Seen, options},
    guest,
    load::{Kind, Load, MIXED},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(every_walk_agrees_with_the_kernel),
    test!(the_agreement_is_told_in_words),
    test!(a_frame_that_the_kernel_hides_is_proved_to_be_bpf),
    test!(a_walk_goes_from_the_irq_stack_to_the_task_stack),
    test!(a_walk_goes_through_a_bpf_program),
];

fn every_walk_agrees_with_the_kernel() {
    const WANTED: u64 = 5000;
    let _load = Load::start(&MIXED);
    let (mut kernel, mut complete, mut irq) = (0, 0, 0);
    // One run gives far more, unless somebody else keeps the machine busy in user mode, or it is an
    // emulated one.
    for _ in 0..8 {
        let run = Place::new().run(&["verify", "-a", "-d", "4", "--json"]);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let figure = |name: &str| {
            let figure = report[name].as_u64();
            figure.unwrap_or_else(|| panic!("no figure `{name}` in {report}"))
        };
        assert_eq!(figure("disagree"), 0, "{report}");
        let compared = figure("agree") + figure("agree_but_hidden_bpf");
        assert_eq!(
            compared + figure("kernel_unwind_failed"),
            figure("kernel_samples"),
            "a walk was left out: {report}"
        );
        assert_eq!(
            figure("samples") + figure("lost") + figure("filtered"),
            figure("taken"),
            "{report}"
        );
        assert!(figure("samples") >= figure("kernel_samples"), "{report}");
        for cost in ["capture_ns", "kernel_unwind_ns"] {
            assert!(report[cost].as_f64().unwrap() > 0.0, "{report}");
        }
        let stops = report["stop_reasons"].as_object().unwrap();
        let stopped = |name: &str| stops.get(name).and_then(Value::as_u64).unwrap_or(0);
        let all: u64 = stops.keys().map(|name| stopped(name)).sum();
        assert_eq!(all, figure("kernel_samples"), "{report}");

        kernel += figure("kernel_samples");
        complete += stopped("user-mode") + stopped("end-of-stack");
        irq += figure("irq_stack_samples");
        if kernel >= WANTED {
            break;
        }
    }
    println!("{kernel} samples in kernel mode, {irq} of them on an IRQ stack");
    assert!(kernel >= WANTED, "only {kernel} samples in kernel mode");
    assert!(irq > 0, "no sample on an IRQ stack");
    assert!(
        complete as f64 > 0.99 * kernel as f64,
        "{complete} of {kernel} walks are complete"
    );
}

fn the_agreement_is_told_in_words() {
    let _load = Load::start(&[Kind::Tcp]);
    let run = Place::new().run(&["verify", "-a", "-d", "1"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    for begin in ["events ", "walks ", "agree ", "disagree 0", "cost "] {
        let said = run.stdout.lines().any(|line| line.starts_with(begin));
        assert!(said, "no line `{begin}` in {run:?}");
    }
}

fn a_frame_that_the_kernel_hides_is_proved_to_be_bpf() {
    let _load = Load::start(&MIXED);
    let target = Target::System;
    let mut options = options(&target);
    options.oracle = true;
    let mut capture = Capture::start(&options);
    let mut pairs: Vec<(Vec<Frame>, Vec<u64>)> = Vec::new();
    // An emulated CPU has answers only now and then, and most time for its load.
    let wanted = if guest::here() { 250 } else { 1000 };
    crate::wait::until("answers of the kernel's unwinder", || {
        capture.wait();
        capture.session.drain(|captured, record| {
            let (Record::Sample(sample), Some(seen)) = (record, Seen::new(captured, record)) else {
                return;
            };
            if seen.stop != StopReason::UserSample && sample.kernel_chain_error().is_none() {
                pairs.push((seen.frames, sample.kernel_chain().collect()));
            }
        });
        pairs.len() >= wanted
    });
    capture.session.stop().unwrap();
    // The programs are still loaded: the load runs one, and the capture holds the others.
    let bpf = capture.session.bpf_text();
    for (walk, chain) in pairs {
        if compare(&walk, &chain, &|_| false) == Outcome::Agree {
            continue;
        }
        let proof = |ip| {
            let symbol = bpf_text::find(&bpf, ip);
            symbol.is_some_and(|symbol| symbol.name.starts_with("bpf_"))
        };
        assert_eq!(
            compare(&walk, &chain, &proof),
            Outcome::AgreeButHiddenBpf,
            "{walk:x?} {chain:x?}"
        );
    }
}

/// The stacks of a walk in the order in which it came to them. What was scanned is no part of the
/// walk.
fn stacks(frames: &[Frame]) -> Vec<StackKind> {
    let exact = frames.iter().take_while(|frame| frame.reliable);
    let mut kinds: Vec<StackKind> = exact.map(|frame| frame.stack).collect();
    kinds.dedup();
    kinds
}

fn a_walk_goes_from_the_irq_stack_to_the_task_stack() {
    let _load = Load::start(&[Kind::Tcp, Kind::Udp]);
    let crossing = |seen: &&Seen| {
        stacks(&seen.frames) == [StackKind::Irq, StackKind::Task]
            && seen.stop == StopReason::UserMode
    };
    let mut capture = Capture::start(&options(&Target::System));
    capture.until("20 walks from the IRQ stack to a task stack", |seen| {
        seen.iter().filter(crossing).count() >= 20
    });
    capture.stop();
    for seen in &capture.seen {
        let mut kinds = stacks(&seen.frames);
        let runs = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), runs, "came back to a stack: {seen:x?}");
    }
    // Each frame is on the stack that it is said to be on, and stacks are left upwards.
    for seen in capture.seen.iter().filter(crossing) {
        let kernel = &capture.session.kernel;
        let (_, table) = kernel.cpus().find(|(cpu, _)| *cpu == seen.cpu).unwrap();
        let irq = table
            .stacks
            .iter()
            .find(|stack| stack.kind == StackKind::Irq);
        let irq = irq.unwrap();
        for pair in seen.frames.windows(2) {
            let same_stack = pair[0].stack == pair[1].stack;
            assert!(!same_stack || pair[0].sp <= pair[1].sp, "{seen:x?}");
        }
        for frame in seen.frames.iter().skip(1) {
            // The stack pointer of a frame can be the end of the stack it came from.
            let inside = (irq.begin..irq.end).contains(&frame.sp);
            let on_irq = frame.stack == StackKind::Irq;
            assert!(on_irq || !inside, "{seen:x?}");
        }
    }
}

fn a_walk_goes_through_a_bpf_program() {
    let _load = Load::start(&[Kind::Bpf]);
    let mut capture = Capture::start(&options(&Target::System));
    let bpf = capture.session.bpf_text();
    let through = |seen: &&Seen| {
        let is_program = |frame: &Frame| {
            bpf_text::find(&bpf, frame.lookup_address())
                .is_some_and(|symbol| symbol.name.ends_with("_read_kernel"))
        };
        // Neither its first frame nor its last: the walk came from its callee and went on.
        let callees = seen.frames.iter().position(is_program);
        callees.is_some_and(|index| index > 0 && index + 1 < seen.frames.len())
    };
    capture.until("20 walks through a BPF program", |seen| {
        seen.iter().filter(through).count() >= 20
    });
    capture.stop();
    for seen in capture.seen.iter().filter(through) {
        assert_eq!(seen.stop, StopReason::UserMode, "{seen:x?}");
        let scanned = |frame: &Frame| frame.source == FrameSource::Scan;
        assert!(!seen.frames.iter().any(scanned), "{seen:x?}");
    }
}
