//! How the allocator uses memory.

/// Lets all threads but the first, from now on, allocate from one pool.
///
/// glibc gives threads pools of their own and keeps what is freed in each of them: after hours a
/// recorder would hold the sum of all that its threads ever needed at one time or another, twice what
/// it needs. (To give memory back, by `malloc_trim`, takes seconds, in which nobody can allocate.)
/// The first thread, which takes samples, does not wait for the others. Other C libraries have no
/// such pools.
pub(crate) fn share_pool() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes numbers, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
