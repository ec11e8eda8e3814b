//! The threads beside a running guest: one for each serial port, which reads its lines, and one
//! that asks QEMU's monitor for what is ordered.
//!
//! They decide nothing: `machine` does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use super::{monitor::Monitor, protocol::DONE};

/// Lines are cut here.
const MAX_LINE: u64 = 64 << 10;

/// A serial port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The kernel's messages.
    Kernel,
    /// The command's output.
    Command,
}

/// What a thread has to tell.
#[derive(Debug)]
pub(super) enum Event {
    /// A line, with its end.
    Line(Port, Vec<u8>),
    /// The port of the command is closed: QEMU has ended.
    Closed,
    /// An order could not be followed.
    Failed(anyhow::Error),
}

/// What the monitor is to be asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// So many NMIs, so far apart. The guest is told when they are done.
    Nmi { count: u32, every: Duration },
    /// From now on an NMI again and again, whenever there is no other order.
    NmiEvery(Duration),
    /// A dump of the memory to this file. The guest is told when it is done.
    Dump(PathBuf),
}

/// Reads lines from a port until it is closed.
pub(super) fn read_lines(port: Port, stream: UnixStream, events: SyncSender<Event>) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let read = (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line);
            // A connection that QEMU's death has broken is closed, too.
            let event = match read {
                Ok(1..) => Event::Line(port, line),
                Ok(0) | Err(_) if port == Port::Command => Event::Closed,
                Ok(0) | Err(_) => return,
            };
            let last = matches!(event, Event::Closed);
            if events.send(event).is_err() || last {
                return;
            }
        }
    });
}

/// Follows orders until there can be no more.
pub(super) fn follow_orders(
    monitor: UnixStream,
    mut answers: UnixStream,
    orders: Receiver<Order>,
    events: SyncSender<Event>,
) {
    thread::spawn(move || {
        if let Err(error) = follow(monitor, &mut answers, &orders) {
            // When nobody listens any more, the guest has ended and took the monitor with it.
            let _told = events.send(Event::Failed(error));
        }
    });
}

fn follow(
    monitor: UnixStream,
    answers: &mut UnixStream,
    orders: &Receiver<Order>,
) -> anyhow::Result<()> {
    let mut monitor = Monitor::connect(monitor)?;
    let mut always = None;
    loop {
        let order = match always {
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(every) => orders.recv_timeout(every),
        };
        match order {
            Ok(Order::NmiEvery(every)) => {
                always = Some(every);
                continue;
            }
            Ok(Order::Nmi { count, every }) => {
                for _ in 0..count {
                    monitor.inject_nmi()?;
                    // Nobody waits for this time: it is how often they are to come.
                    thread::sleep(every);
                }
            }
            Ok(Order::Dump(path)) => monitor.dump(&path)?,
            Err(RecvTimeoutError::Timeout) => {
                monitor.inject_nmi()?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        answers.write_all(DONE.as_bytes())?;
    }
}
