//! From a recording to a [`Timeline`]: distinct stacks with names, and the samples that refer to
//! them.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use rustc_hash::FxHashMap;

use super::{
    DAMAGED, DAMAGED_PROCESS,
    head::{MADE_UP_KERNEL_END, NO_PID},
    reader::Recording,
};
use crate::{
    elf::BuildId,
    process::object::ObjectId,
    profile::{
        Meta, ObjectIndex, Profile, ProfileObject, WeightedStack,
        timeline::{Point, Timeline},
    },
    resolve::{self, Addresses, Referred},
    stack_tree::{Place, RawFrame},
    unwind::StopReason,
};

/// What takes the place of a damaged stack.
const DAMAGED_STACK: &str = "[damaged stack]";
/// What takes the place of stacks when there are [too many](MAX_FRAMES).
const TOO_MANY: &str = "[one of too many stacks]";
/// Most frames of all distinct stacks together: a file of a few kilobytes can describe a tree whose
/// stacks fill any memory. So many of few, so many for each frame of the tree and each sample, and so
/// many of all.
const MAX_FRAMES: usize = 1 << 26;
const MAX_FRAMES_OF_FEW: usize = 1 << 20;
const MAX_FRAMES_FOR_EACH: usize = 256;

impl Recording {
    /// Every distinct address of the samples.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.add_nodes(0, self.nodes.iter().copied(), |process| {
            let process = self.processes.get(process as usize);
            process.map_or(0, |process| process.pid)
        });
        addresses
    }

    /// What was recorded, and how.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            duration: Duration::from_nanos(self.counts.duration_ns),
            totals: self.counts.totals(),
            ..self.head.meta()
        }
    }

    /// The samples with the recording's names, which have to be of all addresses.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let mut builder = Builder {
            recording: self,
            profile: Profile::new(self.meta()),
            stacks: FxHashMap::default(),
            frames: Vec::new(),
            named: 0,
            most: MAX_FRAMES_OF_FEW
                .saturating_add((self.nodes.len() + self.rows.len()) * MAX_FRAMES_FOR_EACH)
                .min(MAX_FRAMES),
        };
        let points = (1..)
            .zip(&self.rows)
            .map(|(number, row)| Point {
                time_ns: row.time_ns.saturating_sub(self.head.began_monotonic_ns),
                stack: builder.stack(row.place, row.event, row.stop, row.weight),
                tid: row.tid,
                cpu: row.cpu,
                number,
                weight: row.weight,
                first_use: row.first_use,
                use_count: row.use_count,
            })
            .collect();
        Timeline {
            profile: builder.finish(),
            points,
            uses: self.uses.clone(),
            began: UNIX_EPOCH.checked_add(Duration::from_nanos(self.head.began_realtime_ns)),
        }
    }
}

/// What samples of one stack have in common.
type Key = (Option<Place>, u16, u8);

/// Builds the profile.
struct Builder<'a> {
    recording: &'a Recording,
    profile: Profile,
    /// The index of a stack, and what it weighs so far.
    stacks: FxHashMap<Key, (u32, u64, u64)>,
    frames: Vec<RawFrame>,
    /// The frames of all stacks so far.
    named: usize,
    /// Most frames of all stacks.
    most: usize,
}

impl Builder<'_> {
    /// The index of a stack, to which a sample is added.
    fn stack(&mut self, place: Option<Place>, event: u16, stop: u8, weight: u64) -> u32 {
        let next = self.stacks.len() as u32;
        let key = (place, event, stop);
        if let Some((index, samples, sum)) = self.stacks.get_mut(&key) {
            *samples += 1;
            *sum = sum.saturating_add(weight);
            return *index;
        }
        self.stacks.insert(key, (next, 1, weight));
        self.push(key);
        next
    }

    fn push(&mut self, (place, event, stop): Key) {
        let has_room = self.named < self.most;
        let place = place.filter(|_| has_room);
        let process = place.and_then(|place| self.recording.stack(place, &mut self.frames));
        let mut frames = match &process {
            Some(process) => {
                let recording = self.recording;
                recording
                    .names
                    .frames(&mut self.profile, recording, process.pid, &self.frames)
            }
            None => vec![
                self.profile
                    .note(if has_room { DAMAGED_STACK } else { TOO_MANY }),
            ],
        };
        if self.recording.head.named {
            for id in &mut frames {
                if self.profile.frame(*id).address < MADE_UP_KERNEL_END {
                    *id = self.profile.without_kernel_address(*id);
                }
            }
        }
        self.named += frames.len();
        let process = process.unwrap_or(DAMAGED_PROCESS);
        let name = StopReason::NAMES.get(usize::from(stop));
        let [process_name, comm] = resolve::process_names(&mut self.profile, &process);
        self.profile.push(WeightedStack {
            process: process_name,
            comm,
            pid: Some(process.pid).filter(|pid| *pid != NO_PID),
            frames,
            event: usize::from(event),
            samples: 0,
            weight: 0,
            stop: name.copied().unwrap_or("unknown"),
            complete: StopReason::completes(stop),
        });
    }

    fn finish(mut self) -> Profile {
        for (index, samples, weight) in self.stacks.into_values() {
            self.profile.weigh(index as usize, samples, weight);
        }
        self.profile
    }
}

impl Referred for Recording {
    fn note(&self, note: u32) -> &str {
        self.notes
            .get(note as usize)
            .map_or(DAMAGED, String::as_str)
    }

    fn object(&self, profile: &mut Profile, id: ObjectId) -> Option<ObjectIndex> {
        let object = self.objects.get(id.0 as usize)?.as_ref()?;
        Some(profile.intern_object(ProfileObject {
            path: PathBuf::from(OsStr::from_bytes(&object.path)),
            build_id: BuildId::new(&object.build_id).ok(),
        }))
    }
}
