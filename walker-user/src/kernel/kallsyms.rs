//! One pass over `/proc/kallsyms`: the section bounds and addresses the other modules ask for, the
//! extent of every text symbol, and where BPF programs are.
//!
//! Naming frames is blazesym's job; this keeps no names except those asked for.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

use thiserror::Error;

use crate::unwind::kernel::TextRange;

/// Where the kernel shows its symbols.
pub const PATH: &str = "/proc/kallsyms";

/// The most symbols that are looked at; a kernel with every symbol and many modules has 300,000.
const MAX_SYMBOLS: usize = 4_000_000;

/// The longest line that is looked at. Kernel symbols are at most 512 characters long
/// (`KSYM_NAME_LEN`).
const MAX_LINE: usize = 4096;

/// Symbols whose addresses are kept.
const WANTED: &[&str] = &[
    "_stext",
    "_etext",
    "__cpuidle_text_start",
    "__cpuidle_text_end",
    "__start_orc_unwind_ip",
    "__stop_orc_unwind_ip",
    "__start_orc_unwind",
    "__stop_orc_unwind",
    "unwind_next_frame",
    "__per_cpu_offset",
    "__per_cpu_start",
];

/// Why the symbols cannot be used.
#[derive(Debug, Error)]
pub enum KallsymsError {
    /// The file cannot be read.
    #[error("cannot read {PATH}: {0}")]
    Io(#[from] io::Error),
    /// Every address is shown as 0.
    #[error(
        "{PATH} shows this user no addresses: run with sudo, or give the binary its capabilities \
         with `sudo setcap cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace+ep PATH-OF-STACKWALK`; \
         nobody sees them while `sysctl kernel.kptr_restrict` is 2"
    )]
    Hidden,
    /// There are more symbols than any kernel has.
    #[error("{PATH} has more than {MAX_SYMBOLS} symbols")]
    TooMany,
    /// A symbol every kernel has is not there.
    #[error("{PATH} has no symbol `{0}`")]
    Missing(&'static str),
}

/// What was kept of the symbols.
#[derive(Debug, Default)]
pub struct Kallsyms {
    wanted: HashMap<&'static str, u64>,
    /// Addresses of all text symbols, sorted.
    text: Vec<u64>,
    /// Where code of BPF programs and trampolines begins, sorted.
    bpf: Vec<u64>,
    /// Where functions begin that only call what is attached to a tracepoint, sorted.
    reporting: Vec<u64>,
    /// Of the names and relative addresses of the kernel image's functions.
    digest: crc32fast::Hasher,
    /// What those are relative to.
    first_text: Option<u64>,
}

/// How the functions are called that are between a tracepoint and a BPF program that is attached to
/// it (`include/linux/tracepoint.h`, `include/trace/bpf_probe.h`, `kernel/trace/bpf_trace.c`, 6.18).
const REPORTING: [&str; 3] = ["__traceiter_", "__bpf_trace_", "bpf_trace_run"];

impl Kallsyms {
    /// Reads the running kernel's symbols.
    ///
    /// # Errors
    /// If the file cannot be read or hides its addresses.
    pub fn of_running_kernel() -> Result<Self, KallsymsError> {
        Self::read(BufReader::with_capacity(1 << 16, File::open(PATH)?))
    }

    /// Reads symbols in the format of `/proc/kallsyms`. Lines that are not of it are passed over.
    ///
    /// # Errors
    /// If reading fails, there are too many symbols, or all addresses are 0.
    pub fn read(mut reader: impl BufRead) -> Result<Self, KallsymsError> {
        let mut symbols = Self::default();
        let mut line = Vec::new();
        let mut count = 0usize;
        let mut any_address = false;
        loop {
            line.clear();
            let mut limited = io::Read::take(&mut reader, MAX_LINE as u64);
            if limited.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            count += 1;
            if count > MAX_SYMBOLS {
                return Err(KallsymsError::TooMany);
            }
            if let Some(address) = symbols.add(&line) {
                any_address |= address != 0;
            }
        }
        if count > 0 && !any_address {
            return Err(KallsymsError::Hidden);
        }
        symbols.text.sort_unstable();
        symbols.text.dedup();
        symbols.bpf.sort_unstable();
        symbols.reporting.sort_unstable();
        Ok(symbols)
    }

    /// Takes in one line, `address type name [module]`, and returns its address.
    fn add(&mut self, line: &[u8]) -> Option<u64> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        let kind = fields.next()?;
        let name = fields.next()?;
        if matches!(kind, "t" | "T" | "w" | "W") {
            self.text.push(address);
            if REPORTING.iter().any(|prefix| name.starts_with(prefix)) {
                self.reporting.push(address);
            }
        }
        let module = fields.next();
        if module.is_none() && matches!(kind, "t" | "T") {
            let first = *self.first_text.get_or_insert(address);
            self.digest
                .update(&address.wrapping_sub(first).to_le_bytes());
            self.digest.update(name.as_bytes());
        }
        if module == Some("[bpf]") {
            self.bpf.push(address);
        } else if let Some(wanted) = WANTED.iter().find(|wanted| **wanted == name) {
            self.wanted.entry(wanted).or_insert(address);
        }
        Some(address)
    }

    /// The addresses of all symbols of the running kernel with this name: none if it has none, or
    /// shows only functions and this is a variable (no `CONFIG_KALLSYMS_ALL`).
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn addresses_of(name: &str) -> Result<Vec<u64>, KallsymsError> {
        let reader = BufReader::with_capacity(1 << 16, File::open(PATH)?);
        let mut addresses = Vec::new();
        for line in reader.split(b'\n').take(MAX_SYMBOLS) {
            let line = line?;
            let Ok(line) = std::str::from_utf8(&line) else {
                continue;
            };
            let mut fields = line.split_ascii_whitespace();
            let (address, _kind) = (fields.next(), fields.next());
            if fields.next() == Some(name)
                && let Some(Ok(address)) = address.map(|text| u64::from_str_radix(text, 16))
            {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// The address of one of the symbols this module keeps.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        self.wanted.get(name).copied()
    }

    /// The range between two of the symbols this module keeps, if both are there and in order.
    #[must_use]
    pub fn range(&self, begin: &str, end: &str) -> Option<TextRange> {
        let (begin, end) = (self.address(begin)?, self.address(end)?);
        (begin < end).then_some(TextRange { begin, end })
    }

    /// The text of the kernel image.
    ///
    /// # Errors
    /// If the symbols have no bounds of it.
    pub fn kernel_text(&self) -> Result<TextRange, KallsymsError> {
        self.range("_stext", "_etext")
            .ok_or(KallsymsError::Missing("_stext"))
    }

    /// Bytes from the text symbol at `address` to the next one; `None` if there is no text symbol
    /// at this address or none after it.
    #[must_use]
    pub fn size_at(&self, address: u64) -> Option<u64> {
        let index = self.text.binary_search(&address).ok()?;
        Some(self.text.get(index + 1)? - address)
    }

    /// Whether the code at an address only calls what is attached to a tracepoint.
    #[must_use]
    pub fn is_reporting(&self, address: u64) -> bool {
        let at = self.text.partition_point(|start| *start <= address);
        let start = at.checked_sub(1).and_then(|index| self.text.get(index));
        start.is_some_and(|start| self.reporting.binary_search(start).is_ok())
    }

    /// Tells kernels apart whose image has other functions, or has them elsewhere; where it was
    /// loaded and which modules there are makes no difference.
    #[must_use]
    pub fn digest(&self) -> u32 {
        self.digest.clone().finalize()
    }

    /// Where the code of BPF programs and trampolines begins, sorted.
    #[must_use]
    pub fn bpf_symbols(&self) -> &[u64] {
        &self.bpf
    }
}

#[cfg(test)]
mod tests {
    use super::{Kallsyms, KallsymsError};
    use crate::unwind::kernel::TextRange;

    fn read(text: &str) -> Result<Kallsyms, KallsymsError> {
        Kallsyms::read(text.as_bytes())
    }

    #[test]
    fn bounds_sizes_and_bpf_symbols_are_kept() {
        let symbols = read(
            "ffffffff81000000 T _stext\n\
             ffffffff81000000 T _text\n\
             ffffffff81000040 t first\n\
             ffffffff810000a0 t second\t[module]\n\
             ffffffff82000000 T _etext\n\
             ffffffffc0000010 t bpf_prog_6deef7357e7b4530\t[bpf]\n",
        )
        .unwrap();
        assert_eq!(
            symbols.kernel_text().unwrap(),
            TextRange {
                begin: 0xffff_ffff_8100_0000,
                end: 0xffff_ffff_8200_0000
            }
        );
        assert_eq!(symbols.size_at(0xffff_ffff_8100_0000), Some(0x40));
        assert_eq!(symbols.size_at(0xffff_ffff_8100_0040), Some(0x60));
        assert_eq!(symbols.size_at(0xffff_ffff_8100_0041), None);
        assert_eq!(symbols.bpf_symbols(), [0xffff_ffff_c000_0010]);
    }

    #[test]
    fn hidden_addresses_are_an_error_that_says_what_to_do() {
        let error = read("0000000000000000 T _stext\n0000000000000000 T _etext\n").unwrap_err();
        assert!(matches!(error, KallsymsError::Hidden));
        assert!(error.to_string().contains("sudo setcap"));
    }

    #[test]
    fn lines_that_are_no_symbols_are_passed_over() {
        let long = "f".repeat(100_000);
        let text =
            format!("\n{long}\nx y z\nffffffff81000000\n\u{fffd} T a\nffffffff81000000 T _stext\n");
        let symbols = read(&text).unwrap();
        assert_eq!(symbols.address("_stext"), Some(0xffff_ffff_8100_0000));
        assert!(matches!(
            symbols.kernel_text(),
            Err(KallsymsError::Missing(_))
        ));
    }
}
