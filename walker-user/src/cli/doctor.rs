//! `stackwalk doctor`: what this kernel and this user allow, what is missing, and what to do.

use std::{fs, io::Write, process::ExitCode};

use walker_common::maps::names;

use crate::{
    btf::Btf,
    capture::{
        clock, namespace,
        session::{Prepared, Setup, online_cpus, prepare},
    },
    kernel::{kallsyms::Kallsyms, offsets::Offsets, orc_source},
    sys::perf::SamplingEvent,
};

/// The capabilities that are used, with their bits.
const CAPABILITIES: [(&str, u32); 4] = [
    ("cap_perfmon", 38),
    ("cap_bpf", 39),
    ("cap_syslog", 34),
    ("cap_sys_ptrace", 19),
];
const CAP_SYS_ADMIN: u32 = 21;

/// How much a finding matters.
enum Verdict {
    Good,
    /// Works, but less well.
    Note,
    /// `record` does not work.
    Bad,
}

struct Report<W: Write> {
    out: W,
    bad: bool,
}

impl<W: Write> Report<W> {
    fn say(&mut self, verdict: &Verdict, what: &str, finding: &str) -> anyhow::Result<()> {
        let mark = match verdict {
            Verdict::Good => "ok  ",
            Verdict::Note => "note",
            Verdict::Bad => "BAD ",
        };
        self.bad |= matches!(verdict, Verdict::Bad);
        writeln!(self.out, "{mark} {what:<16} {finding}")?;
        Ok(())
    }

    fn judge<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        result: Result<T, E>,
        good: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => {
                self.say(&Verdict::Good, what, &good(&value))?;
                Ok(Some(value))
            }
            Err(error) => {
                self.say(&Verdict::Bad, what, &format!("{error:#}"))?;
                Ok(None)
            }
        }
    }
}

pub(super) fn doctor() -> anyhow::Result<ExitCode> {
    let mut report = Report {
        out: std::io::stdout().lock(),
        bad: false,
    };
    let release = read("/proc/sys/kernel/osrelease");
    let machine = std::env::consts::ARCH;
    if machine == "x86_64" {
        report.say(
            &Verdict::Good,
            "kernel",
            &format!("Linux {release} on {machine}"),
        )?;
    } else {
        report.say(
            &Verdict::Bad,
            "kernel",
            &format!("{machine} is not supported, only x86_64"),
        )?;
    }
    privileges(&mut report)?;
    restrictions(&mut report)?;
    events(&mut report)?;
    types_and_symbols(&mut report)?;

    let prepared = prepare(&Setup::without_samples()).and_then(|mut prepared| {
        prepared.object.load_perf(names::PROG_CAPTURE)?;
        Ok(prepared)
    });
    let prepared = report.judge("BPF programs", prepared, |_| "load and run".to_owned())?;
    if let Some(prepared) = prepared {
        kernel(&mut report, prepared)?;
    }
    let verdict = if report.bad {
        "record will not work here; the lines marked BAD say what to do"
    } else {
        "record works here"
    };
    writeln!(report.out, "\n{verdict}")?;
    Ok(if report.bad {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn privileges<W: Write>(report: &mut Report<W>) -> anyhow::Result<()> {
    let status = read("/proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let effective = effective.unwrap_or(0);
    let has = |bit: u32| effective & 1 << bit != 0 || effective & 1 << CAP_SYS_ADMIN != 0;
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| !has(*bit))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        report.say(&Verdict::Good, "privileges", "all that are needed")
    } else {
        let finding = format!(
            "missing {}: run with sudo, or `sudo setcap {}+ep PATH-OF-STACKWALK`",
            missing.join(", "),
            missing.join(",")
        );
        report.say(&Verdict::Bad, "privileges", &finding)
    }
}

fn restrictions<W: Write>(report: &mut Report<W>) -> anyhow::Result<()> {
    let lockdown = read("/sys/kernel/security/lockdown");
    if lockdown.contains("[confidentiality]") {
        let finding = "lockdown=confidentiality keeps BPF programs from reading kernel memory: \
                       boot with lockdown=integrity or none";
        report.say(&Verdict::Bad, "lockdown", finding)?;
    }
    match namespace::is_initial() {
        Ok(true) => {}
        Ok(false) => report.say(
            &Verdict::Note,
            "PID namespace",
            "not the host's: processes are those of this one, others are not sampled",
        )?,
        Err(error) => report.say(&Verdict::Bad, "PID namespace", &format!("{error:#}"))?,
    }
    if read("/proc/sys/net/core/bpf_jit_enable") == "0" {
        let finding =
            "off, so sampling costs several times more: `sysctl net.core.bpf_jit_enable=1`";
        report.say(&Verdict::Note, "BPF JIT", finding)?;
    }
    Ok(())
}

fn events<W: Write>(report: &mut Report<W>) -> anyhow::Result<()> {
    let timer = SamplingEvent::open(&clock::attributes(clock::CPU_CLOCK, 99), 0);
    report.judge("perf events", timer, |_| {
        let limit = clock::max_frequency().map_or("unknown".to_owned(), |limit| limit.to_string());
        format!("allowed, up to {limit} Hz")
    })?;
    match SamplingEvent::open(&clock::attributes(clock::CYCLES, 99), 0) {
        Ok(_) => report.say(
            &Verdict::Good,
            "hardware cycles",
            "counted; samples come as NMIs",
        ),
        Err(error) => {
            let finding = format!(
                "not counted here ({error}): samples come from a timer, and code that runs with \
                 interrupts off shows up where it turns them on again"
            );
            report.say(&Verdict::Note, "hardware cycles", &finding)
        }
    }
}

fn types_and_symbols<W: Write>(report: &mut Report<W>) -> anyhow::Result<()> {
    let btf = report.judge("types (BTF)", Btf::of_running_kernel(), |_| {
        Btf::KERNEL_PATH.to_owned()
    })?;
    if let Some(btf) = btf {
        report.judge("field offsets", Offsets::from_btf(&btf), |_| {
            "all found".to_owned()
        })?;
    }
    let symbols = report.judge(
        "kallsyms",
        Kallsyms::of_running_kernel(),
        |symbols| match symbols.kernel_text() {
            Ok(text) => format!("kernel text {:#x} to {:#x}", text.begin, text.end),
            Err(error) => error.to_string(),
        },
    )?;
    if let Some(symbols) = symbols {
        let bounds = match orc_source::by_symbols(&symbols) {
            Some(_) => "by the bounds in kallsyms",
            None => "by the addresses in the unwinder's code",
        };
        report.say(&Verdict::Good, "ORC is found", bounds)?;
    }
    Ok(())
}

fn kernel<W: Write>(report: &mut Report<W>, mut prepared: Prepared) -> anyhow::Result<()> {
    let kernel = &prepared.kernel;
    let (tables, entries) = (
        kernel.sampled.tables.orc.len(),
        kernel
            .sampled
            .tables
            .orc
            .iter()
            .map(crate::unwind::orc::OrcTable::len)
            .sum::<usize>(),
    );
    if tables == 0 {
        report.say(
            &Verdict::Note,
            "unwind tables",
            "none: this kernel is walked by frame pointers",
        )?;
    } else {
        let finding = format!("ORC, {entries} entries in {tables} tables");
        report.say(&Verdict::Good, "unwind tables", &finding)?;
    }
    if kernel.unreadable_modules > 0 {
        let finding = format!(
            "{} modules' tables could not be read",
            kernel.unreadable_modules
        );
        report.say(&Verdict::Note, "modules", &finding)?;
    }
    let online = online_cpus()?;
    let known = kernel.cpus().count();
    let verdict = if known < online.len() {
        Verdict::Note
    } else {
        Verdict::Good
    };
    report.say(
        &verdict,
        "stacks",
        &format!("known for {known} of {} CPUs", online.len()),
    )?;
    let bpf = prepared.bpf_text();
    let finding = if bpf.is_empty() {
        "cannot be listed: their frames get names only from kallsyms".to_owned()
    } else {
        format!("{} pieces listed", bpf.len())
    };
    let verdict = if bpf.is_empty() {
        Verdict::Note
    } else {
        Verdict::Good
    };
    report.say(&verdict, "BPF text", &finding)
}

/// A small file of the kernel's, or nothing.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
