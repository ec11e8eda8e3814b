//! Real samples of the running kernel under a load that shows every common path: system calls,
//! page faults, and the network stack in interrupts and on the IRQ stack.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use walker_common::wire::{SampleHeader, SegmentStatus};
use walker_user::{
    capture::{
        events::EventsWanted,
        object::Sides,
        record::{Record, Sample},
        session::{Session, SessionOptions},
        target::Target,
    },
    kernel::running::RunningKernel,
};
use zerocopy::IntoBytes as _;

/// Samples a second on each CPU. Prime, so that it does not beat with the kernel's timers.
const FREQUENCY: u64 = 4999;

/// Takes samples of the whole system, with the kernel's own answer for `oracle`, until `keep` returns false or the time is
/// over.
pub(crate) fn sample(
    oracle: bool,
    time: Duration,
    mut keep: impl FnMut(&RunningKernel, &Sample<'_>) -> bool,
) -> anyhow::Result<Session> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The session's ring buffer is registered with the runtime.
    let _entered = runtime.enter();
    let mut session = Session::open(&SessionOptions {
        target: &Target::System,
        waiting_pid: None,
        events: &EventsWanted::clock(FREQUENCY),
        keep_idle: false,
        image: None,
        ring_bytes: None,
        oracle,
        sides: Sides::KERNEL,
    })?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        type Load = fn(&AtomicBool) -> anyhow::Result<()>;
        let stop = &stop;
        let threads = [network as Load, files, memory].map(|load| scope.spawn(move || load(stop)));
        let result = drain(&mut session, time, &mut keep);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().ok().context("a load panicked")??;
        }
        result
    })?;
    Ok(session)
}

fn drain(
    session: &mut Session,
    time: Duration,
    keep: &mut impl FnMut(&RunningKernel, &Sample<'_>) -> bool,
) -> anyhow::Result<()> {
    session.start()?;
    let until = Instant::now() + time;
    let mut more = true;
    while more && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        session.drain(|captured, record| {
            if let Record::Sample(sample) = record {
                more = more && keep(captured.kernel, sample);
            }
        });
    }
    session.stop()
}

/// Small messages over the loopback device: each is received by a softirq.
fn network(stop: &AtomicBool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            match server.read(&mut buffer)? {
                0 => return Ok(()),
                length => server.write_all(&buffer[..length])?,
            }
        }
    });
    let mut buffer = [1; 2048];
    while !stop.load(Ordering::Relaxed) {
        client.write_all(&buffer)?;
        client.read_exact(&mut buffer)?;
    }
    drop(client);
    echo.join().ok().context("the echo panicked")??;
    Ok(())
}

/// System calls into file systems.
fn files(stop: &AtomicBool) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile()?;
    while !stop.load(Ordering::Relaxed) {
        for name in std::fs::read_dir("/proc/self")?.flatten() {
            // Some of these vanish meanwhile.
            black_box(name.metadata().is_ok());
        }
        black_box(std::fs::read("/proc/self/maps")?);
        file.write_all(&[0; 8192])?;
        file.set_len(0)?;
    }
    Ok(())
}

/// Page faults.
fn memory(stop: &AtomicBool) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        black_box(vec![1u8; 8 << 20]);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The record of a sample, without the room that the kernel's chain did not need.
pub(crate) fn record_of(sample: &Sample<'_>) -> Vec<u8> {
    let mut data: Vec<u8> = sample.kernel_chain().flat_map(u64::to_le_bytes).collect();
    let mut header = *sample.header();
    header.data_offset = (size_of::<SampleHeader>() + data.len()) as u32;
    for segment in sample.segments() {
        if segment.status == SegmentStatus::Captured {
            data.extend(segment.bytes);
            data.resize(data.len().next_multiple_of(8), 0);
        }
    }
    header.size = (size_of::<SampleHeader>() + data.len()) as u32;
    let mut record = header.as_bytes().to_vec();
    record.extend(data);
    record
}
