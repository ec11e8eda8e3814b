//! How fast the unwinder is, over real samples.
//!
//! With the privileges to sample, the samples are taken from the running kernel first, under a
//! load this program makes itself, and walked with the kernel's whole ORC table. Without, those
//! of the golden test stand in, which are few and fit into the caches.

#[path = "../tests/golden/data.rs"]
mod data;
#[path = "../tests/golden/load.rs"]
mod load;

use std::{hint::black_box, time::Duration};

use anyhow::Context as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walker_common::maps::names;
use walker_user::{capture::record::Sample, unwind::orc::OrcTable};

use data::{Golden, Machine, record_of};

/// Kernel samples to take.
const SAMPLES: usize = 10_000;
/// Longest time to take them in.
const TIME: Duration = Duration::from_secs(30);

/// Records, and the kernel they are of.
struct Input {
    machine: Machine,
    records: Vec<Vec<u8>>,
}

fn live() -> anyhow::Result<Input> {
    let mut records = Vec::new();
    let session = load::sample(names::PROG_CAPTURE, TIME, |_, sample| {
        if !sample.registers().is_user_mode() && records.len() < SAMPLES {
            records.push(record_of(sample));
        }
        records.len() < SAMPLES
    })?;
    let cpus = session
        .kernel
        .cpus()
        .map(|(cpu, table)| (cpu, table.stacks.clone()))
        .collect();
    Ok(Input {
        machine: Machine {
            thread_size: session.kernel.offsets.thread_size,
            tables: session.kernel.tables,
            cpus,
        },
        records,
    })
}

fn golden() -> anyhow::Result<Input> {
    let golden = Golden::read()?;
    Ok(Input {
        machine: golden.machine()?,
        records: golden
            .samples
            .iter()
            .map(data::Case::record_bytes)
            .collect::<Result<_, _>>()?,
    })
}

fn input() -> anyhow::Result<Input> {
    live().or_else(|error| {
        eprintln!("cannot take samples, using those of the golden test: {error:#}");
        golden()
    })
}

fn walk(criterion: &mut Criterion) {
    let Input { machine, records } = input().expect("there are samples");
    let samples: Vec<Sample<'_>> = records
        .iter()
        .map(|record| Sample::parse(record).expect("a record is a sample"))
        .collect();
    let mut frames = Vec::new();
    let (mut total, mut complete) = (0, 0);
    let mut lookups = Vec::new();
    for sample in &samples {
        complete += u64::from(machine.walk(sample, &mut frames).is_complete());
        total += frames.len() as u64;
        lookups.extend(frames.iter().map(walker_user::unwind::Frame::lookup_address));
    }
    let bytes: usize = records.iter().map(Vec::len).sum();
    let entries: usize = machine.tables.orc.iter().map(OrcTable::len).sum();
    eprintln!(
        "{} samples in {bytes} bytes, {total} frames, {complete} walks complete; {entries} ORC \
         entries",
        samples.len()
    );

    let mut group = criterion.benchmark_group("unwind");
    group.sample_size(20);
    group.throughput(Throughput::Elements(total));
    group.bench_function("walk", |bencher| {
        bencher.iter(|| {
            for sample in &samples {
                black_box(machine.walk(black_box(sample), &mut frames));
            }
        });
    });
    group.bench_function("parse_and_walk", |bencher| {
        bencher.iter(|| {
            for record in &records {
                let sample = Sample::parse(black_box(record)).expect("a record is a sample");
                black_box(machine.walk(&sample, &mut frames));
            }
        });
    });
    group.throughput(Throughput::Elements(lookups.len() as u64));
    let table = machine.tables.orc.first().context("no ORC table");
    let table = table.expect("the kernel has an ORC table");
    group.bench_function("orc_find", |bencher| {
        bencher.iter(|| {
            for ip in &lookups {
                black_box(table.find(black_box(*ip)));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, walk);
criterion_main!(benches);
