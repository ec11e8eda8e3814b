//! Finds the names of user-space addresses on a thread of its own: a large file takes seconds, and
//! neither the capture nor the view waits for it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use crate::{
    resolve::Holder,
    symbolize::{CodeSymbol, Object, Reason, UserSymbols, perf_map::PerfMapFile, service},
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

/// Starts the thread. It ends when no more requests can come, or nobody wants the answers.
pub(super) fn start(
    answer: impl Fn(Named) -> bool + Send + 'static,
) -> io::Result<Sender<Request>> {
    let mut symbols = UserSymbols::new(service::Config::default())?;
    let (sender, requests): (Sender<Request>, Receiver<Request>) = channel();
    thread::Builder::new()
        .name("names".to_owned())
        .spawn(move || {
            for request in requests {
                let addresses = &request.addresses;
                let names = match &request.source {
                    Source::Object(object) => symbols.object(object, addresses),
                    Source::Nowhere(name, reason) => symbols.without_file(name, addresses, *reason),
                    Source::Jit(map) => symbols.jit_file(map.as_ref(), addresses),
                };
                let holder = request.holder;
                if !answer(Named { holder, names }) {
                    return;
                }
            }
        })?;
    Ok(sender)
}
