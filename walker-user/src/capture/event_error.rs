//! Why this kernel refuses an event, and what works instead.

use std::io;

use anyhow::anyhow;

use super::{
    clock,
    event::{EventSpec, Watchpoint},
    object::ObjectError,
};
use crate::{
    btf::Btf,
    sys::perf::{Attributes, Rate},
};

pub(super) fn explain_tracepoint(
    error: impl std::error::Error + Send + Sync + 'static,
    category: &str,
    name: &str,
) -> anyhow::Error {
    if category == "syscalls" {
        return anyhow!(
            "single system calls are no tracepoints of their own: use -e raw_syscalls:sys_enter, or \
             kprobe:__x64_sys_{} where there are kprobes",
            name.trim_start_matches("sys_enter_")
                .trim_start_matches("sys_exit_")
        );
    }
    let Ok(btf) = Btf::of_running_kernel() else {
        return error.into();
    };
    if btf.tracepoint_arguments(name).is_some() {
        return error.into();
    }
    let alike: Vec<&str> = btf
        .tracepoints()
        .filter(|known| known.contains(name) || (known.len() > 5 && name.contains(known)))
        .take(5)
        .collect();
    let hint = match alike.as_slice() {
        [] => String::new(),
        alike => format!("; similar ones are {}", alike.join(", ")),
    };
    anyhow!(
        "this kernel has no tracepoint `{name}`: `sudo perf list tracepoint` or \
         /sys/kernel/tracing/events shows those that are there{hint}"
    )
}

pub(super) fn explain_trampoline(
    error: &ObjectError,
    function: &str,
    at_end: bool,
) -> anyhow::Error {
    let kprobe = if at_end { "kretprobe" } else { "kprobe" };
    let reason = match error {
        // Whoever got here may load programs.
        ObjectError::Denied(io) => io.to_string(),
        other => other.to_string(),
    };
    let reason = reason.lines().next().unwrap_or_default();
    anyhow!(
        "the kernel refuses a trampoline at `{function}` ({reason}): it needs \
         DYNAMIC_FTRACE_WITH_DIRECT_CALLS, no lockdown, and a function that can be traced; \
         `-e {kprobe}:{function}` or a tracepoint may work"
    )
}

pub(super) fn explain_watch(
    error: io::Error,
    watch: &Watchpoint,
    spec: &EventSpec,
    cpu: u32,
) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => anyhow!(
            "CPU {cpu} has no debug register left (there are four): a debugger or another recording \
             uses them"
        ),
        Some(libc::EINVAL) => anyhow!(
            "the kernel refuses to watch {} bytes there: code and data that its own entry code \
             needs cannot be watched, nor can instructions of the kernel without kprobes, and x86 \
             cannot wait for reading alone (use rw)",
            watch.length
        ),
        Some(libc::EACCES | libc::EPERM) => clock::explain(
            error,
            &spec.name,
            cpu,
            &Attributes::new(0, 0, Rate::Period(1)),
        ),
        _ => anyhow!("cannot watch it on CPU {cpu}: {error}"),
    }
}
