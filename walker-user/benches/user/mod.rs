//! How fast user stacks are walked: those of a C program without frame pointers, some 30 frames
//! deep, with code of the C library in between.

#[path = "../../src/unwind/user/tests/process.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it is part of the tests, which use more of it"
)]
mod process;
#[path = "../../src/unwind/user/tests/program.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it is part of the tests, which use more of it"
)]
mod program;

use std::{fmt::Write as _, hint::black_box};

use criterion::{Criterion, Throughput, measurement::Measurement};
use walker_user::unwind::user::walk::UserWalker;

use process::{Code, Process};
use program::Program;

/// Functions that call each other.
const DEPTH: usize = 25;
/// The innermost of them, each of which takes a sample.
const SAMPLING: usize = 8;

/// Functions with frames of different sizes, which keep different numbers of registers.
fn source() -> String {
    let mut text = String::from("#include \"dump.h\"\nvolatile int zero;\n");
    text.push_str("static FUNCTION int f0(int a, int b) { dump_here(); KEEP(); return a + b; }\n");
    for number in 1..=DEPTH {
        let callee = number - 1;
        let _ = writeln!(
            text,
            "static FUNCTION int f{number}(int a, int b) {{\n\
             \tvolatile char room[{}]; int c = a * {number}, d = b + zero; room[0] = a;\n\
             {}\
             \tint r = f{callee}(b, a) + c; KEEP(); return r + {} + room[0]; }}",
            8 * (number % 7 + 1),
            if number < SAMPLING {
                "\tdump_here();\n"
            } else {
                ""
            },
            ["c", "c * d", "a * c + b", "a * b - c * d"][number % 4],
        );
    }
    let _ = writeln!(
        text,
        "static FUNCTION int compare(const void *a, const void *b) {{ int r = f{DEPTH}(*(int *)a, \
         *(int *)b); KEEP(); return r < 0; }}\n\
         int main(void) {{ int n[] = {{ 2, 1 }}; print_process(); qsort(n, 2, sizeof(int), \
         compare); KEEP(); return 0; }}"
    );
    text
}

fn walk_all(
    process: &Process,
    walker: &mut UserWalker,
    frames: &mut Vec<walker_user::unwind::Frame>,
) {
    let mut code = Code(process);
    for sample in &process.samples {
        frames.clear();
        let stack = sample.whole_stack();
        black_box(walker.walk(&mut code, &sample.registers, &stack, frames));
    }
}

/// The group "user frames": with every rule remembered, and with none.
pub(crate) fn walk<M: Measurement>(criterion: &mut Criterion<M>) {
    let options = ["-O2", "-fomit-frame-pointer", "-Wno-unused-variable"];
    let process = Program::build_text("gcc", "deep.c", &source(), &options).run(&[]);
    let mut walker = UserWalker::new();
    let mut total = 0;
    for index in 0..process.samples.len() {
        let (frames, walk) = process.walk(&mut walker, index);
        assert!(walk.stop.is_complete(), "{:?}", walk.stop);
        total += frames.len();
    }
    eprintln!("{} user stacks, {total} frames", process.samples.len());

    let mut frames = Vec::new();
    let mut group = criterion.benchmark_group("user frames");
    group.sample_size(20);
    group.throughput(Throughput::Elements(total as u64));
    group.bench_function("warm", |bencher| {
        bencher.iter(|| walk_all(&process, &mut walker, &mut frames));
    });
    group.bench_function("cold", |bencher| {
        bencher.iter_batched_ref(
            UserWalker::new,
            |walker| walk_all(&process, walker, &mut frames),
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}
