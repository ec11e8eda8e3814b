//! The ring buffer of a perf event, shared with the kernel. What records mean is not known here.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use perf_event_open_sys::bindings::{perf_event_header, perf_event_mmap_page};

/// Bytes of a record's header.
const HEADER: usize = size_of::<perf_event_header>();

/// A mapped ring buffer, read by one reader.
#[derive(Debug)]
pub struct PerfRing {
    /// The page with the positions, followed by the data.
    base: NonNull<u8>,
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    broken: u64,
}

// SAFETY: the mapping belongs to this value alone and may be used from any thread.
unsafe impl Send for PerfRing {}

impl PerfRing {
    /// Maps the ring buffer of an event, with `pages` pages of data, a power of two. The event can
    /// be closed afterwards, but then writes no more.
    ///
    /// # Errors
    /// As `mmap(2)`: `EINVAL` for another number of pages, `EPERM` beyond the limit of locked
    /// memory.
    pub fn map(event: BorrowedFd<'_>, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let size = page
            .checked_mul(pages)
            .filter(|size| size.is_power_of_two() && isize::try_from(size + page).is_ok())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                page + size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            base,
            page,
            size,
            broken: 0,
        })
    }

    /// Bytes that the buffer holds.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How often what was in the buffer could not have been records, and was dropped.
    #[must_use]
    pub const fn broken(&self) -> u64 {
        self.broken
    }

    /// Copies each record that is there now into `record`, header included, and calls `each` with
    /// it. Records that come meanwhile are left for the next call, so this ends.
    pub fn drain(&mut self, record: &mut Vec<u8>, mut each: impl FnMut(&[u8])) {
        // What the kernel wrote before it moved the head is visible after this load.
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        while tail != head {
            let available = head.wrapping_sub(tail);
            if !self.copy_record(tail, available, record) {
                self.broken = self.broken.saturating_add(1);
                tail = head;
            } else {
                each(record);
                tail = tail.wrapping_add(record.len() as u64);
            }
            // The kernel may overwrite the record only after it was copied.
            self.tail().store(tail, Ordering::Release);
        }
    }

    /// Copies the record at `tail`; false if there can be none.
    fn copy_record(&self, tail: u64, available: u64, record: &mut Vec<u8>) -> bool {
        let Some(available) = usize::try_from(available)
            .ok()
            .filter(|available| (HEADER..=self.size).contains(available))
        else {
            return false;
        };
        let mut header = [0; HEADER];
        self.copy(tail, &mut header);
        let size = usize::from(u16::from_le_bytes([header[6], header[7]]));
        if !(HEADER..=available).contains(&size) {
            return false;
        }
        record.resize(size, 0);
        self.copy(tail, record);
        true
    }

    /// Copies bytes from position `at`, which may wrap around the end of the buffer.
    fn copy(&self, at: u64, out: &mut [u8]) {
        assert!(out.len() <= self.size, "checked by the caller");
        let begin = (at & (self.size as u64 - 1)) as usize;
        let first = out.len().min(self.size - begin);
        let (to_end, from_start) = out.split_at_mut(first);
        // SAFETY: `begin + first` and the length of the rest are at most `size`, which is what is
        // mapped behind the first page. The kernel does not write between tail and head, and `out`
        // is memory of this process alone.
        unsafe {
            let data = self.base.as_ptr().add(self.page);
            ptr::copy_nonoverlapping(data.add(begin), to_end.as_mut_ptr(), to_end.len());
            ptr::copy_nonoverlapping(data, from_start.as_mut_ptr(), from_start.len());
        }
    }

    fn head(&self) -> &AtomicU64 {
        let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: the first page of the mapping is such a page; the kernel writes the field as one
        // word, and the mapping lives as long as the reference.
        unsafe { AtomicU64::from_ptr(&raw mut (*page).data_head) }
    }

    fn tail(&self) -> &AtomicU64 {
        let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: as for the head; this process is the only one to write this field.
        unsafe { AtomicU64::from_ptr(&raw mut (*page).data_tail) }
    }
}

impl Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and nothing refers to it any longer.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.size) };
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _, os::unix::fs::FileExt as _};

    use super::*;

    const DATA: usize = 2 * 4096;
    const HEAD: u64 = std::mem::offset_of!(perf_event_mmap_page, data_head) as u64;
    const TAIL: u64 = std::mem::offset_of!(perf_event_mmap_page, data_tail) as u64;

    /// A file instead of an event: the test writes what otherwise the kernel does.
    fn ring(head: u64, tail: u64) -> (File, PerfRing) {
        let file = tempfile::tempfile().unwrap();
        file.set_len((4096 + DATA) as u64).unwrap();
        file.write_all_at(&head.to_le_bytes(), HEAD).unwrap();
        file.write_all_at(&tail.to_le_bytes(), TAIL).unwrap();
        let ring = PerfRing::map(file.as_fd(), 2).unwrap();
        (file, ring)
    }

    fn write(file: &File, at: u64, record: &[u8]) {
        for (byte, at) in record.iter().zip(at..) {
            let at = 4096 + at % DATA as u64;
            file.write_all_at(std::slice::from_ref(byte), at).unwrap();
        }
    }

    fn record(kind: u8, size: u16) -> Vec<u8> {
        let mut record = vec![kind; usize::from(size.max(8))];
        record[6..8].copy_from_slice(&size.to_le_bytes());
        record
    }

    fn drained(ring: &mut PerfRing) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        ring.drain(&mut Vec::new(), |record| records.push(record.to_vec()));
        records
    }

    fn tail(file: &File) -> u64 {
        let mut tail = [0; 8];
        file.read_exact_at(&mut tail, TAIL).unwrap();
        u64::from_le_bytes(tail)
    }

    #[test]
    fn records_are_whole_also_around_the_end_and_where_positions_overflow() {
        for begin in [0, DATA as u64 - 4, DATA as u64 - 24, 0u64.wrapping_sub(16)] {
            let records = [record(1, 16), record(2, 40), record(3, 8)];
            let (file, mut ring) = ring(begin.wrapping_add(64), begin);
            let mut at = begin % DATA as u64;
            for record in &records {
                write(&file, at, record);
                at += record.len() as u64;
            }
            assert_eq!(drained(&mut ring), records);
            assert_eq!(tail(&file), begin.wrapping_add(64));
            assert!(drained(&mut ring).is_empty());
            assert_eq!(ring.broken(), 0);
        }
    }

    #[test]
    fn impossible_sizes_drop_what_is_there_and_are_counted() {
        for size in [0, 7, 72, u16::MAX] {
            let (file, mut ring) = ring(64, 0);
            write(&file, 0, &record(1, 16));
            write(&file, 16, &record(2, size)[..8]);
            assert_eq!(drained(&mut ring), [record(1, 16)]);
            assert_eq!((ring.broken(), tail(&file)), (1, 64), "size {size}");
        }
    }

    #[test]
    fn a_head_out_of_reach_is_counted() {
        for head in [4, DATA as u64 + 8, u64::MAX] {
            let (file, mut ring) = ring(head, 0);
            assert!(drained(&mut ring).is_empty());
            assert_eq!((ring.broken(), tail(&file)), (1, head), "head {head}");
        }
    }

    #[test]
    fn other_numbers_of_pages_are_refused() {
        let file = tempfile::tempfile().unwrap();
        for pages in [0, 3, usize::MAX] {
            assert!(PerfRing::map(file.as_fd(), pages).is_err());
        }
    }
}
