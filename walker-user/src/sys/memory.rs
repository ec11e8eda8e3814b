//! Memory that was freed, given back to the kernel.

/// Gives back what the allocator keeps of freed memory. Takes some milliseconds.
///
/// glibc keeps most of what threads free for them, for good: after hours a recorder would hold the
/// sum of all that its threads ever needed. Other C libraries give it back by themselves.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and may be called at any time and from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
