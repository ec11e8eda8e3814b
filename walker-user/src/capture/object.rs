//! The BPF object: loading it for this kernel and talking to its maps.

use std::{
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Btf as AyaBtf, BtfError as AyaBtfError, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        FEntry, FExit, KProbe, PerfEvent, ProgramError, RawTracePoint, RawTracePointRunOptions,
        TestRun as _,
    },
};
use thiserror::Error;
use walker_common::{
    maps::{
        Counters, CpuFacts, CpuStacks, ENTRY_SLOTS, EventConfig, FILTER_NONE, FILTER_TARGETS,
        LEVELS, NO_FIELD, READ_CHUNK, SWITCH_PREEMPTED, SWITCH_WAITS, TARGET_PROCESS, TRACE_SLOTS,
        WINDOW_SHIFT, names,
    },
    wire::MAX_USER_BYTES,
};
use zerocopy::IntoBytes as _;

#[cfg(feature = "bpf-log")]
use super::bpf_log;
use super::events::{EventSwitches, Waits};
use crate::{
    kernel::{
        bpf_text::{self, BpfSymbol},
        memory::{CpuProbe, KernelMemory, ReadError},
        offsets::{NamespaceOffsets, Offsets},
    },
    sys::perf::SamplingEvent,
    unwind::kernel::TextRange,
};

/// The committed object; `cargo xtask build-ebpf` makes it.
#[cfg(not(feature = "bpf-log"))]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/walker.bpf.o");

/// Most processes and threads that can be targets at one time.
const MAX_TARGETS: u32 = 65_536;

/// Most samples a second of one event on one CPU, of those that can come at any rate. What comes
/// faster is counted, and slows nothing down.
pub const MAX_RATE: u64 = 50_000;

/// How often the loading of a program is tried; libbpf's limit is five.
const LOAD_ATTEMPTS: u32 = 20;

const COUNTER_WORDS: usize = size_of::<Counters>() / 8;
const STACKS_WORDS: usize = size_of::<CpuStacks>() / 8;
const FACTS_WORDS: usize = size_of::<CpuFacts>() / 8;

/// Why the BPF object does not work here.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The kernel refuses BPF to this user.
    #[error(
        "the kernel does not let this user load BPF programs ({0}): run with sudo, or give the \
         binary its capabilities with `sudo setcap cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace+ep \
         PATH-OF-STACKWALK`"
    )]
    Denied(io::Error),
    /// The object does not load.
    #[error("cannot load the BPF object: {0:#}")]
    Load(#[from] EbpfError),
    /// The object cannot be made to log.
    #[cfg(feature = "bpf-log")]
    #[error(transparent)]
    Log(anyhow::Error),
    /// A program does not load.
    #[error("the kernel refuses the BPF program `{name}`: {error}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's or aya's reason.
        error: ProgramError,
    },
    /// A map cannot be used.
    #[error("BPF map `{name}`: {error}")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's or aya's reason.
        error: MapError,
    },
    /// The object is not the one this program was built with.
    #[error("the BPF object has no `{0}`: rebuild it with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// The program cannot be put on an event.
    #[error("cannot attach the BPF program `{name}`: {error}")]
    Attach {
        /// Its name.
        name: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The kernel's types, which a trampoline's program is checked against, cannot be read.
    #[error("cannot read the kernel's types: {0}")]
    Types(#[from] AyaBtfError),
}

/// What is decided before the object is loaded.
#[derive(Debug, Clone)]
pub struct ObjectOptions {
    /// Only tasks in the target maps are sampled.
    pub filter_targets: bool,
    /// Samples of an idle CPU are wanted.
    pub keep_idle: bool,
    /// Text of the idle drivers.
    pub idle_text: Option<TextRange>,
    /// Bytes of the sample ring buffer, a power of two.
    pub ring_bytes: u32,
    /// One more than the highest possible CPU number.
    pub cpus: u32,
    /// Which sides of a sample are wanted, and how much of the user stack.
    pub sides: Sides,
    /// What the programs have to know of the events.
    pub events: EventSwitches,
    /// Ask the kernel's own unwinder at every event.
    pub oracle: bool,
    /// Use the numbers that tasks have in this process's PID namespace, found this way.
    pub namespace: Option<NamespaceOffsets>,
}

/// Which sides of a sample are wanted, and how much of the user stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Kernel stacks are.
    pub kernel: bool,
    /// Bytes to copy of the user stack of a process that nothing is known of; 0 if no user stacks
    /// are wanted.
    pub user_budget: u32,
    /// The most that is ever copied of a user stack, at most [`MAX_USER_BYTES`].
    pub user_budget_max: u32,
}

impl Sides {
    /// Kernel stacks alone.
    pub const KERNEL: Self = Self {
        kernel: true,
        user_budget: 0,
        user_budget_max: 0,
    };
}

/// The loaded object.
pub struct Object {
    ebpf: Ebpf,
    #[cfg(feature = "bpf-log")]
    log: aya_log::EbpfLogger<bpf_log::StandardError>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("ebpf", &self.ebpf)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Creates the maps. Programs are loaded when they are used.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn load(offsets: &Offsets, options: &ObjectOptions) -> Result<Self, ObjectError> {
        let filter = if options.filter_targets {
            FILTER_TARGETS
        } else {
            FILTER_NONE
        };
        let keep_idle = u64::from(options.keep_idle);
        let (idle_begin, idle_end) = options
            .idle_text
            .map_or((0, 0), |text| (text.begin, text.end));
        let cfs_rq = offsets.task_cfs_rq.unwrap_or(NO_FIELD);
        let cfs_rq_rq = offsets.cfs_rq_rq.unwrap_or(NO_FIELD);
        // A quarter of the buffer waiting is reason to hurry; until then the reader comes by
        // several times a second.
        let wake_at = u64::from(options.ring_bytes / 4);
        let no_kernel = u64::from(!options.sides.kernel);
        let user_budget = u64::from(options.sides.user_budget);
        let user_budget_max = u64::from(options.sides.user_budget_max).min(MAX_USER_BYTES as u64);
        let oracle = u64::from(options.oracle);
        let (wait_event, switches) = match options.events.waits {
            Some((event, Waits::Blocked)) => (u64::from(event), SWITCH_WAITS),
            Some((event, Waits::All)) => (u64::from(event), SWITCH_WAITS | SWITCH_PREEMPTED),
            None => (0, 0),
        };
        let switch_has_state = u64::from(offsets.switch_has_state);
        let irq_event = u64::from(options.events.irqs.unwrap_or(0));
        let irqaction_name = offsets.irqaction_name.unwrap_or(NO_FIELD);
        let window_limit = MAX_RATE * (1 << WINDOW_SHIFT) / 1_000_000_000;
        let cpus = u64::from(options.cpus);
        let buffers = match options.events.nested {
            true => options.cpus.saturating_mul(LEVELS),
            false => options.cpus,
        };
        let in_namespace = u64::from(options.namespace.is_some());
        let way = options.namespace.unwrap_or(NamespaceOffsets {
            thread_pid: NO_FIELD,
            group_leader: NO_FIELD,
            level: NO_FIELD,
            numbers: NO_FIELD,
        });
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(names::GLOBAL_ORACLE, &oracle, true)
            .override_global(names::GLOBAL_SWITCHES, &switches, true)
            .override_global(names::GLOBAL_SWITCH_HAS_STATE, &switch_has_state, true)
            .override_global(names::GLOBAL_WAIT_EVENT, &wait_event, true)
            .override_global(names::GLOBAL_IRQ_EVENT, &irq_event, true)
            .override_global(names::GLOBAL_OFF_IRQACTION_NAME, &irqaction_name, true)
            .override_global(names::GLOBAL_WINDOW_LIMIT, &window_limit, true)
            .override_global(names::GLOBAL_CPUS, &cpus, true)
            .override_global(names::GLOBAL_FILTER, &filter, true)
            .override_global(names::GLOBAL_OFF_TASK_STACK, &offsets.task_stack, true)
            .override_global(names::GLOBAL_OFF_TASK_PID, &offsets.task_pid, true)
            .override_global(names::GLOBAL_OFF_TASK_TGID, &offsets.task_tgid, true)
            .override_global(names::GLOBAL_OFF_TASK_CFS_RQ, &cfs_rq, true)
            .override_global(names::GLOBAL_OFF_CFS_RQ_RQ, &cfs_rq_rq, true)
            .override_global(names::GLOBAL_THREAD_SIZE, &offsets.thread_size, true)
            .override_global(names::GLOBAL_OFF_TASK_MM, &offsets.task_mm, true)
            .override_global(names::GLOBAL_OFF_TASK_FSBASE, &offsets.task_fsbase, true)
            .override_global(
                names::GLOBAL_OFF_MM_START_STACK,
                &offsets.mm_start_stack,
                true,
            )
            .override_global(names::GLOBAL_USER_BUDGET, &user_budget, true)
            .override_global(names::GLOBAL_USER_BUDGET_MAX, &user_budget_max, true)
            .override_global(names::GLOBAL_NO_KERNEL, &no_kernel, true)
            .override_global(names::GLOBAL_KEEP_IDLE, &keep_idle, true)
            .override_global(names::GLOBAL_IDLE_BEGIN, &idle_begin, true)
            .override_global(names::GLOBAL_IDLE_END, &idle_end, true)
            .override_global(names::GLOBAL_WAKE_AT, &wake_at, true)
            .override_global(names::GLOBAL_IN_NAMESPACE, &in_namespace, true)
            .override_global(names::GLOBAL_OFF_TASK_THREAD_PID, &way.thread_pid, true)
            .override_global(names::GLOBAL_OFF_TASK_GROUP_LEADER, &way.group_leader, true)
            .override_global(names::GLOBAL_OFF_PID_LEVEL, &way.level, true)
            .override_global(names::GLOBAL_OFF_PID_NUMBERS, &way.numbers, true)
            .map_max_entries(names::MAP_SAMPLES, options.ring_bytes)
            .map_max_entries(names::MAP_COST, 1 << 20)
            .map_max_entries(names::MAP_SCRATCH, buffers)
            .map_max_entries(names::MAP_STACKS, options.cpus)
            .map_max_entries(names::MAP_CPU_FACTS, options.cpus)
            .map_max_entries(names::MAP_TARGETS, MAX_TARGETS)
            .map_max_entries(names::MAP_THREADS, MAX_TARGETS);
        #[cfg(feature = "bpf-log")]
        let object = &bpf_log::object().map_err(ObjectError::Log)?;
        #[cfg(not(feature = "bpf-log"))]
        let object = OBJECT;
        let loaded = loader.load(object).map_err(|error| match denied(&error) {
            Some(io) => ObjectError::Denied(io),
            None => ObjectError::Load(error),
        });
        #[cfg(feature = "bpf-log")]
        return loaded.and_then(|mut ebpf| {
            let log = bpf_log::start(&mut ebpf).map_err(ObjectError::Log)?;
            Ok(Self { ebpf, log })
        });
        #[cfg(not(feature = "bpf-log"))]
        loaded.map(|ebpf| Self { ebpf })
    }

    /// Writes out what the programs have logged.
    #[cfg(feature = "bpf-log")]
    pub fn flush_log(&mut self) {
        self.log.flush();
    }

    /// Loads a perf_event program, if that was not done before.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load_perf(&mut self, name: &'static str) -> Result<&mut PerfEvent, ObjectError> {
        let program: &mut PerfEvent = self.program(name)?;
        if program.fd().is_err() {
            load(name, || program.load())?;
        }
        Ok(program)
    }

    /// Makes `event` run a program, of perf events or of probes, which is told the event's index.
    ///
    /// # Errors
    /// If the kernel refuses the program or the event already has one.
    pub fn attach_perf(
        &mut self,
        name: &'static str,
        event: &mut SamplingEvent,
        index: u32,
    ) -> Result<(), ObjectError> {
        let fd = if name == names::PROG_PROBE {
            let program: &mut KProbe = self.program(name)?;
            if program.fd().is_err() {
                load(name, || program.load())?;
            }
            program.fd()
        } else {
            self.load_perf(name)?.fd()
        };
        let fd = fd.map_err(|error| ObjectError::Program { name, error })?;
        event
            .attach(fd.as_fd(), u64::from(index))
            .map_err(|error| ObjectError::Attach { name, error })
    }

    /// Attaches a raw tracepoint program to `tracepoint`, until the object is dropped. A program can
    /// be attached to several.
    ///
    /// # Errors
    /// If the kernel refuses the program or has no such tracepoint.
    pub fn attach_raw_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<(), ObjectError> {
        let program: &mut RawTracePoint = self.program(name)?;
        if program.fd().is_err() {
            load(name, || program.load())?;
        }
        program
            .attach(tracepoint)
            .map(drop)
            .map_err(|error| ObjectError::Program { name, error })
    }

    /// Attaches the program in `slot`, of beginnings or ends, to a function of the kernel.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach_trampoline(&mut self, slot: u32, function: &str) -> Result<(), ObjectError> {
        let btf = AyaBtf::from_sys_fs()?;
        let slot = slot.saturating_sub(TRACE_SLOTS) as usize;
        let entries = ENTRY_SLOTS as usize;
        if slot < entries {
            let name = names::PROG_ENTRY[slot];
            let program: &mut FEntry = self.program(name)?;
            load(name, || program.load(function, &btf))?;
            let link = program.attach();
            link.map(drop)
                .map_err(|error| ObjectError::Program { name, error })
        } else {
            let name = names::PROG_EXIT[slot - entries];
            let program: &mut FExit = self.program(name)?;
            load(name, || program.load(function, &btf))?;
            let link = program.attach();
            link.map(drop)
                .map_err(|error| ObjectError::Program { name, error })
        }
    }

    /// Says how an event is taken.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_event(&mut self, index: u32, config: &EventConfig) -> Result<(), ObjectError> {
        let words = [config.period, config.start];
        self.set_element(names::MAP_EVENTS, index, words)
    }

    /// Says which event the program in a slot is for.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_slot(&mut self, slot: u32, event: u32) -> Result<(), ObjectError> {
        self.set_element(names::MAP_SLOTS, slot, event)
    }

    /// Has the programs take events, or not, that cannot be disabled themselves.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), ObjectError> {
        self.set_element(names::MAP_ENABLED, 0, u64::from(enabled))
    }

    fn set_element<V: aya::Pod>(
        &mut self,
        name: &'static str,
        index: u32,
        value: V,
    ) -> Result<(), ObjectError> {
        let map = self.ebpf.map_mut(name).ok_or(ObjectError::Missing(name))?;
        let mut map: Array<_, V> = Array::try_from(map).map_err(|error| map_error(name, error))?;
        map.set(index, value, 0)
            .map_err(|error| map_error(name, error))
    }

    /// Starts a raw tracepoint program by hand, on a given CPU or on this one.
    fn run(
        &mut self,
        name: &'static str,
        options: RawTracePointRunOptions,
    ) -> Result<i32, ObjectError> {
        let program: &mut RawTracePoint = self.program(name)?;
        if program.fd().is_err() {
            load(name, || program.load())?;
        }
        program
            .test_run(options)
            .map(|result| result.return_value.cast_signed())
            .map_err(|error| ObjectError::Program { name, error })
    }

    /// Has the programs find out which PID namespace this process is in.
    ///
    /// # Errors
    /// If the program cannot be loaded or run.
    pub fn find_namespace(&mut self) -> Result<(), ObjectError> {
        self.run(
            names::PROG_FIND_NAMESPACE,
            RawTracePointRunOptions::default(),
        )
        .map(drop)
    }

    /// What the CPU with this number says of itself; `None` if it is offline.
    ///
    /// # Errors
    /// If the program cannot be loaded or the map not be read.
    pub fn cpu_facts(&mut self, cpu: u32) -> Result<Option<CpuFacts>, ObjectError> {
        // Load it first, so that an error of the run below can only mean the CPU.
        let program: &mut RawTracePoint = self.program(names::PROG_CPU_FACTS)?;
        if program.fd().is_err() {
            load(names::PROG_CPU_FACTS, || program.load())?;
        }
        let options = RawTracePointRunOptions {
            cpu: Some(cpu),
            ..Default::default()
        };
        if self.run(names::PROG_CPU_FACTS, options).is_err() {
            return Ok(None);
        }
        let map: Array<_, [u64; FACTS_WORDS]> = self.array(names::MAP_CPU_FACTS)?;
        let words = map
            .get(&cpu, 0)
            .map_err(|error| map_error(names::MAP_CPU_FACTS, error))?;
        let facts: CpuFacts = zerocopy::transmute!(words);
        Ok((facts.valid == 1).then_some(facts))
    }

    /// The BPF programs and trampolines that the kernel lists; empty if it keeps no list that can be read.
    pub fn bpf_text(
        &mut self,
        offsets: &Offsets,
        cpus: &[u32],
        image_begin: u64,
    ) -> Vec<BpfSymbol> {
        let Some(list) = offsets.bpf_text else {
            return Vec::new();
        };
        let me = std::process::id();
        // Asked on the CPU this thread is on, the running task is this one.
        for &cpu in cpus {
            let Ok(Some(facts)) = self.cpu_facts(cpu) else {
                continue;
            };
            if self.read_u32(facts.task.wrapping_add(offsets.task_tgid)) != Ok(me) {
                continue;
            }
            let Ok(program) = self.program::<RawTracePoint>(names::PROG_READ_KERNEL) else {
                continue;
            };
            let Ok(fd) = program.fd().map(|fd| fd.as_fd().as_raw_fd()) else {
                continue;
            };
            let Ok(fd) = u32::try_from(fd) else { continue };
            if let Ok(symbols) = bpf_text::read(self, &list, facts.task, fd, image_begin) {
                return symbols;
            }
        }
        Vec::new()
    }

    /// Puts a CPU's stack table into the map.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_stacks(&mut self, cpu: u32, stacks: &CpuStacks) -> Result<(), ObjectError> {
        let words: [u64; STACKS_WORDS] = zerocopy::transmute!(*stacks);
        self.set_element(names::MAP_STACKS, cpu, words)
    }

    /// Adds or changes a target: a PID and one of the `TARGET_*` values.
    ///
    /// # Errors
    /// If the map is full.
    pub fn set_target(&mut self, pid: u32, state: u32) -> Result<(), ObjectError> {
        self.insert(names::MAP_TARGETS, pid, state)
    }

    /// Adds a thread of a process whose target state is `TARGET_THREADS`.
    ///
    /// # Errors
    /// If the map is full.
    pub fn add_thread(&mut self, tid: u32) -> Result<(), ObjectError> {
        self.insert(names::MAP_THREADS, tid, 1)
    }

    /// Sets how many bytes are copied of a process's user stacks.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_budget(&mut self, pid: u32, bytes: u32) -> Result<(), ObjectError> {
        self.insert(names::MAP_BUDGETS, pid, bytes)
    }

    /// Sets the same for threads of this name in processes without a budget of their own.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_name_budget(&mut self, name: [u8; 16], bytes: u32) -> Result<(), ObjectError> {
        self.insert(names::MAP_NAME_BUDGETS, name, bytes)
    }

    fn insert<K: aya::Pod>(
        &mut self,
        name: &'static str,
        key: K,
        value: u32,
    ) -> Result<(), ObjectError> {
        let map = self.ebpf.map_mut(name).ok_or(ObjectError::Missing(name))?;
        let mut map: BpfHashMap<_, K, u32> =
            BpfHashMap::try_from(map).map_err(|error| map_error(name, error))?;
        map.insert(key, value, 0)
            .map_err(|error| map_error(name, error))
    }

    /// Whether any target is left.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn has_targets(&self) -> Result<bool, ObjectError> {
        let name = names::MAP_TARGETS;
        let map = self.ebpf.map(name).ok_or(ObjectError::Missing(name))?;
        let map: BpfHashMap<_, u32, u32> =
            BpfHashMap::try_from(map).map_err(|error| map_error(name, error))?;
        Ok(map.keys().next().is_some())
    }

    /// The processes that are targets with all their threads, and the threads that are targets
    /// alone. Some may have ended already.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn targets(&self) -> Result<(Vec<u32>, Vec<u32>), ObjectError> {
        let of = |name| {
            let map = self.ebpf.map(name).ok_or(ObjectError::Missing(name))?;
            BpfHashMap::<_, u32, u32>::try_from(map).map_err(|error| map_error(name, error))
        };
        let whole = of(names::MAP_TARGETS)?;
        let whole = whole.iter().filter_map(Result::ok);
        let whole = whole.filter(|(_, state)| *state == TARGET_PROCESS);
        let threads = of(names::MAP_THREADS)?;
        Ok((
            whole.map(|(pid, _)| pid).collect(),
            threads.keys().filter_map(Result::ok).collect(),
        ))
    }

    /// The counters of an event, summed over all CPUs.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self, event: u32) -> Result<Counters, ObjectError> {
        let name = names::MAP_COUNTERS;
        let map = self.ebpf.map(name).ok_or(ObjectError::Missing(name))?;
        let map: PerCpuArray<_, [u64; COUNTER_WORDS]> =
            PerCpuArray::try_from(map).map_err(|error| map_error(name, error))?;
        let per_cpu = map.get(&event, 0).map_err(|error| map_error(name, error))?;
        let mut sum = [0u64; COUNTER_WORDS];
        for words in per_cpu.iter() {
            for (total, word) in sum.iter_mut().zip(words) {
                *total += word;
            }
        }
        Ok(zerocopy::transmute!(sum))
    }

    /// Takes a ring buffer out of the object, for the thread that reads it.
    ///
    /// # Errors
    /// If it is not there or cannot be mapped.
    pub fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, ObjectError> {
        let map = self.ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
        RingBuf::try_from(map).map_err(|error| map_error(name, error))
    }

    /// Run count and total run time in nanoseconds of a loaded program, counted while
    /// `aya::sys::enable_stats` is in force.
    ///
    /// # Errors
    /// If the program is not loaded.
    pub fn run_stats(&self, name: &'static str) -> Result<(u64, u64), ObjectError> {
        let program = self.ebpf.program(name).ok_or(ObjectError::Missing(name))?;
        let info = program
            .info()
            .map_err(|error| ObjectError::Program { name, error })?;
        let nanos = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
        Ok((info.run_count(), nanos))
    }

    fn element(&self, name: &'static str, index: u32) -> Result<i64, ObjectError> {
        let map = self.ebpf.map(name).ok_or(ObjectError::Missing(name))?;
        let map: Array<_, i64> = Array::try_from(map).map_err(|error| map_error(name, error))?;
        map.get(&index, 0).map_err(|error| map_error(name, error))
    }

    fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, ObjectError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or(ObjectError::Missing(name))?;
        <&mut P>::try_from(program).map_err(|_| ObjectError::Missing(name))
    }

    fn array<const N: usize>(
        &self,
        name: &'static str,
    ) -> Result<Array<&MapData, [u64; N]>, ObjectError> {
        let map = self.ebpf.map(name).ok_or(ObjectError::Missing(name))?;
        Array::try_from(map).map_err(|error| map_error(name, error))
    }
}

impl CpuProbe for Object {
    fn cpu_facts(&mut self, cpu: u32) -> anyhow::Result<Option<CpuFacts>> {
        Ok(Object::cpu_facts(self, cpu)?)
    }
}

impl KernelMemory for Object {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let failed = |reason: String| ReadError {
            address,
            length,
            reason,
        };
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let chunk = (length - bytes.len()).min(READ_CHUNK);
            let mut options = RawTracePointRunOptions::new();
            options.args[0] = address.wrapping_add(bytes.len() as u64);
            options.args[1] = chunk as u64;
            // What a run that does not get that far leaves behind.
            const NOT_READ: i64 = -(libc::EIO as i64);
            let result = self
                .set_element(names::MAP_READ_RESULT, 0, NOT_READ)
                .and_then(|()| self.run(names::PROG_READ_KERNEL, options))
                .and_then(|_| self.element(names::MAP_READ_RESULT, 0))
                .map_err(|error| failed(error.to_string()))?;
            if let Ok(error @ 1..) = i32::try_from(-result) {
                return Err(failed(io::Error::from_raw_os_error(error).to_string()));
            }
            let map: Array<_, [u64; READ_CHUNK / 8]> = self
                .array(names::MAP_READ_BUFFER)
                .map_err(|error| failed(error.to_string()))?;
            let words = map.get(&0, 0).map_err(|error| failed(error.to_string()))?;
            bytes.extend_from_slice(&words.as_bytes()[..chunk]);
        }
        Ok(bytes)
    }
}

fn map_error(name: &'static str, error: MapError) -> ObjectError {
    ObjectError::Map { name, error }
}

/// Loads a program. The verifier gives up with `EAGAIN` if a signal comes meanwhile (the end of a
/// child is one); libbpf tries again then, aya does not.
fn load(
    name: &'static str,
    mut try_once: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ObjectError> {
    let mut result = try_once();
    for _ in 1..LOAD_ATTEMPTS {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) =>
            {
                result = try_once();
            }
            _ => break,
        }
    }
    result.map_err(|error| refused(name, error))
}

/// A refusal for lack of privilege is told apart from one by the verifier.
fn refused(name: &'static str, error: ProgramError) -> ObjectError {
    match denied(&error) {
        Some(io) => ObjectError::Denied(io),
        None => ObjectError::Program { name, error },
    }
}

/// The `EPERM` or `EACCES` somewhere below an error. A verifier rejection is `EACCES` too, but has
/// a log to show.
fn denied(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref()
            && !verifier_log.to_string().trim().is_empty()
        {
            return None;
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return io.raw_os_error().map(io::Error::from_raw_os_error);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes as _;

    use super::*;

    #[test]
    fn map_values_are_whole_words() {
        assert_eq!(COUNTER_WORDS * 8, size_of::<Counters>());
        assert_eq!(STACKS_WORDS * 8, size_of::<CpuStacks>());
        assert!(CpuFacts::read_from_bytes(&[0; size_of::<CpuFacts>()]).is_ok());
    }
}
