//! Finds the names of user-space addresses on a thread of its own: a large file takes seconds, and
//! neither the capture nor the view waits for it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use rustc_hash::FxHashMap;

use crate::{
    resolve::Holder,
    symbolize::{CodeSymbol, Object, Reason, UserSymbols, perf_map::PerfMapFile, service},
    sys::privileges::{self, Capability},
};

/// Where names are to be looked for.
#[derive(Debug)]
pub enum Source {
    /// In a file.
    Object(Arc<Object>),
    /// Nowhere: the file with this name cannot be read, or there is none.
    Nowhere(String, Reason),
    /// In the perf map of a process, if it has one.
    Jit(Option<PerfMapFile>),
}

/// Addresses of one piece of code that want names.
#[derive(Debug)]
pub struct Request {
    /// The code.
    pub holder: Holder,
    /// The addresses, of return addresses the byte before.
    pub addresses: Vec<u64>,
    /// Where to look.
    pub source: Source,
}

/// The names of addresses of one piece of code.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) holder: Holder,
    pub(super) names: HashMap<u64, Arc<CodeSymbol>>,
}

/// Requests that wait, those of one piece of code as one.
#[derive(Debug, Default)]
struct Waiting(FxHashMap<Holder, (Source, Vec<u64>)>);

impl Waiting {
    fn add(&mut self, request: Request) {
        let entry = self.0.entry(request.holder);
        let (source, addresses) = entry.or_insert_with(|| (Source::Jit(None), Vec::new()));
        *source = request.source;
        addresses.extend(request.addresses);
    }

    /// Waits for a request; `false` if none can come.
    fn fill(&mut self, requests: &Receiver<Request>) -> bool {
        let Ok(request) = requests.recv() else {
            return false;
        };
        self.add(request);
        self.take_more(requests);
        true
    }

    fn take_more(&mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.try_recv() {
            self.add(request);
        }
    }

    /// The smallest file first: a large one takes seconds, and most names are in small ones.
    fn next(&mut self) -> Option<(Holder, Source, Vec<u64>)> {
        let size = |source: &Source| match source {
            Source::Object(object) => object.file.metadata().map_or(0, |metadata| metadata.len()),
            Source::Nowhere(..) | Source::Jit(_) => 0,
        };
        let smallest = self.0.iter().min_by_key(|(_, (source, _))| size(source));
        let holder = *smallest?.0;
        let (source, addresses) = self.0.remove(&holder)?;
        Some((holder, source, addresses))
    }
}

/// What it takes to read files of all users.
fn kept() -> Vec<Capability> {
    let mut kept = vec![Capability::CAP_DAC_READ_SEARCH];
    // A program whose file has capabilities is closed to the process that reads symbols, even
    // though it is its own.
    if privileges::effective_user() != 0 {
        kept.push(Capability::CAP_SYS_PTRACE);
    }
    kept
}

/// Starts the thread. It ends when no more requests can come, or nobody wants the answers.
pub(super) fn start(
    answer: impl Fn(Named) -> bool + Send + 'static,
) -> io::Result<Sender<Request>> {
    let (sender, requests): (Sender<Request>, Receiver<Request>) = channel();
    privileges::start(
        "names",
        || {
            // What reads symbols has no more than the thread that starts it.
            privileges::keep(&kept())?;
            UserSymbols::new(service::Config::default())
        },
        move |mut symbols| {
            let mut waiting = Waiting::default();
            while waiting.fill(&requests) {
                while let Some((holder, source, addresses)) = waiting.next() {
                    let names = match &source {
                        Source::Object(object) => symbols.object(object, &addresses),
                        Source::Nowhere(name, reason) => {
                            symbols.without_file(name, &addresses, *reason)
                        }
                        Source::Jit(map) => symbols.jit_file(map.as_ref(), &addresses),
                    };
                    if !answer(Named { holder, names }) {
                        return;
                    }
                    waiting.take_more(&requests);
                }
            }
        },
    )?;
    Ok(sender)
}
