//! A process as a test program printed it: mappings, objects and samples.

use std::{collections::BTreeMap, fs};

use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, read::elf::ElfFile64,
};
use walker_common::wire::Registers;
use walker_user::unwind::{
    Frame,
    memory::Segment,
    user::{
        registers::UserRegisters,
        sections::{CfiSections, Section},
        stack::UserStack,
        tables::CfiTables,
        walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalk, UserWalker},
    },
};

/// An object file of the process.
pub(crate) struct LoadedObject {
    bytes: Vec<u8>,
    /// File offset, length, and address as linked.
    segments: Vec<(u64, u64, u64)>,
    /// Address as linked, length and name, sorted.
    symbols: Vec<(u64, u64, String)>,
    pub(crate) tables: CfiTables,
}

impl LoadedObject {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let tables = CfiTables::new(sections(&bytes)).unwrap();
        let file = ElfFile64::<object::Endianness>::parse(bytes.as_slice()).unwrap();
        let segments = file
            .segments()
            .map(|segment| {
                let (offset, length) = segment.file_range();
                (offset, length, segment.address())
            })
            .collect();
        let mut symbols: Vec<(u64, u64, String)> = file
            .symbols()
            .filter(|symbol| symbol.size() > 0)
            .map(|symbol| {
                let name = symbol.name().unwrap_or_default();
                (symbol.address(), symbol.size(), name.to_owned())
            })
            .collect();
        symbols.sort();
        Self {
            segments,
            symbols,
            tables,
            bytes,
        }
    }

    fn linked(&self, offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .find(|(start, length, _)| (*start..start + length).contains(&offset))
            .map(|(start, _, address)| offset - start + address)
    }

    fn symbol(&self, address: u64) -> Option<&str> {
        let after = self.symbols.partition_point(|symbol| symbol.0 <= address);
        // Aliases, and labels within a function, may come in between.
        self.symbols[..after]
            .iter()
            .rev()
            .take(16)
            .find(|(start, length, _)| address - start < *length)
            .map(|(_, _, name)| name.as_str())
    }
}

/// The sections with unwind information of an ELF file.
pub(crate) fn sections(bytes: &[u8]) -> CfiSections {
    let file = ElfFile64::<object::Endianness>::parse(bytes).unwrap();
    let section = |name| {
        let section = file.section_by_name(name)?;
        Some(Section {
            address: section.address(),
            bytes: section.data().unwrap().into(),
        })
    };
    CfiSections {
        eh_frame: section(".eh_frame"),
        eh_frame_hdr: section(".eh_frame_hdr"),
        debug_frame: section(".debug_frame"),
        text: file.section_by_name(".text").map(|text| text.address()),
        ..CfiSections::default()
    }
}

struct Mapping {
    begin: u64,
    end: u64,
    offset: u64,
    object: Option<usize>,
}

/// What was captured at one event.
pub(crate) struct Captured {
    pub(crate) registers: UserRegisters,
    pub(crate) stack_address: u64,
    pub(crate) stack: Vec<u8>,
    /// What libgcc's `backtrace()` said.
    pub(crate) chain: Vec<u64>,
}

impl Captured {
    /// All of the copied stack.
    pub(crate) fn whole_stack(&self) -> UserStack<'_> {
        UserStack {
            segment: Segment {
                address: self.stack_address,
                bytes: &self.stack,
            },
            cut_by_budget: false,
        }
    }
}

/// The process, and its samples.
pub(crate) struct Process {
    mappings: Vec<Mapping>,
    pub(crate) objects: Vec<LoadedObject>,
    pub(crate) samples: Vec<Captured>,
}

impl Process {
    /// Reads what a program printed that includes `dump.h`.
    pub(crate) fn parse(output: &str) -> Self {
        let mut process = Self {
            mappings: Vec::new(),
            objects: Vec::new(),
            samples: Vec::new(),
        };
        let mut paths = BTreeMap::new();
        let (mut registers, mut stack, mut chain) = (None, None, None);
        for line in output.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "map" => process.add_mapping(rest, &mut paths),
                "vdso" => {
                    let (address, bytes) = parse_bytes(rest);
                    let index = process.objects.len();
                    process.objects.push(LoadedObject::new(bytes));
                    let mapping = process
                        .mappings
                        .iter_mut()
                        .find(|mapping| mapping.begin == address);
                    mapping.unwrap().object = Some(index);
                }
                "registers" => registers = Some(parse_registers(rest)),
                "stack" => stack = Some(parse_bytes(rest)),
                "chain" => chain = Some(rest.split_whitespace().map(parse_hex).collect()),
                "end" => {
                    let (stack_address, stack) = stack.take().unwrap();
                    process.samples.push(Captured {
                        registers: registers.take().unwrap(),
                        stack_address,
                        stack,
                        chain: chain.take().unwrap(),
                    });
                }
                _ => {}
            }
        }
        process
    }

    fn add_mapping(&mut self, line: &str, paths: &mut BTreeMap<String, usize>) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if !fields[1].contains('x') {
            return;
        }
        let (begin, end) = fields[0].split_once('-').unwrap();
        let path = fields.get(5).filter(|path| path.starts_with('/'));
        let object = path.map(|path| {
            *paths.entry((*path).to_owned()).or_insert_with(|| {
                self.objects
                    .push(LoadedObject::new(fs::read(path).unwrap()));
                self.objects.len() - 1
            })
        });
        self.mappings.push(Mapping {
            begin: parse_hex(begin),
            end: parse_hex(end),
            offset: parse_hex(fields[2]),
            object,
        });
    }

    fn find(&self, address: u64) -> Option<(&Mapping, u64)> {
        let mapping = self
            .mappings
            .iter()
            .find(|mapping| (mapping.begin..mapping.end).contains(&address))?;
        Some((mapping, address - mapping.begin + mapping.offset))
    }

    /// Walks a sample.
    pub(crate) fn walk(&self, walker: &mut UserWalker, index: usize) -> (Vec<Frame>, UserWalk) {
        let sample = &self.samples[index];
        let mut frames = Vec::new();
        let stack = sample.whole_stack();
        let walk = walker.walk(&mut Code(self), &sample.registers, &stack, &mut frames);
        (frames, walk)
    }

    /// The functions of these frames, leaf first; `?` where no symbol says.
    pub(crate) fn names(&self, frames: &[Frame]) -> Vec<&str> {
        let name = |frame: &Frame| {
            let (mapping, offset) = self.find(frame.lookup_address())?;
            let object = &self.objects[mapping.object?];
            object.symbol(object.linked(offset)?)
        };
        frames
            .iter()
            .map(|frame| name(frame).unwrap_or("?"))
            .collect()
    }
}

/// The code of a process.
pub(crate) struct Code<'p>(pub(crate) &'p Process);

impl UserCode for Code<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let (mapping, offset) = self.0.find(address)?;
        let Some(index) = mapping.object else {
            return Some(CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Jit,
            });
        };
        let object = &self.0.objects[index];
        Some(CodeAt {
            module: ModuleId(index as u32),
            address: object.linked(offset)?,
            cfi: Some(&object.tables),
            kind: CodeKind::Object,
        })
    }

    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        let known = || {
            let (mapping, offset) = self.0.find(address)?;
            let object = &self.0.objects[mapping.object?];
            let bytes = object.bytes.get(usize::try_from(offset).ok()?..)?;
            let rest = usize::try_from(mapping.end - address).ok()?;
            Some(&bytes[..bytes.len().min(rest)])
        };
        let bytes = known().unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        len
    }
}

fn parse_hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

fn parse_bytes(text: &str) -> (u64, Vec<u8>) {
    let (address, hex) = text.split_once(' ').unwrap();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect();
    (parse_hex(address), bytes)
}

fn parse_registers(text: &str) -> UserRegisters {
    let values: Vec<u64> = text.split_whitespace().map(parse_hex).collect();
    let mut registers = UserRegisters::from(&Registers::default());
    for (number, value) in values.into_iter().enumerate() {
        registers.set(number, Some(value));
    }
    registers
}
