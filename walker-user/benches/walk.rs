//! How fast the unwinders are, over real samples.
//!
//! Of user stacks (`user`) those are of a program that is compiled for it. For the kernel's:
//! with the privileges to sample, the samples are taken from the running kernel first, under a
//! load this program makes itself, and walked with the kernel's whole ORC table. Without, those
//! of the golden test stand in, which are few and fit into the caches.
//!
//! What is measured is the CPU time of the thread, so that other work on the machine does not
//! count. It still takes its part of the caches.

#[path = "../tests/golden/data.rs"]
mod data;
#[path = "../tests/golden/load.rs"]
mod load;
mod user;

use std::{hint::black_box, time::Duration};

use anyhow::Context as _;
use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use walker_user::{capture::record::Sample, unwind::orc::OrcTable};

use data::{Golden, Machine};

/// Kernel samples to take.
const SAMPLES: usize = 10_000;
/// Longest time to take them in.
const TIME: Duration = Duration::from_secs(30);

/// Samples whose stacks fit into a core's own cache together.
const CACHED: usize = 100;

/// The CPU time of the measuring thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid place for the answer.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        assert_eq!(result, 0, "a thread has a CPU clock");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Records, and the kernel they are of.
struct Input {
    machine: Machine,
    records: Vec<Vec<u8>>,
}

fn live() -> anyhow::Result<Input> {
    let mut records = Vec::new();
    let session = load::sample(false, TIME, |_, sample| {
        if !sample.registers().is_user_mode() && records.len() < SAMPLES {
            records.push(load::record_of(sample));
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
            tables: session.kernel.sampled.tables,
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

fn walk(criterion: &mut Criterion<CpuTime>) {
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
        lookups.extend(
            frames
                .iter()
                .map(walker_user::unwind::Frame::lookup_address),
        );
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
    group.measurement_time(Duration::from_secs(8));
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
    // As for a reader that follows the capture closely: the stacks are still in the cache.
    let cached = &samples[..samples.len().min(CACHED)];
    let frames_of_cached = cached.iter().map(|sample| {
        machine.walk(sample, &mut frames);
        frames.len() as u64
    });
    group.throughput(Throughput::Elements(frames_of_cached.sum()));
    group.bench_function("walk_cached", |bencher| {
        bencher.iter(|| {
            for sample in cached {
                black_box(machine.walk(black_box(sample), &mut frames));
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

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = user::walk, walk
}
criterion_main!(benches);
