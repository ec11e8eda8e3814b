//! Reads of the memory of running processes, for code that is in no file.
//!
//! A page of memory may be of a file system or a memory whose owner takes any time to hand it over,
//! and a profiled process can arrange for that. So a thread reads, and nobody waits long for it.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use rustc_hash::FxHashMap;

use crate::sys::threads::living_thread;

/// Most processes whose memory is held open. It does not keep them, or their memory, alive.
const MAX_OPEN: usize = 64;
/// How many answers are kept for when a process is gone.
const MAX_KEPT: usize = 1024;
/// How long to wait for bytes. They take some microseconds.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many threads may get stuck. Then no more memory is read.
const MAX_STUCK: u32 = 4;

/// Bytes of a process that are wanted.
#[derive(Debug)]
struct Request {
    pid: u32,
    address: u64,
    len: usize,
}

/// A reading thread.
#[derive(Debug)]
struct Reader {
    requests: SyncSender<Request>,
    answers: Receiver<Vec<u8>>,
}

impl Reader {
    fn start() -> Option<Self> {
        let (requests, wanted) = sync_channel::<Request>(1);
        let (answer, answers) = sync_channel(1);
        let read = move || {
            let mut files = Files::default();
            while let Ok(request) = wanted.recv() {
                if answer.send(files.read(&request)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("stackwalk-code".to_owned());
        thread.spawn(read).ok()?;
        Some(Self { requests, answers })
    }
}

/// The memory files of processes.
#[derive(Debug, Default)]
struct Files(FxHashMap<u32, File>);

impl Files {
    /// The bytes that can be read, which may be none.
    fn read(&mut self, request: &Request) -> Vec<u8> {
        let mut bytes = vec![0; request.len];
        if let Some(file) = self.0.get(&request.pid)
            && let Ok(len @ 1..) = file.read_at(&mut bytes, request.address)
        {
            bytes.truncate(len);
            return bytes;
        }
        // What was open is the memory from before an `execve`, or of another process.
        self.0.remove(&request.pid);
        // A main thread that has ended has no memory while others go on.
        let task = living_thread(Path::new("/proc"), request.pid).unwrap_or(request.pid);
        let len = File::open(format!("/proc/{task}/mem")).and_then(|file| {
            let len = file.read_at(&mut bytes, request.address)?;
            if self.0.len() >= MAX_OPEN {
                self.0.clear();
            }
            self.0.insert(request.pid, file);
            Ok(len)
        });
        bytes.truncate(len.unwrap_or(0));
        bytes
    }
}

/// Reads the memory of processes.
#[derive(Debug, Default)]
pub(super) struct ProcessMemory {
    reader: Option<Reader>,
    stuck: u32,
    /// What was read last, by process and address. The last samples of a process are looked at
    /// when it is gone, and its code with it.
    kept: FxHashMap<(u32, u64), Vec<u8>>,
}

impl ProcessMemory {
    /// Copies bytes of a process into `buffer`, and returns how many. If it is gone, they are those
    /// that were last read, or none.
    pub(super) fn read(&mut self, pid: u32, address: u64, buffer: &mut [u8]) -> usize {
        let request = Request {
            pid,
            address,
            len: buffer.len(),
        };
        let mut bytes = self.ask(request).unwrap_or_default();
        if bytes.is_empty() {
            bytes = self.kept.get(&(pid, address)).cloned().unwrap_or_default();
        } else {
            if self.kept.len() >= MAX_KEPT {
                self.kept.clear();
            }
            self.kept.insert((pid, address), bytes.clone());
        }
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        len
    }

    fn ask(&mut self, request: Request) -> Option<Vec<u8>> {
        if self.reader.is_none() && self.stuck < MAX_STUCK {
            self.reader = Reader::start();
        }
        let reader = self.reader.as_ref()?;
        let answer = match reader.requests.send(request) {
            Ok(()) => reader.answers.recv_timeout(PATIENCE),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        if answer.is_err() {
            // An answer that comes late must not be taken for that of another request.
            self.reader = None;
            self.stuck += 1;
        }
        answer.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
    };

    use super::ProcessMemory;

    #[test]
    fn memory_of_a_process_is_read() {
        let text = *b"some bytes of this process";
        let mut memory = ProcessMemory::default();
        let mut buffer = [0; 26];
        let address = text.as_ptr().addr() as u64;
        for _ in 0..2 {
            buffer.fill(0);
            let len = memory.read(std::process::id(), address, &mut buffer);
            assert_eq!((len, buffer), (26, text));
        }
        assert_eq!(memory.read(std::process::id(), 8, &mut buffer), 0);
        assert_eq!(memory.read(u32::MAX, address, &mut buffer), 0);
        let len = memory.read(std::process::id(), address, &mut buffer);
        assert_eq!((len, memory.stuck), (26, 0), "no failure is for good");
    }

    #[test]
    fn the_code_of_a_process_that_is_gone_is_what_it_was() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let address = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let mut memory = ProcessMemory::default();
        let (mut before, mut after) = ([0; 16], [0; 16]);
        assert_eq!(memory.read(child.id(), address, &mut before), 16);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(memory.read(child.id(), address, &mut after), 16);
        assert_eq!(before, after);
        assert_eq!(memory.read(child.id(), address + 1, &mut after), 0);
    }
}
