//! Writes the chunks of a recording, on a thread of its own, so that a slow disk does not hold the
//! capture up. How much waits is bounded; what to do when there is no room is decided by
//! [`super::sink`].

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::chunk::{Kind, Packer, file_header};

/// The most bytes that wait to be written, before they are packed.
const MAX_WAITING: usize = 16 << 20;

/// A chunk to be written.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    first: u64,
    raw: Vec<u8>,
}

/// What the thread shares with its owner.
#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    written: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

impl Shared {
    fn failure(&self) -> Option<io::Error> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // An error of the system is all there can be, and that can be told twice.
        failed.as_ref().map(|error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        })
    }
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer {
    chunks: Option<Sender<Waiting>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes to a file, which is empty.
    ///
    /// # Errors
    /// If the file's header cannot be written, or there can be no thread.
    pub fn start(mut file: File) -> io::Result<Self> {
        let packer = Packer::new()?;
        file.write_all(&file_header())?;
        let shared = Arc::new(Shared::default());
        let (chunks, queue) = channel();
        let thread = thread::Builder::new()
            .name("stackwalk-file".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_all(file, packer, &queue, &shared)
            })?;
        Ok(Self {
            chunks: Some(chunks),
            shared,
            thread: Some(thread),
        })
    }

    /// Whether more chunks may be written, so that not too much waits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) < MAX_WAITING
    }

    /// Writes a chunk when its turn comes. Nothing happens after a failure.
    pub fn write(&self, kind: Kind, raw: Vec<u8>) {
        self.write_from(kind, 0, raw);
    }

    /// The same with the number of the chunk's first row.
    pub fn write_from(&self, kind: Kind, first: u64, raw: Vec<u8>) {
        self.shared.waiting.fetch_add(raw.len(), Ordering::Relaxed);
        if let Some(chunks) = &self.chunks {
            // The thread is there until it is told to end.
            let _sent = chunks.send(Waiting { kind, first, raw });
        }
    }

    /// Why nothing is written any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        self.shared.failure()
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends; returns the bytes of the file.
    ///
    /// # Errors
    /// If something could not be written. The file then ends with its last whole chunk.
    pub fn finish(mut self) -> io::Result<u64> {
        self.join();
        match self.shared.failure() {
            Some(error) => Err(error),
            None => Ok(self.written()),
        }
    }

    fn join(&mut self) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, what it wrote is still good.
            let _ended = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

fn write_all(mut file: File, mut packer: Packer, queue: &Receiver<Waiting>, shared: &Shared) {
    let mut end = super::chunk::FILE_HEADER_BYTES as u64;
    shared.written.store(end, Ordering::Relaxed);
    while let Ok(Waiting { kind, first, raw }) = queue.recv() {
        let failed = shared.failure().is_some();
        let result = match failed {
            true => Ok(()),
            false => packer.pack(kind, first, &raw).and_then(|chunk| {
                file.write_all(&chunk)?;
                end += chunk.len() as u64;
                Ok(())
            }),
        };
        shared.waiting.fetch_sub(raw.len(), Ordering::Relaxed);
        shared.written.store(end, Ordering::Relaxed);
        if let Err(error) = result {
            // A pipe or device cannot be cut, and then a reader says that its end is torn.
            let _cut = file
                .set_len(end)
                .and_then(|()| file.seek(io::SeekFrom::Start(end)));
            *shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recording::chunk::{ChunkReader, Next};

    #[test]
    fn chunks_are_written_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Writer::start(file.reopen().unwrap()).unwrap();
        for number in 0..50u8 {
            writer.write(Kind::Tables, vec![number; 1000]);
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, fs::metadata(file.path()).unwrap().len());
        let mut reader = ChunkReader::open(file.reopen().unwrap()).unwrap();
        for number in 0..50u8 {
            let Next::Chunk(header) = reader.next().unwrap() else {
                panic!("no chunk {number}");
            };
            assert_eq!(reader.payload(&header).unwrap().unwrap(), [number; 1000]);
        }
        assert_eq!(reader.next().unwrap(), Next::End);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_the_queue_still_empties() {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        assert!(Writer::start(full.try_clone().unwrap()).is_err());
        // A file of which only the header fits.
        let (read, write) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(write));
        let writer = Writer::start(file).unwrap();
        drop(read);
        for _ in 0..100 {
            writer.write(Kind::Evidence, vec![0; 1 << 20]);
        }
        assert_eq!(
            writer.finish().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
