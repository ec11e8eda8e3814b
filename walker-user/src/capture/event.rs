//! What can be asked for with `-e`: the names of events, as perf and bpftrace have them.
//!
//! Only what is asked is decided here. Whether this kernel has it, and how it is opened, is the
//! job of `events`.

use std::{fmt, path::PathBuf, str::FromStr};

use perf_event_open_sys::bindings;
use thiserror::Error;

/// An event that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSpec {
    /// As it was written, by which it is told from others in every output.
    pub name: String,
    /// What it is.
    pub kind: EventKind,
}

/// A kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A number of the perf subsystem.
    Perf(PerfEvent),
    /// A debug register.
    Watch(Watchpoint),
    /// A tracepoint of the kernel.
    Tracepoint {
        /// Its subsystem, such as `sched`.
        category: String,
        /// Its name.
        name: String,
    },
    /// An instruction of the kernel, or the return of a function.
    Kprobe {
        /// The function.
        function: String,
        /// Offset in it.
        offset: u64,
        /// Its return.
        returns: bool,
    },
    /// The beginning of a function of the kernel, by a trampoline.
    Entry {
        /// The function.
        function: String,
    },
    /// Its end.
    Exit {
        /// The function.
        function: String,
    },
    /// An instruction of a user-space binary, or the return of a function.
    Uprobe {
        /// The binary.
        binary: PathBuf,
        /// The function, or nothing if `offset` is one in the file.
        symbol: Option<String>,
        /// Offset in the function or in the file.
        offset: u64,
        /// Its return.
        returns: bool,
    },
}

/// An event of the perf subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerfEvent {
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// Where it counts.
    pub modifiers: Modifiers,
}

impl PerfEvent {
    /// Whether it is one that the CPU counts.
    #[must_use]
    pub const fn is_hardware(&self) -> bool {
        self.kind != bindings::PERF_TYPE_SOFTWARE
    }

    /// Whether it measures time, so that a frequency means what it says.
    #[must_use]
    pub const fn is_clock(&self) -> bool {
        self.kind == bindings::PERF_TYPE_SOFTWARE
            && (self.config == bindings::PERF_COUNT_SW_CPU_CLOCK as u64
                || self.config == bindings::PERF_COUNT_SW_TASK_CLOCK as u64)
    }

    /// Whether the scheduler reports it, with registers that it makes up.
    #[must_use]
    pub const fn is_of_scheduler(&self) -> bool {
        self.kind == bindings::PERF_TYPE_SOFTWARE
            && (self.config == bindings::PERF_COUNT_SW_CONTEXT_SWITCHES as u64
                || self.config == bindings::PERF_COUNT_SW_CPU_MIGRATIONS as u64
                || self.config == bindings::PERF_COUNT_SW_CGROUP_SWITCHES as u64)
    }
}

/// What stands behind the last colon of a perf event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// `u`: in user mode.
    pub user: bool,
    /// `k`: in the kernel.
    pub kernel: bool,
    /// How many `p`: how exact the address is to be.
    pub precise: u8,
}

/// A watchpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchpoint {
    /// What is watched.
    pub place: WatchPlace,
    /// Bytes: 1, 2, 4 or 8.
    pub length: u64,
    /// `HW_BREAKPOINT_*`.
    pub access: u32,
}

/// Where a watchpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchPlace {
    /// At an address, of the kernel or of the target.
    Address(u64),
    /// At a variable of the kernel, perhaps a per-CPU one, or a member of it.
    Symbol(String),
    /// At a variable of a binary that the target has mapped.
    Binary {
        /// The variable.
        symbol: String,
        /// The binary.
        binary: PathBuf,
    },
}

/// `HW_BREAKPOINT_R`, `_W` and `_X` (`include/uapi/linux/hw_breakpoint.h`).
const READ: u32 = 1;
const WRITE: u32 = 2;
const EXECUTE: u32 = 4;
/// Bytes that are watched if nothing is said.
const WATCH_LENGTH: u64 = 4;

/// Software events: perf's names.
const SOFTWARE: &[(&str, u32)] = &[
    ("cpu-clock", bindings::PERF_COUNT_SW_CPU_CLOCK),
    ("task-clock", bindings::PERF_COUNT_SW_TASK_CLOCK),
    ("page-faults", bindings::PERF_COUNT_SW_PAGE_FAULTS),
    ("faults", bindings::PERF_COUNT_SW_PAGE_FAULTS),
    ("context-switches", bindings::PERF_COUNT_SW_CONTEXT_SWITCHES),
    ("cs", bindings::PERF_COUNT_SW_CONTEXT_SWITCHES),
    ("cpu-migrations", bindings::PERF_COUNT_SW_CPU_MIGRATIONS),
    ("migrations", bindings::PERF_COUNT_SW_CPU_MIGRATIONS),
    ("minor-faults", bindings::PERF_COUNT_SW_PAGE_FAULTS_MIN),
    ("major-faults", bindings::PERF_COUNT_SW_PAGE_FAULTS_MAJ),
    ("alignment-faults", bindings::PERF_COUNT_SW_ALIGNMENT_FAULTS),
    ("emulation-faults", bindings::PERF_COUNT_SW_EMULATION_FAULTS),
    ("cgroup-switches", bindings::PERF_COUNT_SW_CGROUP_SWITCHES),
];

/// Hardware events: perf's names.
const HARDWARE: &[(&str, u32)] = &[
    ("cycles", bindings::PERF_COUNT_HW_CPU_CYCLES),
    ("cpu-cycles", bindings::PERF_COUNT_HW_CPU_CYCLES),
    ("instructions", bindings::PERF_COUNT_HW_INSTRUCTIONS),
    ("cache-references", bindings::PERF_COUNT_HW_CACHE_REFERENCES),
    ("cache-misses", bindings::PERF_COUNT_HW_CACHE_MISSES),
    ("branches", bindings::PERF_COUNT_HW_BRANCH_INSTRUCTIONS),
    (
        "branch-instructions",
        bindings::PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
    ),
    ("branch-misses", bindings::PERF_COUNT_HW_BRANCH_MISSES),
    ("bus-cycles", bindings::PERF_COUNT_HW_BUS_CYCLES),
    (
        "stalled-cycles-frontend",
        bindings::PERF_COUNT_HW_STALLED_CYCLES_FRONTEND,
    ),
    (
        "stalled-cycles-backend",
        bindings::PERF_COUNT_HW_STALLED_CYCLES_BACKEND,
    ),
    ("ref-cycles", bindings::PERF_COUNT_HW_REF_CPU_CYCLES),
];

/// Caches, in the order of their numbers (`enum perf_hw_cache_id`).
const CACHES: [&str; 7] = [
    "L1-dcache",
    "L1-icache",
    "LLC",
    "dTLB",
    "iTLB",
    "branch",
    "node",
];
/// What is done to them, and the numbers of the operation and of its result.
const CACHE_OPERATIONS: [(&str, u64, u64); 6] = [
    ("loads", 0, 0),
    ("load-misses", 0, 1),
    ("stores", 1, 0),
    ("store-misses", 1, 1),
    ("prefetches", 2, 0),
    ("prefetch-misses", 2, 1),
];

/// Why something is not an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// No event is called that.
    #[error(
        "no event is called `{0}`: it can be one of {known}, CATEGORY:TRACEPOINT, \
         mem:ADDRESS[/BYTES][:rw] (also VARIABLE of the kernel, VARIABLE@BINARY of the target), kprobe:FUNCTION, kretprobe:FUNCTION, fentry:FUNCTION, \
         fexit:FUNCTION, uprobe:BINARY:SYMBOL or uretprobe:BINARY:SYMBOL",
        known = known_names()
    )]
    Unknown(String),
    /// Something is missing or too much.
    #[error("`{event}` is not complete: it is written {form}")]
    Form {
        /// What was given.
        event: String,
        /// How it is written.
        form: &'static str,
    },
    /// A watchpoint that no debug register can be.
    #[error("`{event}`: {problem}")]
    Watch {
        /// What was given.
        event: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn known_names() -> String {
    let names = SOFTWARE.iter().chain(HARDWARE).map(|(name, _)| *name);
    names.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for EventSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for EventSpec {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        Ok(Self {
            name: text.to_owned(),
            kind: kind_of(text)?,
        })
    }
}

impl EventSpec {
    /// A software clock or counter, by perf's name.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        name.parse().expect("a name from the table")
    }
}

fn kind_of(text: &str) -> Result<EventKind, EventError> {
    let form = |form| EventError::Form {
        event: text.to_owned(),
        form,
    };
    let Some((first, rest)) = text.split_once(':') else {
        return perf_event(text, Modifiers::default()).ok_or(EventError::Unknown(text.to_owned()));
    };
    match first {
        "mem" => watchpoint(text, rest),
        "kprobe" | "kretprobe" => {
            let (function, offset) = with_offset(rest).ok_or(form("kprobe:FUNCTION[+OFFSET]"))?;
            Ok(EventKind::Kprobe {
                function: function.to_owned(),
                offset,
                returns: first == "kretprobe",
            })
        }
        "fentry" | "fexit" if rest.is_empty() => Err(form("fentry:FUNCTION or fexit:FUNCTION")),
        "fentry" => Ok(EventKind::Entry {
            function: rest.to_owned(),
        }),
        "fexit" => Ok(EventKind::Exit {
            function: rest.to_owned(),
        }),
        "uprobe" | "uretprobe" => {
            let wanted = form("uprobe:BINARY:SYMBOL[+OFFSET] or uprobe:BINARY:0xOFFSET");
            let (binary, place) = rest.rsplit_once(':').ok_or(wanted.clone())?;
            let (place, offset) = with_offset(place).ok_or(wanted.clone())?;
            if binary.is_empty() {
                return Err(wanted);
            }
            let in_file = number(place);
            Ok(EventKind::Uprobe {
                binary: binary.into(),
                symbol: in_file.is_none().then(|| place.to_owned()),
                offset: in_file.unwrap_or(0).wrapping_add(offset),
                returns: first == "uretprobe",
            })
        }
        _ => {
            let event = modifiers(rest).and_then(|modifiers| perf_event(first, modifiers));
            if let Some(event) = event {
                return Ok(event);
            }
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            if !is_name(first)
                || !is_name(rest)
                || perf_event(first, Modifiers::default()).is_some()
            {
                return Err(EventError::Unknown(text.to_owned()));
            }
            Ok(EventKind::Tracepoint {
                category: first.to_owned(),
                name: rest.to_owned(),
            })
        }
    }
}

fn perf_event(name: &str, modifiers: Modifiers) -> Option<EventKind> {
    let in_table = |table: &[(&str, u32)]| {
        let found = table.iter().find(|(known, _)| *known == name);
        found.map(|(_, config)| u64::from(*config))
    };
    let raw = || u64::from_str_radix(name.strip_prefix('r')?, 16).ok();
    let (kind, config) = if let Some(config) = in_table(SOFTWARE) {
        (bindings::PERF_TYPE_SOFTWARE, config)
    } else if let Some(config) = in_table(HARDWARE) {
        (bindings::PERF_TYPE_HARDWARE, config)
    } else if let Some(config) = cache_event(name) {
        (bindings::PERF_TYPE_HW_CACHE, config)
    } else {
        (bindings::PERF_TYPE_RAW, raw()?)
    };
    Some(EventKind::Perf(PerfEvent {
        kind,
        config,
        modifiers,
    }))
}

fn cache_event(name: &str) -> Option<u64> {
    CACHES.iter().zip(0u64..).find_map(|(cache, id)| {
        let operation = name.strip_prefix(cache)?.strip_prefix('-')?;
        let known = CACHE_OPERATIONS
            .iter()
            .find(|(name, ..)| *name == operation);
        known.map(|(_, operation, result)| id | operation << 8 | result << 16)
    })
}

fn modifiers(text: &str) -> Option<Modifiers> {
    let mut modifiers = Modifiers::default();
    for letter in text.chars() {
        match letter {
            'u' => modifiers.user = true,
            'k' => modifiers.kernel = true,
            'p' if modifiers.precise < 3 => modifiers.precise += 1,
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(modifiers)
}

/// `NAME+OFFSET`, or a name alone.
fn with_offset(text: &str) -> Option<(&str, u64)> {
    let (name, offset) = match text.split_once('+') {
        Some((name, offset)) => (name, number(offset).or_else(|| offset.parse().ok())?),
        None => (text, 0),
    };
    (!name.is_empty()).then_some((name, offset))
}

/// `0x…`.
fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn watchpoint(text: &str, rest: &str) -> Result<EventKind, EventError> {
    let wrong = |problem| EventError::Watch {
        event: text.to_owned(),
        problem,
    };
    let (place, access) = rest.rsplit_once(':').unwrap_or((rest, "rw"));
    // The path of a binary has slashes, too.
    let is_length = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (place, length) = match place.rsplit_once('/') {
        Some((place, length)) if is_length(length) => (place, length.parse().unwrap_or(0)),
        _ => (place, WATCH_LENGTH),
    };
    let mut bits = 0;
    for letter in access.chars() {
        bits |= match letter {
            'r' => READ,
            'w' => WRITE,
            'x' => EXECUTE,
            _ => return Err(wrong("what it waits for is written with r, w and x")),
        };
    }
    // x86 has no register that waits for reading alone: it would be found out by the kernel.
    if bits == 0 || bits & EXECUTE != 0 && bits != EXECUTE {
        return Err(wrong("it waits for r, w or rw, or for x alone"));
    }
    if !matches!(length, 1 | 2 | 4 | 8) {
        return Err(wrong("it can watch 1, 2, 4 or 8 bytes"));
    }
    let place = match number(place) {
        Some(address) if bits != EXECUTE && address % length != 0 => {
            return Err(wrong("its address must be a multiple of its length"));
        }
        Some(address) => WatchPlace::Address(address),
        None => match place.split_once('@') {
            Some((symbol, binary)) if !symbol.is_empty() && !binary.is_empty() => {
                WatchPlace::Binary {
                    symbol: symbol.to_owned(),
                    binary: binary.into(),
                }
            }
            None if !place.is_empty() => WatchPlace::Symbol(place.to_owned()),
            _ => return Err(wrong("it has no address")),
        },
    };
    Ok(EventKind::Watch(Watchpoint {
        place,
        // An instruction is watched by its first byte, which the kernel wants as a word.
        length: if bits == EXECUTE { 8 } else { length },
        access: bits,
    }))
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
