//! Walks of real programs, compared with libgcc's `backtrace()` and with the chain that is known.

use super::{
    process::Process,
    program::{Program, run},
};
use crate::unwind::{Frame, FrameSource, StopReason, user::walk::UserWalker};

/// Walks a sample cold and then warm, which must not differ.
fn walk(process: &Process, index: usize) -> (Vec<Frame>, StopReason) {
    let mut walker = UserWalker::new();
    let cold = process.walk(&mut walker, index);
    let misses = walker.cache_misses();
    let warm = process.walk(&mut walker, index);
    assert_eq!(cold, warm);
    assert_eq!(walker.cache_misses(), misses, "everything was remembered");
    assert!(walker.cache_hits() > 0);
    let (frames, walk) = cold;
    (frames, walk.stop)
}

/// Walks the only sample and compares it with libgcc's chain, but for the leaf: there the one
/// has the call of `backtrace()` and the other the capture of the registers.
#[track_caller]
fn same_as_libgcc(process: &Process) -> Vec<Frame> {
    assert_eq!(process.samples.len(), 1);
    let (frames, stop) = walk(process, 0);
    let names = process.names(&frames);
    assert_eq!(stop, StopReason::OutermostFrame, "{names:?}");
    assert!(frames.len() > 3, "{names:?}");
    assert_eq!(
        ips(&frames)[1..],
        process.samples[0].chain[1..],
        "{names:?}"
    );
    frames
}

/// The names without those of the C library, which are not in its symbol table.
fn own_names<'p>(process: &'p Process, frames: &[Frame]) -> Vec<&'p str> {
    let mut names = process.names(frames);
    names.retain(|&name| name != "?");
    names
}

/// The functions of `chain.c` above its `dump_here`.
fn chain_names(depth: usize) -> Vec<&'static str> {
    let inner = [
        "dump_here",
        "leaf",
        "realigned",
        "allocates",
        "realigned_allocates",
        "busy",
    ];
    let mut names = inner.to_vec();
    names.extend(std::iter::repeat_n("recurse", depth + 1));
    names.push("compare");
    names
}

#[track_caller]
fn chain(depth: usize, options: &[&str]) {
    let define = format!("-DDEPTH={depth}");
    let mut all = vec![define.as_str()];
    all.extend(options);
    let process = run("chain.c", &all, &[]);
    let frames = same_as_libgcc(&process);
    let names = own_names(&process, &frames);
    let wanted = chain_names(depth);
    assert_eq!(names[..wanted.len()], wanted);
    assert!(names.contains(&"main"), "{names:?}");
    assert!(
        frames
            .iter()
            .any(|frame| frame.source == FrameSource::CfiExpression),
        "a realigned frame takes an expression"
    );
}

#[test]
fn optimized_code_without_frame_pointers() {
    chain(5, &["-O2", "-fomit-frame-pointer"]);
    chain(5, &["-O3", "-fomit-frame-pointer", "-march=x86-64-v3"]);
    chain(5, &["-Os", "-fno-plt", "-fcf-protection"]);
}

#[test]
fn code_with_frame_pointers_or_without_optimization() {
    chain(5, &["-O2", "-fno-omit-frame-pointer"]);
    chain(5, &["-O0"]);
}

#[test]
fn realigned_stacks() {
    chain(20, &["-O2", "-mstackrealign"]);
    chain(
        20,
        &["-O2", "-mstackrealign", "-mincoming-stack-boundary=3"],
    );
}

#[test]
fn deep_recursion() {
    chain(400, &["-O2"]);
}

#[test]
fn static_programs() {
    chain(5, &["-O2", "-static"]);
    chain(5, &["-O2", "-static-pie"]);
    chain(5, &["-O2", "-no-pie"]);
}

#[test]
fn programs_linked_by_others() {
    chain(5, &["-O2", "-fuse-ld=gold"]);
    chain(5, &["-O2", "-static", "-Wl,--no-eh-frame-hdr"]);
}

/// Where libgcc sees nothing: it depends on the table that this program lacks.
#[test]
fn programs_without_a_search_table() {
    named_chain(&["-O2", "-DDEPTH=5", "-Wl,--no-eh-frame-hdr"]);
}

#[test]
fn unwind_information_in_debug_frame_and_eh_frame() {
    // `_start` is not from this source, and its information is in `.eh_frame`.
    named_chain(&["-O2", "-DDEPTH=5", "-g", "-fno-asynchronous-unwind-tables"]);
}

/// Walks `chain.c` where libgcc's chain is of no use.
#[track_caller]
fn named_chain(options: &[&str]) {
    let process = run("chain.c", options, &[]);
    let (frames, stop) = walk(&process, 0);
    assert_eq!(stop, StopReason::OutermostFrame);
    let names = own_names(&process, &frames);
    let wanted = chain_names(5);
    assert_eq!(names[..wanted.len()], wanted);
    assert_eq!(names[wanted.len()..], ["main", "_start"]);
}

/// `signals.c`: a handler in a handler, each found in the registers of its signal frame.
#[track_caller]
fn signals(options: &[&str], arguments: &[&str]) -> (Vec<Frame>, StopReason) {
    let process = run("signals.c", options, arguments);
    let (frames, stop) = walk(&process, 0);
    let signals = frames
        .iter()
        .filter(|frame| frame.source == FrameSource::CfiSignal);
    assert_eq!(signals.count(), 2);
    if !options.contains(&"-DNO_BACKTRACE") {
        let chain = &process.samples[0].chain[1..];
        assert_eq!(ips(&frames)[1..], chain[..frames.len() - 1]);
    }
    let names = own_names(&process, &frames);
    let wanted = [
        "dump_here",
        "inner_work",
        "on_user2",
        "outer_work",
        "on_user1",
    ];
    let mut own = names.clone();
    own.retain(|name| wanted.contains(name) || ["interrupted", "main"].contains(name));
    assert_eq!(own[..wanted.len()], wanted, "{names:?}");
    if stop == StopReason::OutermostFrame {
        assert_eq!(own[wanted.len()..], ["interrupted", "main"], "{names:?}");
    }
    (frames, stop)
}

#[test]
fn a_signal_handler_that_is_interrupted_itself() {
    for options in [&["-O2"][..], &["-O2", "-static"], &["-O0"]] {
        let (_, stop) = signals(options, &[]);
        assert_eq!(stop, StopReason::OutermostFrame);
    }
}

/// The interrupted stack is not the one that was copied.
#[test]
fn a_signal_on_an_alternate_stack() {
    let (frames, stop) = signals(&["-O2"], &["elsewhere"]);
    let last = frames.last().unwrap();
    assert_eq!(last.source, FrameSource::CfiSignal);
    let StopReason::MissingBytes { address } = stop else {
        panic!("{stop:?}");
    };
    assert!(address >= last.sp && address - last.sp < 0x1000);
}

/// The alternate stack is a variable of a function that was interrupted, so that the walk goes
/// down once.
#[test]
fn an_alternate_stack_within_the_interrupted_one() {
    let (frames, stop) = signals(&["-O2"], &["within", "main"]);
    assert_eq!(stop, StopReason::OutermostFrame);
    let downwards = frames.windows(2).filter(|pair| pair[1].sp < pair[0].sp);
    assert_eq!(downwards.count(), 1);
}

/// musl's function to return from a signal handler has no unwind information, and neither has its
/// code that calls `main`.
#[test]
fn signals_with_musl() {
    let options = [
        "-O2",
        "-static",
        "-DNO_BACKTRACE",
        "-fasynchronous-unwind-tables",
    ];
    let program = Program::build("musl-gcc", "signals.c", &options);
    let process = program.run(&[]);
    let (frames, stop) = walk(&process, 0);
    assert_eq!(stop, StopReason::OutermostFrame);
    let mut names = own_names(&process, &frames);
    names.truncate(9);
    let wanted = [
        "dump_here",
        "inner_work",
        "on_user2",
        "__restore_rt",
        "outer_work",
        "on_user1",
        "__restore_rt",
        "interrupted",
        "main",
    ];
    assert_eq!(names, wanted);
}

/// The chain of a sample, whatever its end.
fn ips(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.ip).collect()
}

#[test]
fn every_instruction_of_some_work() {
    for options in [
        &["-O2", "-DSTEPS=600"][..],
        &[
            "-O2",
            "-DSTEPS=400",
            "-fno-omit-frame-pointer",
            "-fcf-protection",
        ],
        &["-O1", "-DSTEPS=400", "-mstackrealign", "-Wl,-z,now"],
    ] {
        let process = run("step.c", options, &[]);
        assert!(process.samples.len() > 100);
        let mut walker = UserWalker::new();
        for (index, sample) in process.samples.iter().enumerate() {
            let (frames, walk) = process.walk(&mut walker, index);
            let names = process.names(&frames);
            assert_eq!(walk.stop, StopReason::OutermostFrame, "{names:?}");
            let ips = ips(&frames);
            // GCC says nothing of the `leave` of a function that realigns its stack, and there
            // libgcc skips frames.
            if ips != sample.chain {
                assert_eq!(names[..4], ["realigned", "sized", "work", "main"]);
                let mut all = ips.iter();
                assert!(sample.chain.iter().all(|ip| all.any(|other| other == ip)));
            }
        }
    }
}

#[test]
fn every_instruction_of_static_work() {
    let options = ["-O3", "-DSTEPS=400", "-static", "-DNO_BACKTRACE"];
    let process = run("step.c", &options, &[]);
    let mut walker = UserWalker::new();
    for index in 0..process.samples.len() {
        let (frames, walk) = process.walk(&mut walker, index);
        let names = process.names(&frames);
        if names[0] == "main" {
            // It moves the stack pointer in assembly that says nothing of it.
            continue;
        }
        assert_eq!(walk.stop, StopReason::OutermostFrame, "{names:?}");
        assert_eq!(names.last(), Some(&"_start"), "{names:?}");
        assert!(names.contains(&"main"), "{names:?}");
    }
}

#[test]
fn code_of_the_vdso() {
    let process = run("vdso.c", &["-O2"], &[]);
    let (frames, stop) = walk(&process, 0);
    assert_eq!(ips(&frames), process.samples[0].chain);
    assert_eq!(stop, StopReason::OutermostFrame);
    assert!(process.names(&frames).contains(&"spin"));
}

#[test]
fn landing_pads_of_exceptions() {
    let process = Program::build("g++", "exceptions.cc", &["-O2"]).run(&[]);
    let names: Vec<Vec<&str>> = (0..process.samples.len())
        .map(|index| {
            let (frames, stop) = walk(&process, index);
            assert_eq!(stop, StopReason::OutermostFrame);
            assert_eq!(ips(&frames)[1..], process.samples[index].chain[1..]);
            own_names(&process, &frames)
        })
        .collect();
    assert_eq!(names.len(), 2);
    // Landing pads are moved to the cold part of their function.
    let destructor = &names[0][1..];
    assert!(destructor[0].contains("Cleanup"), "{destructor:?}");
    assert!(destructor[1].contains("passes"), "{destructor:?}");
    assert!(destructor[2].contains("catches"), "{destructor:?}");
    assert!(names[1][1].contains("catches"), "{names:?}");
    assert_eq!(names[1][2..], ["main", "_start"]);
}

#[test]
fn a_call_through_a_null_pointer() {
    let process = run("bad_call.c", &["-O2"], &[]);
    let (frames, stop) = walk(&process, 0);
    assert_eq!(stop, StopReason::OutermostFrame);
    assert_eq!(frames[0].ip, 0);
    assert_eq!(frames[1].source, FrameSource::Scan);
    assert!(frames[1..].iter().all(|frame| !frame.reliable));
    let names = own_names(&process, &frames);
    assert_eq!(names, ["calls", "main", "_start"]);
}

/// Whatever a return address is replaced by, it is refused unless a call is before it, and the
/// frames up to there are right.
#[test]
fn return_addresses_behind_no_call() {
    let mut process = run("chain.c", &["-O2", "-DDEPTH=5"], &[]);
    let (good, _) = walk(&process, 0);
    let ip = good[5].ip - 1;
    let sample = &mut process.samples[0];
    let slot = (good[5].sp - 8 - sample.stack_address) as usize;
    assert_eq!(sample.stack[slot..slot + 8], good[5].ip.to_le_bytes());
    sample.stack[slot..slot + 8].copy_from_slice(&ip.to_le_bytes());
    let (frames, stop) = walk(&process, 0);
    assert_eq!(stop, StopReason::BadReturnAddress { ip });
    assert_eq!(frames, good[..5]);
}
