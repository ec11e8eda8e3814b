//! Symbols of files that users wrote, read by a worker process: the side that asks.
//!
//! A thread owns the worker, hands it one batch after the other, and replaces it when it fails or
//! takes too long. A batch that failed is tried once more without debug info. What of a file ended
//! or stalled a worker is not read again, so that one file does not cost the others their time. What
//! a file may contain is the worker's concern; nothing here opens one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    CodeSymbol, FileKey, Object, Reason,
    allowance::Allowance,
    lookup::Request,
    worker::{ARGUMENT, receive, send},
};

/// Batches that wait for the worker; one more waits in [`Service::ask`].
const QUEUE: usize = 16;
/// Most addresses in one message to the worker.
const MAX_BATCH: usize = 20_000;

/// Most files that are remembered as given up.
const MAX_GIVEN_UP: usize = 10_000;

/// How to read symbols.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program to run as the worker; it has to call [`super::worker::main_if_asked`].
    pub program: PathBuf,
    /// Where separate debug files are, each with a `.build-id` directory.
    pub debug_dirs: Vec<PathBuf>,
    /// Files with more bytes of debug info than this are read without it.
    pub max_debug_info: u64,
    /// Longest time for the addresses of one file.
    pub time_limit: Duration,
    /// Longest time for all files together; what was spent of it comes back in ten times the time.
    pub total_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            debug_dirs: vec!["/usr/lib/debug".into()],
            max_debug_info: 768 << 20,
            time_limit: Duration::from_secs(20),
            total_limit: Duration::from_secs(180),
        }
    }
}

/// All that is asked of one file at once.
#[derive(Debug)]
struct Job {
    object: Arc<Object>,
    addresses: Vec<u64>,
    answer: SyncSender<Vec<CodeSymbol>>,
}

/// Names addresses of files in another process. Dropping it ends that process.
#[derive(Debug)]
pub struct Service {
    jobs: SyncSender<Job>,
}

/// An answer that is being worked on.
#[derive(Debug)]
pub struct Pending {
    object: Arc<Object>,
    addresses: Vec<u64>,
    answer: Receiver<Vec<CodeSymbol>>,
}

impl Pending {
    /// Waits for the answer: one for each address, in order. Bounded by twice
    /// [`Config::time_limit`] for each batch that was asked before, and for this one.
    #[must_use]
    pub fn wait(self) -> Vec<CodeSymbol> {
        match self.answer.recv() {
            Ok(answers) => answers,
            Err(_) => unnamed(&self.object, &self.addresses, Reason::NotStarted),
        }
    }
}

impl Service {
    /// Starts the thread; the worker is started by the first question.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(config: Config) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("symbols".to_owned())
            .spawn(move || {
                let mut asker = Asker {
                    allowance: Allowance::new(config.total_limit, Instant::now()),
                    config,
                    worker: None,
                    given_up: HashMap::new(),
                    own: own(),
                };
                for job in queue {
                    let answers = asker.answer(&job.object, &job.addresses);
                    // Who asked may have lost interest.
                    let _ = job.answer.send(answers);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Asks for the names of addresses (as linked) of one file. All addresses of a file should be
    /// asked at once: what was read of it is not kept. Blocks while the queue is full.
    #[must_use]
    pub fn ask(&self, object: &Arc<Object>, addresses: Vec<u64>) -> Pending {
        let (sender, answer) = mpsc::sync_channel(1);
        let job = Job {
            object: Arc::clone(object),
            addresses: addresses.clone(),
            answer: sender,
        };
        // If the thread is gone, the dropped sender tells `Pending::wait`.
        let _ = self.jobs.send(job);
        Pending {
            object: Arc::clone(object),
            addresses,
            answer,
        }
    }
}

fn own() -> String {
    let own = fs::read_link("/proc/thread-self").ok();
    let own = own.and_then(|own| own.into_os_string().into_string().ok());
    own.unwrap_or_else(|| process::id().to_string())
}

fn unnamed(object: &Object, addresses: &[u64], reason: Reason) -> Vec<CodeSymbol> {
    let name = object.name();
    let answers = addresses.iter();
    answers
        .map(|&address| CodeSymbol::unnamed(&name, address, reason))
        .collect()
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// What is not read of a file any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// Its debug info.
    DebugInfo,
    /// All of it, for this reason.
    Everything(Reason),
}

/// What the thread has.
struct Asker {
    config: Config,
    allowance: Allowance,
    worker: Option<Worker>,
    /// Files that ended or stalled a worker.
    given_up: HashMap<FileKey, GivenUp>,
    /// This thread below `/proc`. The worker has the capabilities of this thread, so it may look at
    /// it, but perhaps not at others of this process.
    own: String,
}

impl Asker {
    fn answer(&mut self, object: &Object, addresses: &[u64]) -> Vec<CodeSymbol> {
        let mut answers = Vec::with_capacity(addresses.len());
        let mut max_debug_info = self.config.max_debug_info;
        let key = FileKey::of(&object.file).ok();
        let mut given_up = key.and_then(|key| self.given_up.get(&key).copied());
        if given_up.is_some() {
            max_debug_info = 0;
        }
        for batch in addresses.chunks(MAX_BATCH) {
            let mut answer = match given_up {
                Some(GivenUp::Everything(reason)) => Err(reason),
                _ => self.ask(object, batch, max_debug_info),
            };
            if let Err(Reason::Crashed | Reason::TooSlow) = answer
                && max_debug_info > 0
            {
                given_up = Some(GivenUp::DebugInfo);
                max_debug_info = 0;
                answer = self.ask(object, batch, max_debug_info);
            }
            if let Err(reason @ (Reason::Crashed | Reason::TooSlow)) = answer {
                given_up = Some(GivenUp::Everything(reason));
            }
            let from = answers.len();
            answers.extend(answer.unwrap_or_else(|reason| unnamed(object, batch, reason)));
            if given_up == Some(GivenUp::DebugInfo) {
                let named = answers[from..].iter_mut().filter(|symbol| symbol.named);
                named.for_each(|symbol| symbol.reason = Some(Reason::DebugInfoUnusable));
            }
        }
        // When the time for all files is used up, it is not this one's fault.
        let had_its_time = self.allowance.left(Instant::now()) >= self.config.time_limit;
        if let (Some(key), Some(given_up)) = (key, given_up)
            && had_its_time
            && (self.given_up.len() < MAX_GIVEN_UP || self.given_up.contains_key(&key))
        {
            self.given_up.insert(key, given_up);
        }
        answers
    }

    /// Where the worker can open what is open here.
    fn own_fd(&self, file: &File) -> String {
        format!("/proc/{}/fd/{}", self.own, file.as_raw_fd())
    }

    fn ask(
        &mut self,
        object: &Object,
        addresses: &[u64],
        max_debug_info: u64,
    ) -> Result<Vec<CodeSymbol>, Reason> {
        let start = Instant::now();
        let limit = self.config.time_limit.min(self.allowance.left(start));
        if limit.is_zero() {
            return Err(Reason::TooSlow);
        }
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(&self.config).map_err(|_| Reason::NotStarted)?,
        };
        let request = Request {
            open: self.own_fd(&object.file),
            root: object.root.as_ref().map(|root| self.own_fd(root)),
            path: bytes(&object.path),
            addresses: addresses.to_vec(),
            max_debug_info,
            debug_dirs: self
                .config
                .debug_dirs
                .iter()
                .map(|dir| bytes(dir))
                .collect(),
        };
        let answers = worker.ask(&request, limit);
        self.allowance.spend(start.elapsed());
        let answers = answers?;
        if answers.len() != addresses.len() {
            return Err(Reason::Crashed);
        }
        self.worker = Some(worker);
        Ok(answers)
    }
}

/// A worker process; ended when dropped.
struct Worker {
    process: Child,
    requests: ChildStdin,
    answers: Receiver<Vec<CodeSymbol>>,
}

impl Worker {
    fn start(config: &Config) -> io::Result<Self> {
        let mut process = Command::new(&config.program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The Ctrl-C that ends a recording must not end what its end needs.
            .process_group(0)
            .spawn()?;
        let (Some(requests), Some(mut output)) = (process.stdin.take(), process.stdout.take())
        else {
            return Err(io::Error::other("the worker has no pipes"));
        };
        let (sender, answers) = mpsc::sync_channel(1);
        // A pipe cannot be read with a time limit, a channel can. The thread ends with the worker.
        let reader = thread::Builder::new()
            .name("symbol-answers".to_owned())
            .spawn(move || {
                while let Ok(Some(answer)) = receive(&mut output) {
                    if sender.send(answer).is_err() {
                        break;
                    }
                }
            });
        let worker = Self {
            process,
            requests,
            answers,
        };
        reader.map(|_| worker)
    }

    fn ask(&mut self, request: &Request, limit: Duration) -> Result<Vec<CodeSymbol>, Reason> {
        let until = Instant::now() + limit;
        send(&mut self.requests, request).map_err(|_| Reason::Crashed)?;
        let left = until.saturating_duration_since(Instant::now());
        self.answers
            .recv_timeout(left)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Reason::TooSlow,
                RecvTimeoutError::Disconnected => Reason::Crashed,
            })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; then there is only its status to collect.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
