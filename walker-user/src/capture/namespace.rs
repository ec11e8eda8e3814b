//! Which PID namespace this process is in, and whether `/proc` is of the same. How tasks are
//! numbered there is the business of the BPF programs.

use std::fs;

use anyhow::{Context as _, ensure};

/// The initial PID namespace has this inode in every kernel (`PROC_PID_INIT_INO`,
/// `include/linux/proc_ns.h`).
const INITIAL: &str = "pid:[4026531836]";

/// Whether it is the initial one.
///
/// # Errors
/// If `/proc` is not there or shows the processes of another namespace, whose numbers mean others.
pub fn is_initial() -> anyhow::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")
        .context("cannot read /proc/self/status: mount /proc (`mount -t proc proc /proc`)")?;
    ensure!(
        is_of_this_process(&status, std::process::id()),
        "/proc shows the processes of another PID namespace, whose numbers mean other processes \
         here: mount this one's (`mount -t proc proc /proc`, or `unshare --mount-proc`)"
    );
    let namespace = fs::read_link("/proc/self/ns/pid")
        .context("cannot read which PID namespace this is (/proc/self/ns/pid)")?;
    Ok(namespace.as_os_str() == INITIAL)
}

/// Whether a status is that of process `pid` as its own namespace numbers it: `NSpid` has a number for
/// each namespace from that of `/proc` down to the process's.
fn is_of_this_process(status: &str, pid: u32) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    // Without namespaces in the kernel there is no such line.
    numbers.is_none_or(|numbers| numbers.trim() == pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_of_another_namespace_is_noticed() {
        assert!(is_of_this_process("Name:\tx\nNSpid:\t17\n", 17));
        assert!(!is_of_this_process("Name:\tx\nNSpid:\t4711\t17\n", 17));
        assert!(!is_of_this_process("NSpid:\t4711\n", 17));
        assert!(is_of_this_process("Name:\tx\n", 17));
    }
}
