//! Being in a guest of `cargo xtask guest`: how a test tells, what it can ask the host for, and the
//! tests that only such a kernel allows.
//!
//! The guests' kernels show all their symbols, `/proc/kcore`, modules and their own image. That
//! gives second ways to what stackwalk finds out, which are compared here with its own. The same
//! tests on the host would depend on what its kernel shows, so there they are not in the list.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::Command,
};

use walker_common::StackKind;
use walker_user::{
    btf::Btf,
    capture::session::{Prepared, Setup, online_cpus, prepare},
    kernel::{
        image::KernelImage,
        kcore::Kcore,
        memory::KernelMemory as _,
        orc_source::{self, RawOrc},
    },
    unwind::orc::OrcTable,
};

use crate::{Test, kernel::Pinned, test};

/// What the guest's first process sets: the terminal on which the host is asked.
const VARIABLE: &str = "STACKWALK_GUEST";

pub(crate) const TESTS: &[Test] = &[
    test!(the_stacks_are_where_the_symbols_of_the_kernel_say),
    test!(the_unwind_table_is_that_of_the_image),
    test!(the_unwind_table_of_a_module_covers_its_text),
    test!(kcore_has_the_bytes_that_the_bpf_program_reads),
    test!(the_host_injects_nmis_when_asked),
];

/// Whether this is a guest.
pub(crate) fn here() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Has the host inject so many NMIs into every CPU, so far apart, and waits until that is done.
pub(crate) fn inject_nmis(count: u32, milliseconds: u32) {
    let path = std::env::var_os(VARIABLE).expect("only a guest has a host to ask");
    let mut answers = BufReader::new(File::open(&path).unwrap());
    // The runner has begun a line with the name of the test.
    let request = format!("\nstackwalk-guest: nmi {count} {milliseconds}\n");
    let terminal = fs::OpenOptions::new().write(true).open(&path);
    terminal.unwrap().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    answers.read_line(&mut answer).unwrap();
    assert_eq!(answer, "stackwalk-guest: done\n");
}

/// The NMIs that each CPU has counted.
fn counted_nmis() -> Vec<u64> {
    let interrupts = fs::read_to_string("/proc/interrupts").unwrap();
    let line = interrupts
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("NMI:"));
    line.unwrap()
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

fn the_host_injects_nmis_when_asked() {
    let before = counted_nmis();
    inject_nmis(20, 2);
    let after = counted_nmis();
    assert_eq!(before.len(), online_cpus().unwrap().len());
    for (before, after) in before.iter().zip(&after) {
        // Two that come at the same time are one.
        assert!(after - before >= 10, "{before} before, {after} after");
    }
}

fn prepared() -> Prepared {
    prepare(&Setup::without_samples()).unwrap()
}

/// The kernel's own symbols, data and per-CPU ones too, and those of a module.
struct Symbols {
    kernel: HashMap<String, u64>,
    /// Addresses of the functions of the module.
    functions: Vec<u64>,
}

impl Symbols {
    fn read(module: &str) -> Self {
        let mut symbols = Self {
            kernel: HashMap::new(),
            functions: Vec::new(),
        };
        let of_module = format!("[{module}]");
        for line in fs::read_to_string("/proc/kallsyms").unwrap().lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let address = u64::from_str_radix(fields[0], 16).unwrap();
            match fields[..] {
                [_, _, name] => {
                    symbols.kernel.entry(name.to_owned()).or_insert(address);
                }
                [_, "t" | "T", _, of] if of == of_module => symbols.functions.push(address),
                _ => {}
            }
        }
        symbols
    }

    fn address(&self, name: &str) -> u64 {
        let address = self.kernel.get(name);
        *address.unwrap_or_else(|| panic!("no symbol {name}"))
    }
}

/// The per-CPU areas by the table of their offsets, and the variables by their symbols, where
/// stackwalk goes through the run queue and the BTF.
fn the_stacks_are_where_the_symbols_of_the_kernel_say() {
    let mut prepared = prepared();
    let symbols = Symbols::read("");
    let btf = Btf::of_running_kernel().unwrap();
    // From 6.2 to 6.14 these are together in one variable.
    let hot = |name: &str| match symbols.kernel.get("pcpu_hot") {
        Some(hot) => hot + btf.member(&format!("pcpu_hot.{name}")).unwrap().bit_offset / 8,
        None => symbols.address(name),
    };
    for cpu in online_cpus().unwrap() {
        let (_, table) = prepared.kernel.cpus().find(|(of, _)| *of == cpu).unwrap();
        let table = table.clone();
        let memory = &mut prepared.object;
        let offset = symbols.address("__per_cpu_offset") + 8 * u64::from(cpu);
        let offset = memory.read_u64(offset).unwrap();
        let at = |symbol: u64| offset.wrapping_add(symbol);

        assert_eq!(memory.read_u32(at(hot("cpu_number"))).unwrap(), cpu);
        assert_eq!(at(symbols.address("__per_cpu_start")), table.base);

        let end = |kind: StackKind| {
            let stack = table.stacks.iter().find(|stack| stack.kind == kind);
            stack.unwrap().end
        };
        let pointer = memory.read_u64(at(hot("hardirq_stack_ptr"))).unwrap();
        assert_eq!(pointer + 8, end(StackKind::Irq));

        let exceptions = symbols.address("cea_exception_stacks");
        let exceptions = memory.read_u64(at(exceptions)).unwrap();
        for (kind, member) in [
            (StackKind::DoubleFault, "DF_stack"),
            (StackKind::Nmi, "NMI_stack"),
            (StackKind::Debug, "DB_stack"),
            (StackKind::MachineCheck, "MCE_stack"),
        ] {
            let member = btf.member(&format!("cea_exception_stacks.{member}"));
            let member = member.unwrap();
            let member_end = (member.bit_offset + member.bit_size) / 8;
            assert_eq!(exceptions + member_end, end(kind), "{kind:?}");
        }

        // Asked on the CPU that this thread is kept on, the running task is this thread.
        let _pinned = Pinned::to(cpu);
        let facts = memory.cpu_facts(cpu).unwrap().unwrap();
        let task = memory.read_u64(at(hot("current_task"))).unwrap();
        assert_eq!(task, facts.task);
    }
}

fn the_unwind_table_is_that_of_the_image() {
    let mut prepared = prepared();
    let symbols = &prepared.kernel.symbols;
    let location = orc_source::by_symbols(symbols).expect("the symbols of the bounds");
    let by_operands = orc_source::by_operands(&mut prepared.object, symbols).unwrap();
    assert_eq!(by_operands, location);
    let read = RawOrc::read(&mut prepared.object, location).unwrap();
    let image = KernelImage::open(Path::new("/boot/vmlinuz")).unwrap();
    let stext = symbols.address("_stext").unwrap();
    let of_image = RawOrc::from_image(&image, stext).unwrap();
    assert_eq!(read.ips_address, of_image.ips_address);
    assert_eq!(read.ips.len() as u64, 4 * location.count);
    assert!(read.ips == of_image.ips, "the addresses differ");
    assert!(read.entries == of_image.entries, "the entries differ");
}

/// A module that does nothing but be there. It is taken away again.
pub(crate) struct Module;

impl Module {
    const NAME: &str = "dummy";

    pub(crate) fn load() -> Self {
        let file = format!("/lib/modules/{}.ko", Self::NAME);
        assert!(Command::new("insmod").arg(file).status().unwrap().success());
        Self
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let removed = Command::new("rmmod").arg(Self::NAME).status().unwrap();
        assert!(removed.success() || std::thread::panicking());
    }
}

fn the_unwind_table_of_a_module_covers_its_text() {
    let without = prepared();
    let module = Module::load();
    let prepared = prepared();
    assert_eq!(prepared.kernel.unreadable_modules, 0);
    let functions = Symbols::read(Module::NAME).functions;
    assert!(functions.len() > 3, "{functions:x?}");
    let table_of = |tables: &[OrcTable]| {
        let all = |table: &&OrcTable| functions.iter().all(|ip| table.find(*ip).is_some());
        tables
            .iter()
            .filter(all)
            .map(|table| (table.begin(), table.end()))
            .collect::<Vec<_>>()
    };
    // No other table has them.
    assert_eq!(table_of(&without.kernel.sampled.tables.orc), []);
    let tables = &prepared.kernel.sampled.tables.orc;
    let [(begin, end)] = table_of(tables)[..] else {
        panic!("{:x?} for {functions:x?}", table_of(tables));
    };
    assert!(functions.iter().all(|ip| (begin..end).contains(ip)));

    // Read again and decoded as bytes: sorted, of the module's text, and as many as it says.
    let symbols = Symbols::read(Module::NAME);
    let section = |name: &str| -> u64 {
        let path = format!("/sys/module/{}/sections/{name}", Module::NAME);
        let text = fs::read_to_string(path).unwrap();
        u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap()
    };
    assert!(symbols.functions.contains(&section(".text")));
    let mut kcore = Kcore::of_running_kernel().unwrap();
    let first = section(".orc_unwind_ip");
    let displacement = kcore.read_u32(first).unwrap().cast_signed();
    assert_eq!(first.wrapping_add_signed(displacement.into()), begin);
    drop(module);

    // When it is gone, so is its table.
    assert_eq!(table_of(&self::prepared().kernel.sampled.tables.orc), []);
}

fn kcore_has_the_bytes_that_the_bpf_program_reads() {
    let mut prepared = prepared();
    let symbols = &prepared.kernel.symbols;
    let mut kcore = Kcore::of_running_kernel().unwrap();
    let by_bpf = RawOrc::find(&mut prepared.object, symbols).unwrap();
    let by_kcore = RawOrc::find(&mut kcore, symbols).unwrap();
    assert!(by_bpf == by_kcore, "the ORC tables differ");

    let text = symbols.kernel_text().unwrap();
    let length = 64 << 10;
    let unwinder = symbols.address("unwind_next_frame").unwrap();
    for begin in [text.begin, unwinder] {
        let bytes = prepared.object.read(begin, length).unwrap();
        assert!(bytes == kcore.read(begin, length).unwrap(), "{begin:#x}");
    }
    // Memory that is neither text nor data of the image, and does not change: per-CPU pointers.
    let offsets = &prepared.kernel.offsets;
    for (_, table) in prepared.kernel.cpus() {
        for offset in [offsets.hardirq_stack_ptr, offsets.cea_exception_stacks] {
            let address = table.base + offset;
            let pointer = prepared.object.read_u64(address).unwrap();
            assert_eq!(pointer, kcore.read_u64(address).unwrap());
            assert_ne!(pointer, 0);
        }
    }
}
