//! A live server that a test feeds, behind a door that the test can close: the page then finds it
//! gone, and finds another run when the door is open again.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use walker_common::StackKind;
use walker_user::{
    kernel::kallsyms::Kallsyms,
    live::{
        hub::{self, Batch, Counted, Intake, LiveSample, Request, Source, Subject},
        server::{self, Access},
    },
    recording::head::{EventHead, Head},
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::Reason,
    sys::clock::monotonic_ns,
    unwind::StopReason,
};

const TOKEN: &str = "token-of-a-browser-test";

/// A step of a stack, from the root on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    /// A module of user space, of which no names are known.
    User(&'a str),
    /// A function of the running kernel, on a stack.
    Kernel(&'static str, StackKind),
}

/// A run of stackwalk, as the server sees it.
pub(crate) struct Run {
    intake: Intake,
    processes: u32,
    nodes: u32,
    modules: Vec<String>,
    counted: u64,
}

/// The way to the server: connections to the address of the page go on to the server of the run.
pub(crate) struct Door {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Run {
    /// Starts a run that is reached through `door`.
    pub(crate) fn start(door: &mut Door, title: &str) -> Self {
        let (intake, live) = hub::start(Subject {
            head: Head {
                title: title.to_owned(),
                events: vec![EventHead::counted("cpu-clock", None)],
                ..Head::default()
            },
            cpus: vec![0, 1],
            kallsyms: Arc::new(Kallsyms::of_running_kernel().unwrap()),
            addresses: false,
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let access = Access::new(door.address, TOKEN.to_owned());
        server::start(listener, access, live).unwrap();
        door.lead_to(server);
        Self {
            intake,
            processes: 0,
            nodes: 0,
            modules: Vec::new(),
            counted: 0,
        }
    }

    /// A stack of a process.
    pub(crate) fn stack(&mut self, comm: &str, steps: &[Step<'_>]) -> Place {
        let mut batch = Batch::default();
        let mut name = [0; 16];
        name[..comm.len()].copy_from_slice(comm.as_bytes());
        batch.processes.push(Process {
            pid: 100 + self.processes,
            name,
            comm: name,
        });
        let mut place = Place::Process(self.processes);
        self.processes += 1;
        for step in steps {
            let frame = match *step {
                Step::User(module) => self.user(module, &mut batch),
                Step::Kernel(function, stack) => {
                    let ip = Kallsyms::addresses_of(function).unwrap()[0] + 1;
                    RawFrame::Kernel {
                        ip,
                        lookup: ip,
                        stack,
                        reliable: true,
                    }
                }
            };
            batch.nodes.push((place, frame));
            place = Place::Node(self.nodes);
            self.nodes += 1;
        }
        self.offer(batch);
        place
    }

    fn user(&mut self, module: &str, batch: &mut Batch) -> RawFrame {
        let known = self.modules.iter().position(|known| known == module);
        let number = known.unwrap_or(self.modules.len());
        let code = Code::NoFile(number as u32);
        if known.is_none() {
            self.modules.push(module.to_owned());
            batch.requests.push(Request {
                holder: (code, 0),
                addresses: vec![1],
                source: Source::Nowhere(module.to_owned(), Reason::Unreadable),
            });
        }
        RawFrame::User {
            code,
            address: 1,
            lookup: 1,
            reliable: true,
        }
    }

    /// So many samples of a stack on a CPU, now. Returns how many there are in all.
    pub(crate) fn sample(&mut self, place: Place, cpu: u32, count: u64) -> u64 {
        self.counted += count;
        let sample = LiveSample {
            time_ns: monotonic_ns(),
            cpu,
            event: 0,
            place,
            stop: StopReason::UserMode,
            weight: 1,
        };
        self.offer(Batch {
            samples: vec![sample; count as usize],
            ..Batch::default()
        });
        self.counted
    }

    fn offer(&self, mut batch: Batch) {
        batch.counted = Counted {
            taken: self.counted,
            delivered: self.counted,
            ..Counted::default()
        };
        self.intake.offer(Box::new(batch)).unwrap();
    }
}

impl Door {
    /// A door that is closed.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            open: Arc::default(),
            connections: Arc::default(),
        }
    }

    /// The address of the page.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/?token={TOKEN}", self.address)
    }

    fn lead_to(&mut self, server: SocketAddr) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.open = Arc::new(AtomicBool::new(true));
        let (open, connections) = (Arc::clone(&self.open), Arc::clone(&self.connections));
        thread::spawn(move || {
            for client in listener.incoming() {
                if !open.load(Ordering::SeqCst) {
                    return;
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let mut kept = connections.lock().unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.push(from.try_clone().unwrap());
                    thread::spawn(move || {
                        let _copied = io::copy(&mut from, &mut to);
                        let _shut = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
    }

    /// Breaks all connections, and refuses new ones.
    pub(crate) fn close(&mut self) {
        self.open.store(false, Ordering::SeqCst);
        // Wakes the thread, which takes its socket with it.
        let _woken = TcpStream::connect(self.address);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _shut = connection.shutdown(Shutdown::Both);
        }
    }
}
