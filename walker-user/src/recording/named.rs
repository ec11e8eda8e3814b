//! A recording of stacks that have their names already, such as a live view keeps them: its head says
//! so ([`Head::named`](super::head::Head::named)), and there is nothing to walk again or to look up.
//!
//! The rows of a recording find names by address. Here it is the other way round: every frame gets an
//! address at which its names stand. That is its own, unless others had the same address at another time,
//! or it is one of the kernel that is not to be told.

use std::{collections::HashMap, io, os::unix::ffi::OsStrExt as _};

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{
    chunk::{Kind, Packer, file_header},
    encode::{ROWS_PER_CHUNK, encoded, entry_parts, name_chunks, process_entries},
    head::{Counts, Head, MADE_UP_KERNEL_END, NO_PID},
    rows::{
        CodeRow, Entry, FrameRow, NameRow, NodeRow, ObjectRow, PlacedAt, SampleChunk, SampleRow,
    },
};
use crate::{
    numbered::Numbered,
    profile::{Frame, FrameClass, ObjectIndex, Profile, WeightedStack, timeline::Timeline},
    stack_tree::Process,
    symbolize::{CodeSymbol, Function, KernelSymbol},
    unwind::StopReason,
};

/// The bytes of a recording of these samples. Of the head, the times are said by the samples.
///
/// # Errors
/// If something cannot be encoded, which no profile can cause.
pub fn write(timeline: &Timeline, head: Head) -> io::Result<Vec<u8>> {
    let mut file = File {
        packer: Packer::new()?,
        bytes: file_header().to_vec(),
    };
    let mut tables = Tables::default();
    let profile = &timeline.profile;
    let stacks = profile.stacks().iter();
    let places: Vec<PlacedAt> = stacks.map(|stack| tables.place(profile, stack)).collect();
    let head = Head {
        named: true,
        evidence: false,
        ..head
    };
    file.write(Kind::Head, 0, &serde_json::to_vec(&head)?)?;
    for part in entry_parts(&tables.entries(profile)) {
        file.encode(Kind::Tables, 0, part)?;
    }
    let mut first = 0;
    for nodes in tables.nodes.rows().chunks(ROWS_PER_CHUNK) {
        file.encode(Kind::Nodes, first, nodes)?;
        first += nodes.len() as u64;
    }
    let mut before = head.began_monotonic_ns;
    for (chunk, points) in (0u64..).zip(timeline.points.chunks(ROWS_PER_CHUNK)) {
        // The record before the first: its number is that of the row.
        let record = chunk * ROWS_PER_CHUNK as u64;
        let mut rows = SampleChunk {
            record: record.wrapping_sub(1),
            time_ns: before,
            rows: Vec::with_capacity(points.len()),
        };
        for point in points {
            let stack = &profile.stacks()[point.stack as usize];
            let time_ns = head.began_monotonic_ns + point.time_ns;
            rows.rows.push(SampleRow {
                record: 1,
                time_ns: time_ns.wrapping_sub(before).cast_signed(),
                tid: point.tid,
                cpu: point.cpu,
                event: stack.event as u32,
                place: places[point.stack as usize],
                stop: StopReason::number_of(stack.stop),
                reporting: 0,
                weight: point.weight,
                uses: Vec::new(),
            });
            before = time_ns;
        }
        file.encode(Kind::Samples, 0, &rows)?;
    }
    for chunk in name_chunks(&tables.names())? {
        file.write(Kind::Names, 0, &chunk)?;
    }
    let meta = &profile.meta;
    let counts = Counts::new(&meta.totals, meta.duration);
    file.write(Kind::End, 0, &serde_json::to_vec(&counts)?)?;
    Ok(file.bytes)
}

/// The file so far.
struct File {
    packer: Packer,
    bytes: Vec<u8>,
}

impl File {
    fn write(&mut self, kind: Kind, first: u64, raw: &[u8]) -> io::Result<()> {
        self.bytes.extend(self.packer.pack(kind, first, raw)?);
        Ok(())
    }

    fn encode<T: Serialize + ?Sized>(
        &mut self,
        kind: Kind,
        first: u64,
        rows: &T,
    ) -> io::Result<()> {
        self.write(kind, first, &encoded(rows)?)
    }
}

/// What stacks refer to.
#[derive(Default)]
struct Tables {
    processes: Numbered<Process>,
    notes: Numbered<String>,
    nodes: Numbered<NodeRow>,
    /// What holds user code: the object, and how many others stand for the same, each with other
    /// names for some addresses.
    objects: Numbered<(ObjectIndex, u32)>,
    no_files: Numbered<u32>,
    user: HashMap<(CodeRow, u64), CodeSymbol>,
    kernel: FxHashMap<u64, KernelSymbol>,
    /// The addresses that were made up.
    made_up: Numbered<KernelSymbol>,
}

impl Tables {
    fn place(&mut self, profile: &Profile, stack: &WeightedStack) -> PlacedAt {
        let name = |name| {
            let mut comm = [0; 16];
            let name = profile.text(name);
            let fits = name.floor_char_boundary(comm.len());
            comm[..fits].copy_from_slice(&name.as_bytes()[..fits]);
            comm
        };
        let mut place = PlacedAt::Process(self.processes.number(Process {
            pid: stack.pid.unwrap_or(NO_PID),
            comm: name(stack.comm),
            name: name(stack.process),
        }));
        let frames: Vec<&Frame> = stack.frames.iter().map(|id| profile.frame(*id)).collect();
        // Inlined functions stand with the function that they are a part of.
        for frames in frames.chunk_by(|outer, frame| is_inlined_in(frame, outer)) {
            let frame = self.frame(profile, frames);
            let node = self.nodes.number(NodeRow {
                parent: place,
                frame,
            });
            place = PlacedAt::Node(node);
        }
        place
    }

    /// The row of a frame and of what is inlined in it.
    fn frame(&mut self, profile: &Profile, frames: &[&Frame]) -> FrameRow {
        let frame = frames[0];
        let text = |id| profile.text(id).to_owned();
        match frame.class {
            FrameClass::Kernel(stack) => FrameRow::Kernel {
                ip: self.kernel_address(
                    frame.address,
                    frame.name.map(|name| KernelSymbol {
                        name: text(name),
                        module: frame.module.map(text),
                        offset: frame.offset,
                        size: frame.size,
                    }),
                ),
                after: 0,
                stack: stack as u8,
                reliable: frame.reliable,
            },
            FrameClass::User => {
                let symbol = CodeSymbol {
                    functions: frames
                        .iter()
                        .map(|frame| function(profile, frame))
                        .collect(),
                    module: frame.module.map_or_else(String::new, text),
                    named: frame.name.is_some(),
                    offset: frame.offset,
                    size: frame.size,
                    reason: None,
                };
                FrameRow::User {
                    code: self.code(frame, symbol),
                    address: frame.address,
                    after: 0,
                    reliable: frame.reliable,
                }
            }
            _ => {
                let note = frame.name.map_or_else(String::new, text);
                FrameRow::Note(self.notes.number(note))
            }
        }
    }

    /// An address of the kernel at which this symbol stands: its own, if it is told and no other symbol
    /// stands there.
    fn kernel_address(&mut self, address: u64, symbol: Option<KernelSymbol>) -> u64 {
        let Some(symbol) = symbol else {
            return address;
        };
        if address >= MADE_UP_KERNEL_END {
            let known = self.kernel.entry(address).or_insert_with(|| symbol.clone());
            if *known == symbol {
                return address;
            }
        }
        // 0 is no address.
        u64::from(self.made_up.number(symbol)) + 1
    }

    /// What holds user code, so that this symbol stands at its address.
    fn code(&mut self, frame: &Frame, symbol: CodeSymbol) -> CodeRow {
        let mut same = 0;
        loop {
            let code = match frame.object {
                Some(object) => CodeRow::Object(self.objects.number((object, same))),
                None => CodeRow::NoFile(self.no_files.number(same)),
            };
            let known = self.user.get(&(code, frame.address));
            match known {
                Some(known) if *known != symbol => same += 1,
                Some(_) => return code,
                None => {
                    self.user.insert((code, frame.address), symbol);
                    return code;
                }
            }
        }
    }

    /// All that has a number, but for frames.
    fn entries(&self, profile: &Profile) -> Vec<Entry> {
        let processes = (0..).zip(self.processes.rows());
        let processes = processes.flat_map(|(number, process)| process_entries(number, process));
        let notes = (0..).zip(self.notes.rows());
        let notes = notes.map(|(number, note)| Entry::Note(number, note.clone()));
        let objects = (0..).zip(self.objects.rows());
        let objects = objects
            .map(|(number, (object, _))| Entry::Object(number, object_row(profile, *object)));
        let no_files = (0..).zip(self.no_files.rows());
        let no_files = no_files.map(|(number, _)| Entry::NoFile(number, String::new()));
        processes
            .chain(notes)
            .chain(objects)
            .chain(no_files)
            .collect()
    }

    /// All names, in the order of their addresses.
    fn names(self) -> Vec<NameRow> {
        let made_up = (1..).zip(self.made_up.rows().iter().cloned());
        let mut kernel: Vec<(u64, KernelSymbol)> = self.kernel.into_iter().chain(made_up).collect();
        kernel.sort_unstable_by_key(|(lookup, _)| *lookup);
        let kernel = kernel.into_iter().map(NameRow::from);
        let mut user: Vec<((CodeRow, u64), CodeSymbol)> = self.user.into_iter().collect();
        user.sort_unstable_by_key(|((code, lookup), _)| match *code {
            CodeRow::Object(number) => (0, number, *lookup),
            CodeRow::NoFile(number) => (1, number, *lookup),
            CodeRow::Memory | CodeRow::Unmapped => (2, 0, *lookup),
        });
        let user = user
            .into_iter()
            .map(|((code, lookup), symbol)| NameRow::User {
                code,
                pid: 0,
                lookup,
                symbol,
            });
        kernel.chain(user).collect()
    }
}

/// Whether a frame belongs to the same address as the one before it, towards the root.
fn is_inlined_in(frame: &Frame, outer: &Frame) -> bool {
    let origin = |frame: &Frame| Frame {
        name: None,
        source: None,
        inlined: true,
        ..*frame
    };
    let both_named = frame.name.is_some() && outer.name.is_some();
    frame.inlined && frame.class == FrameClass::User && both_named && origin(frame) == origin(outer)
}

fn function(profile: &Profile, frame: &Frame) -> Function {
    let text = |id| profile.text(id).to_owned();
    let (file, line) = frame.source.unzip();
    Function {
        name: frame.name.map_or_else(String::new, text),
        inlined: frame.inlined,
        file: file.map(text),
        line: line.filter(|line| *line > 0),
    }
}

fn object_row(profile: &Profile, object: ObjectIndex) -> ObjectRow {
    let object = profile.object(object);
    ObjectRow {
        path: object.path.as_os_str().as_bytes().to_vec(),
        build_id: object
            .build_id
            .map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        state: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        output::{folded, json},
        profile::{Meta, fixture, timeline::Point},
        recording::{head::EventHead, reader::Recording},
    };

    fn head(profile: &Profile) -> Head {
        let event = |name: &String| EventHead::counted(name, profile.meta.frequency);
        Head {
            title: profile.meta.title.clone(),
            events: profile.meta.events.iter().map(event).collect(),
            ..Head::default()
        }
    }

    fn read_back(timeline: &Timeline) -> Timeline {
        let bytes = write(timeline, head(&timeline.profile)).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let (recording, _) = Recording::read(file).unwrap();
        assert_eq!(recording.defects(), [""; 0]);
        assert!(recording.is_whole());
        let unnamed = recording.unnamed();
        assert!(unnamed.kernel.is_empty() && unnamed.user.is_empty());
        recording.timeline()
    }

    fn folded(timeline: &Timeline) -> String {
        let mut out = Vec::new();
        folded::write(
            &timeline.profile,
            &folded::Options { markers: true },
            &mut out,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A timeline of one sample for each of these stacks.
    fn timeline(profile: Profile) -> Timeline {
        let point = |stack: u32| Point {
            time_ns: u64::from(stack) * 1000,
            stack,
            tid: 0,
            cpu: stack % 3,
            number: stack + 1,
            weight: 1,
            first_use: 0,
            use_count: 0,
        };
        Timeline {
            points: (0..profile.stacks().len() as u32).map(point).collect(),
            profile,
            uses: Vec::new(),
            began: None,
        }
    }

    /// What no recorder makes is left out: long names of processes, kernel frames that are inlined,
    /// code of no file.
    fn as_recorded(profile: &Profile) -> Profile {
        let mut recorded = Profile::new(profile.meta.clone());
        for stack in profile.stacks() {
            let [process, comm] = [stack.process, stack.comm].map(|name| {
                let name = profile.text(name).chars();
                let name: String = name.filter(|char| *char != '\0').take(4).collect();
                recorded.intern(&name)
            });
            let frames = stack.frames.iter().map(|id| {
                let frame = profile.frame(*id);
                let same = recorded.take_over(profile, frame);
                let mut frame = *recorded.frame(same);
                if let FrameClass::Kernel(_) = frame.class {
                    frame.inlined = false;
                    frame.module = frame.module.filter(|_| frame.name.is_some());
                } else if frame.module.is_none() {
                    frame.module = Some(recorded.intern("file"));
                }
                recorded.intern_frame(frame)
            });
            let frames = frames.collect();
            recorded.push(WeightedStack {
                process,
                comm,
                frames,
                ..*stack
            });
        }
        recorded
    }

    fn one_each(mut profile: Profile) -> Timeline {
        for index in 0..profile.stacks().len() {
            profile.weigh(index, 1, 1);
        }
        timeline(profile)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(profile in fixture::any_profile()) {
            let all = one_each(as_recorded(&profile));
            let read = read_back(&all);
            prop_assert_eq!(folded(&read), folded(&all));
            let times = |timeline: &Timeline| -> Vec<_> {
                timeline.points.iter().map(|p| (p.time_ns, p.cpu, p.weight)).collect()
            };
            prop_assert_eq!(times(&read), times(&all));
        }
    }

    #[test]
    fn frames_keep_files_lines_and_inlined_functions() {
        let mut profile = fixture::inlined();
        profile.meta.events = vec!["cpu-clock".to_owned()];
        let all = one_each(profile);
        let text = |timeline: &Timeline| {
            let mut out = Vec::new();
            json::write(timeline, &json::Options::default(), &mut out).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            value["frames"].to_string()
        };
        assert_eq!(text(&read_back(&all)), text(&all));
    }

    /// Code that was loaded where other code had been.
    #[test]
    fn names_of_one_address_at_different_times_are_not_mixed_up() {
        let mut profile = Profile::new(Meta {
            events: vec!["cpu-clock".to_owned()],
            ..Meta::default()
        });
        let comm = profile.intern("program");
        let classes = [
            (FrameClass::User, 0x1000, Some("[jit]")),
            (
                FrameClass::Kernel(walker_common::StackKind::Task),
                u64::MAX - 0xfff,
                None,
            ),
            (
                FrameClass::Kernel(walker_common::StackKind::Irq),
                0,
                Some("module"),
            ),
        ];
        for (class, address, module) in classes {
            for name in ["before", "after"] {
                let module = module.map(|module| profile.intern(module));
                let name = Some(profile.intern(name));
                let frame = profile.intern_frame(Frame {
                    name,
                    module,
                    class,
                    inlined: false,
                    source: None,
                    reliable: true,
                    address,
                    offset: 0,
                    size: 16,
                    object: None,
                });
                profile.push(WeightedStack {
                    process: comm,
                    comm,
                    pid: None,
                    frames: vec![frame],
                    event: 0,
                    samples: 1,
                    weight: 1,
                    stop: StopReason::NAMES[2],
                    complete: true,
                });
            }
        }
        let all = timeline(profile);
        let read = read_back(&all);
        assert_eq!(folded(&read), folded(&all));
        assert!(
            read.profile
                .stacks()
                .iter()
                .all(|stack| stack.pid.is_none())
        );
        let address = |stack: usize| {
            let frame = read.profile.stacks()[stack].frames[0];
            read.profile.frame(frame).address
        };
        // The second could not be told from the first by its address: it has none.
        let addresses: Vec<u64> = (0..6).map(address).collect();
        assert_eq!(addresses, [0x1000, 0x1000, u64::MAX - 0xfff, 0, 0, 0]);
    }
}
