//! Load for the kernel, made by threads of this process until the value is dropped.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek as _, SeekFrom, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use walker_user::{
    capture::session::{Setup, prepare},
    kernel::memory::KernelMemory as _,
    unwind::kernel::TextRange,
};

/// How long a thread may wait before it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Round trips on the loopback device, whose softirqs run on the IRQ stack.
    Tcp,
    /// Datagrams on the loopback device.
    Udp,
    /// Reads of /dev/zero and writes to /dev/null.
    SystemCalls,
    /// Memory that is mapped, touched and unmapped.
    PageFaults,
    /// A file that is written, read and cut.
    Files,
    /// Processes that are forked and execute something short.
    Processes,
    /// A BPF program that copies kernel memory.
    Bpf,
}

/// Everything at once.
pub(crate) const MIXED: [Kind; 7] = [
    Kind::Tcp,
    Kind::Udp,
    Kind::SystemCalls,
    Kind::PageFaults,
    Kind::Files,
    Kind::Processes,
    Kind::Bpf,
];

/// Running load.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(kinds: &[Kind]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for kind in kinds {
            match kind {
                Kind::Tcp => load.tcp(),
                Kind::Udp => load.udp(),
                Kind::SystemCalls => load.system_calls(),
                Kind::PageFaults => load.thread("swload-faults", || {
                    // The allocator maps a block of this size and unmaps it when it is dropped.
                    let mut block = vec![0u8; 64 << 20];
                    for page in block.chunks_mut(4096).take(256) {
                        page[0] = 1;
                    }
                }),
                Kind::Files => load.files(),
                Kind::Processes => load.thread("swload-exec", || {
                    assert!(Command::new("true").status().unwrap().success());
                }),
                Kind::Bpf => load.bpf(),
            }
        }
        load
    }

    /// A load of one thread, which calls `step` until this is dropped.
    pub(crate) fn of(name: &str, step: impl FnMut() + Send + 'static) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        load.thread(name, step);
        load
    }

    /// Calls `step` until the load is to end.
    fn thread(&mut self, name: &str, mut step: impl FnMut() + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        let body = move || {
            while !stop.load(Ordering::Relaxed) {
                step();
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(thread.unwrap());
    }

    fn tcp(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
            end.set_read_timeout(Some(LOOK_EVERY)).unwrap();
            end.set_write_timeout(Some(LOOK_EVERY)).unwrap();
        }
        // One message is on its way at any time; each end sends what it gets.
        client.write_all(&[7; 64]).unwrap();
        self.thread("swload-tcp", move || pass_on(&mut client));
        self.thread("swload-tcp", move || pass_on(&mut server));
    }

    fn udp(&mut self) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 512];
        self.thread("swload-udp", move || {
            // A flood loses datagrams; nobody counts them.
            let _sent = sender.send(&[7; 512]);
        });
        self.thread("swload-udp", move || {
            let _received = receiver.recv(&mut buffer);
        });
    }

    fn system_calls(&mut self) {
        let mut zero = File::open("/dev/zero").unwrap();
        let mut null = File::create("/dev/null").unwrap();
        let mut buffer = [0; 4096];
        self.thread("swload-calls", move || {
            zero.read_exact(&mut buffer).unwrap();
            null.write_all(&buffer).unwrap();
        });
    }

    fn files(&mut self) {
        let mut file = tempfile::tempfile().unwrap();
        let mut buffer = vec![7; 64 << 10];
        self.thread("swload-files", move || {
            file.write_all(&buffer).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_exact(&mut buffer).unwrap();
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
        });
    }

    fn bpf(&mut self) {
        let mut prepared = prepare(&Setup::without_samples()).unwrap();
        let TextRange { begin, .. } = prepared.kernel.symbols.kernel_text().unwrap();
        self.thread("swload-bpf", move || {
            prepared.object.read(begin, 64 << 10).unwrap();
        });
    }
}

/// Sends back what comes, which is nothing if the other end has ended.
fn pass_on(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        // The other end looks first and goes first; this one is about to.
        Ok(0) => thread::sleep(LOOK_EVERY),
        Ok(length) => match stream.write_all(&buffer[..length]) {
            Ok(()) => {}
            Err(error) => assert!(is_no_failure(error.kind()), "{error}"),
        },
        Err(error) => assert!(is_no_failure(error.kind()), "{error}"),
    }
}

/// What comes of the other end having ended, of the time limit, or of a signal (children end).
fn is_no_failure(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::Interrupted
    )
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self
            .threads
            .drain(..)
            .filter_map(|thread| thread.join().err())
            .count();
        // A panic while the test already panics would end the whole run.
        assert!(failed == 0 || thread::panicking(), "the load failed");
    }
}
