//! The threads of a process as `/proc` shows them. A process is not its first thread: that may
//! have ended while others go on, and `/proc/PID` then has no memory, no mappings and no program.

use std::{fs, path::Path};

/// A thread of a process that has not ended: its first one if possible. `/proc/TID` of it shows
/// what belongs to the process. `proc` is where `/proc` is.
#[must_use]
pub fn living_thread(proc: &Path, pid: u32) -> Option<u32> {
    let lives =
        |tid: u32| state_and_start(proc, pid, tid).is_some_and(|(state, _)| !has_ended(state));
    if lives(pid) {
        return Some(pid);
    }
    let tasks = fs::read_dir(proc.join(format!("{pid}/task"))).ok()?;
    tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .find(|tid| lives(*tid))
}

/// Whether a thread in this state has ended.
#[must_use]
pub const fn has_ended(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// State and start time of a thread. `proc_pid_stat(5)`, fields 3 and 22; the name before them is
/// in parentheses and may itself hold anything.
#[must_use]
pub fn state_and_start(proc: &Path, pid: u32, tid: u32) -> Option<(char, u64)> {
    let stat = fs::read(proc.join(format!("{pid}/task/{tid}/stat"))).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let after_name = str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(proc: &Path, pid: u32, tid: u32, state: char) {
        let folder = proc.join(format!("{pid}/task/{tid}"));
        fs::create_dir_all(&folder).unwrap();
        let zeros = "0 ".repeat(18);
        let stat = [b"7 (\xff) x) ", format!("{state} {zeros}99 0").as_bytes()].concat();
        fs::write(folder.join("stat"), stat).unwrap();
    }

    #[test]
    fn a_process_lives_while_one_of_its_threads_does() {
        let proc = tempfile::tempdir().unwrap();
        let proc = proc.path();
        task(proc, 7, 7, 'S');
        task(proc, 7, 8, 'S');
        assert_eq!(living_thread(proc, 7), Some(7));
        assert_eq!(state_and_start(proc, 7, 7), Some(('S', 99)));
        task(proc, 7, 7, 'Z');
        assert_eq!(living_thread(proc, 7), Some(8));
        task(proc, 7, 8, 'X');
        assert_eq!(living_thread(proc, 7), None);
        assert_eq!(living_thread(proc, 9), None);
    }
}
