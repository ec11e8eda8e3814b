//! A core's stacks as text, the way an oops and sysrq-t show them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    CoreDump,
    cpus::Cpu,
    names::{frame_name, printable},
    tasks::Task,
    walk::{self, Walked},
};
use crate::{
    classify::markers,
    unwind::{Frame, StopReason},
};

/// What to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Whether what the CPUs did is wanted.
    pub cpus: bool,
    /// Whether the tasks are.
    pub tasks: bool,
    /// Only tasks of these names; any if empty.
    pub comms: Vec<String>,
    /// Only these threads and those of these processes; any if empty.
    pub pids: Vec<u32>,
}

impl Selection {
    fn wants(&self, task: &Task) -> bool {
        let named = self.comms.is_empty() || self.comms.contains(&task.comm);
        let numbered =
            self.pids.is_empty() || self.pids.contains(&task.pid) || self.pids.contains(&task.tgid);
        named && numbered
    }

    fn is_filter(&self) -> bool {
        !self.comms.is_empty() || !self.pids.is_empty()
    }
}

/// What was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// CPUs.
    pub cpus: usize,
    /// Tasks, the running ones included.
    pub tasks: usize,
    /// Walks that reached the outermost frame.
    pub complete: usize,
    /// All walks.
    pub walks: usize,
    /// How many walks ended for each reason.
    pub stops: BTreeMap<&'static str, usize>,
}

impl Totals {
    fn count(&mut self, stop: &StopReason) {
        self.walks += 1;
        self.complete += usize::from(stop.is_complete());
        *self.stops.entry(stop.name()).or_default() += 1;
    }
}

/// Writes a core.
#[derive(Debug)]
pub struct Report<'a> {
    core: &'a CoreDump,
    totals: Totals,
}

impl<'a> Report<'a> {
    /// A report of nothing yet.
    #[must_use]
    pub fn new(core: &'a CoreDump) -> Self {
        Self {
            core,
            totals: Totals::default(),
        }
    }

    /// Writes what is selected, and an account of it.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(mut self, selection: &Selection, out: &mut impl Write) -> io::Result<Totals> {
        let core = self.core;
        writeln!(out, "{}", printable(&core.kernel.banner))?;
        if selection.cpus {
            for cpu in &core.cpus {
                self.cpu(cpu, selection, out)?;
            }
        }
        if selection.tasks {
            for task in core.idle.iter().chain(&core.list.tasks) {
                if selection.wants(task) {
                    self.task(task, selection, out)?;
                }
            }
        }
        self.account(out)?;
        Ok(self.totals)
    }

    fn cpu(&mut self, cpu: &Cpu, selection: &Selection, out: &mut impl Write) -> io::Result<()> {
        let core = self.core;
        let mut task = cpu.current.and_then(|address| core.task_at(address));
        let sp = cpu.note.map_or(0, |note| note.registers.sp);
        let mut switching = None;
        if let Some(other) = core.switching_to(cpu, task.as_ref(), sp) {
            switching = task.replace(other);
        }
        if selection.is_filter() && !task.as_ref().is_some_and(|task| selection.wants(task)) {
            return Ok(());
        }
        self.totals.cpus += 1;
        write!(out, "\nCPU {}", cpu.number)?;
        if let Some(task) = &task {
            write!(out, "  {}", who(task))?;
        }
        if let Some(before) = &switching {
            write!(out, "  being switched to from {}", who(before))?;
        }
        let walked = cpu.note.map(|note| {
            let stack = task
                .as_ref()
                .and_then(|task| task.known_stack(&core.layout));
            let registers = note.registers;
            let walked = walk::cpu(&core.kernel, &core.code.tables, cpu, stack, &registers);
            (registers, walked)
        });
        match walked {
            Some((registers, walked)) if registers.is_user_mode() => {
                self.totals.count(&walked.stop);
                writeln!(
                    out,
                    "  user mode at {:#x}, sp {:#x}: on the kernel's stack are only the registers \
                     of the next entry",
                    registers.ip, registers.sp
                )?;
            }
            Some((_, walked)) => self.trace(&walked, out)?,
            None => writeln!(out)?,
        }
        for unknown in &cpu.unknown {
            writeln!(out, " not known: {unknown}")?;
        }
        Ok(())
    }

    fn task(&mut self, task: &Task, selection: &Selection, out: &mut impl Write) -> io::Result<()> {
        let core = self.core;
        self.totals.tasks += 1;
        let running = core
            .cpus
            .iter()
            .find(|cpu| cpu.current == Some(task.address));
        if let Some(cpu) = running {
            // Its stack is that of its CPU, and has been shown there.
            let above = if selection.cpus { ", above" } else { "" };
            writeln!(out, "\n{}  running on CPU {}{above}", who(task), cpu.number)?;
            if !selection.cpus {
                self.running(cpu, task, out)?;
            }
            return Ok(());
        }
        write!(out, "\n{}  {}", who(task), task.state)?;
        match walk::task(&core.kernel, &core.code.tables, &core.layout, task) {
            Some(walked) => self.trace(&walked, out),
            None => writeln!(
                out,
                "  no stack: {}",
                match task.stack {
                    0 => "it has ended, and given it back".to_owned(),
                    stack => format!(
                        "its saved registers, on the stack at {stack:#x}, are not in the core"
                    ),
                }
            ),
        }
    }

    /// The stack of a running task whose CPU is not shown.
    fn running(&mut self, cpu: &Cpu, task: &Task, out: &mut impl Write) -> io::Result<()> {
        let core = self.core;
        let Some(note) = cpu.note else {
            return Ok(());
        };
        let stack = task.known_stack(&core.layout);
        let walked = walk::cpu(&core.kernel, &core.code.tables, cpu, stack, &note.registers);
        self.totals.count(&walked.stop);
        self.frames(&walked.frames, out)
    }

    /// The end of a heading, and the frames.
    fn trace(&mut self, walked: &Walked, out: &mut impl Write) -> io::Result<()> {
        self.totals.count(&walked.stop);
        let stop = walked.stop;
        match stop.is_complete() {
            true => writeln!(out, "  (complete: {})", stop.name())?,
            false => writeln!(out, "  (incomplete: {stop})")?,
        }
        self.frames(&walked.frames, out)
    }

    fn frames(&self, frames: &[Frame], out: &mut impl Write) -> io::Result<()> {
        let core = self.core;
        writeln!(out, "Call Trace:")?;
        let mut open = None;
        for frame in frames {
            if open != Some(frame.stack) {
                if let Some(open) = open {
                    writeln!(out, " {}", markers(open).1)?;
                }
                writeln!(out, " {}", markers(frame.stack).0)?;
                open = Some(frame.stack);
            }
            let doubt = if frame.reliable { "" } else { "? " };
            writeln!(out, "  {doubt}{}", frame_name(core, frame))?;
        }
        match open {
            Some(open) => writeln!(out, " {}", markers(open).1),
            None => Ok(()),
        }
    }

    fn account(&self, out: &mut impl Write) -> io::Result<()> {
        let Totals {
            cpus,
            tasks,
            complete,
            walks,
            stops,
        } = &self.totals;
        let stops: Vec<String> = stops
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        writeln!(
            out,
            "\n{cpus} CPU{}, {tasks} task{}",
            plural(*cpus),
            plural(*tasks)
        )?;
        match walks {
            0 => writeln!(out, "walks    none")?,
            _ => writeln!(
                out,
                "walks    {complete} of {walks} complete: {}",
                stops.join(", ")
            )?,
        }
        for line in self.core.code.unknown.iter().chain(&self.core.list.broken) {
            writeln!(out, "missing  {}", printable(line))?;
        }
        Ok(())
    }
}

impl CoreDump {
    /// The task whose stack a CPU is on, if it is not that of the task the CPU says it runs: it is
    /// in the middle of a switch.
    fn switching_to(&self, cpu: &Cpu, current: Option<&Task>, sp: u64) -> Option<Task> {
        let is_on = |task: &Task| {
            task.known_stack(&self.layout)
                .is_some_and(|stack| stack.holds(sp))
        };
        let known = cpu.stacks.iter().any(|stack| stack.holds(sp)) || current.is_some_and(is_on);
        let mut all = self.idle.iter().chain(&self.list.tasks);
        match known {
            true => None,
            false => all.find(|task| is_on(task)).cloned(),
        }
    }

    /// The task at an address, from the lists or, if they did not lead there, from memory.
    fn task_at(&self, address: u64) -> Option<Task> {
        self.idle
            .iter()
            .chain(&self.list.tasks)
            .find(|task| task.address == address)
            .cloned()
            .or_else(|| Task::read(&self.kernel, &self.layout, address).ok())
    }
}

fn who(task: &Task) -> String {
    format!("PID {}  {}", task.pid, printable(&task.comm))
}
