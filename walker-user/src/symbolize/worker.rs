//! The process that reads symbols out of files that users wrote: its main function, and how it is
//! talked to.
//!
//! It is this program again, started with [`ARGUMENT`]. It answers requests until its input ends.
//! Whatever a file does to it, it can only end; [`super::service`] notices and starts another.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    process::ExitCode,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{CodeSymbol, lookup};
use crate::sys::{confine, process};

/// The only argument of a worker process.
pub const ARGUMENT: &str = "--symbol-worker";

/// Most memory of a worker, without the files it maps, in bytes.
const MAX_MEMORY: u64 = 3 << 30;
/// Longest message, in bytes.
const MAX_MESSAGE: u32 = 256 << 20;

/// Runs as a worker if this process was started as one. To be called first in `main`, before the
/// arguments are read.
#[must_use]
pub fn main_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(ARGUMENT)) || arguments.next().is_some() {
        return None;
    }
    // It was started as `/proc/self/exe`.
    process::name_thread(c"stackwalk-names");
    let served = confine::confine(MAX_MEMORY).and_then(|()| serve(io::stdin(), io::stdout()));
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve(mut requests: impl Read, mut answers: impl Write) -> io::Result<()> {
    while let Some(request) = receive(&mut requests)? {
        let answer: Vec<CodeSymbol> = lookup::symbolize(&request);
        send(&mut answers, &answer)?;
    }
    Ok(())
}

/// Writes one message: its length in four bytes, then JSON.
///
/// # Errors
/// If it is too long, or as the writer.
pub(super) fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("the message is too long"));
    }
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)?;
    out.flush()
}

/// Reads one message; `None` at the end.
///
/// # Errors
/// If it is no message or too long, or as the reader.
pub(super) fn receive<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => input.read_exact(&mut length[1..])?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("the message is too long"));
    }
    let mut bytes = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
