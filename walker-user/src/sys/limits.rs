//! What the kernel lets this process have.

/// How many files this process may have open at once.
#[must_use]
pub fn open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_the_one_that_proc_shows() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let shown = line.unwrap().split_whitespace().nth(3).unwrap();
        assert_eq!(super::open_files(), shown.parse::<u64>().unwrap());
    }
}
