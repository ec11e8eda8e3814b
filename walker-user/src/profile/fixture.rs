//! Profiles for tests. One is small and made by hand: an NMI in a timer interrupt in a system
//! call, and stacks that are interrupted, broken or without symbols.

use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use walker_common::StackKind;

use super::{
    Frame, FrameClass, FrameId, Meta, Missing, Profile, Totals, WeightedStack,
    timeline::{Point, StackUse, Timeline},
};

const TASK: FrameClass = FrameClass::Kernel(StackKind::Task);
const IRQ: FrameClass = FrameClass::Kernel(StackKind::Irq);
const NMI: FrameClass = FrameClass::Kernel(StackKind::Nmi);

pub(crate) fn frame(
    profile: &mut Profile,
    class: FrameClass,
    name: &str,
    module: Option<&str>,
) -> FrameId {
    let module = module.map(|module| profile.intern(module));
    let (name, reliable) = match name.strip_prefix("? ") {
        Some(name) => (name, false),
        None => (name, true),
    };
    let name = (!name.is_empty()).then(|| profile.intern(name));
    let base = match class {
        FrameClass::User => 0x55_0000,
        _ => 0xffff_ffff_8100_0000,
    };
    profile.intern_frame(Frame {
        name,
        module,
        class,
        reliable,
        inlined: false,
        source: None,
        address: base + 0x1d,
        offset: 0x1d,
        size: 0x40,
        object: None,
    })
}

fn push(profile: &mut Profile, comm: &str, frames: Vec<FrameId>, samples: u64, stop: &'static str) {
    let comm = profile.intern(comm);
    profile.push(WeightedStack {
        process: comm,
        comm,
        pid: Some(42),
        frames,
        event: 0,
        samples,
        weight: samples,
        stop,
        complete: stop == "end of stack",
    });
}

/// The profile; it has 100 samples.
pub(crate) fn profile() -> Profile {
    let mut profile = Profile::new(Meta {
        title: "make -j2".to_owned(),
        events: vec!["cpu-clock".to_owned()],
        unit: crate::profile::Unit::Samples,
        frequency: Some(997),
        duration: Duration::from_millis(1500),
        totals: Totals {
            taken: 110,
            delivered: 100,
            lost: vec![
                Missing {
                    reason: "ring buffer full".into(),
                    samples: 5,
                },
                Missing {
                    reason: "no memory".into(),
                    samples: 1,
                },
            ],
            filtered: vec![Missing {
                reason: "idle".into(),
                samples: 4,
            }],
        },
    });
    let p = &mut profile;
    let start = frame(p, FrameClass::User, "_start", Some("cc1"));
    let parse = frame(p, FrameClass::User, "parse<int; char>(a)", Some("cc1"));
    let libc = frame(p, FrameClass::User, "", Some("libc.so.6"));
    let entry = frame(p, TASK, "entry_SYSCALL_64_after_hwframe", None);
    let syscall = frame(p, TASK, "do_syscall_64", None);
    let stale = frame(p, TASK, "? ext4_file_read_iter", Some("ext4"));
    let timer = frame(p, TASK, "asm_sysvec_apic_timer_interrupt", None);
    let irq = frame(p, IRQ, "__sysvec_apic_timer_interrupt", None);
    let asm_nmi = frame(p, NMI, "asm_exc_nmi", None);
    let nmi = frame(p, NMI, "perf_event_nmi_handler", None);
    let nowhere = frame(p, TASK, "", None);

    let user = vec![start, parse];
    let task = [user.clone(), vec![entry, syscall]].concat();
    let interrupted = [task.clone(), vec![timer, irq]].concat();
    let all = [interrupted.clone(), vec![asm_nmi, nmi]].concat();
    push(p, "cc1", user, 50, "end of stack");
    push(p, "cc1", task.clone(), 10, "end of stack");
    push(p, "cc1", interrupted, 7, "end of stack");
    push(p, "cc1", all, 20, "end of stack");
    push(p, "cc1", [task, vec![stale]].concat(), 5, "end of stack");
    push(p, "make", vec![libc], 3, "no unwind information");
    push(p, "make", vec![nowhere], 2, "no unwind information");
    // The same stack again, as another process would have it.
    push(p, "make", vec![libc], 3, "no unwind information");
    profile
}

/// [`profile`] with its samples, which are evenly spread over its 1.5 seconds and two CPUs: sample
/// by sample the next stack that has any left.
pub(crate) fn timeline() -> Timeline {
    let profile = profile();
    let mut left: Vec<u64> = profile.stacks().iter().map(|stack| stack.samples).collect();
    let mut order = Vec::new();
    while left.iter().any(|samples| *samples > 0) {
        for (stack, samples) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
            *samples -= 1;
            order.push(stack);
        }
    }
    let mut uses = Vec::new();
    let mut points = Vec::new();
    for (number, &stack) in order.iter().enumerate() {
        let first_use = uses.len() as u32;
        // As deep as frames of 100 bytes make each kernel stack, from the interrupted one outwards.
        let mut counts: Vec<(StackKind, u32)> = Vec::new();
        for id in profile.stacks()[stack].frames.iter().rev() {
            if let FrameClass::Kernel(kind) = profile.frame(*id).class {
                match counts.last_mut() {
                    Some((last, count)) if *last == kind => *count += 1,
                    _ => counts.push((kind, 1)),
                }
            }
        }
        uses.extend(counts.into_iter().map(|(kind, count)| StackUse {
            kind,
            used: count * 100,
            size: 16384,
        }));
        points.push(Point {
            time_ns: number as u64 * 15_000_000,
            stack: stack as u32,
            tid: 42 + stack as u32 % 2,
            cpu: number as u32 % 2,
            number: number as u32 + 1,
            weight: 1,
            first_use,
            use_count: (uses.len() - first_use as usize) as u8,
        });
    }
    Timeline {
        profile,
        points,
        uses,
        began: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
    }
}

/// A profile of one function, in another or inlined into it.
pub(crate) fn inlined() -> Profile {
    let mut profile = Profile::new(Meta::default());
    let p = &mut profile;
    // The line in `main`, of which 0 is none, then where `step` is and whether it is inlined.
    for (main_line, (file, line), inlined, samples) in [
        (7, ("/src/a.h", 3), true, 3),
        (9, ("/src/a.h", 3), true, 1),
        (0, ("/src/a.c", 1), false, 2),
    ] {
        let mut ids = Vec::new();
        for (name, source, inlined) in [
            ("main", ("/src/a.c", main_line), false),
            ("step", (file, line), inlined),
        ] {
            let frame = Frame {
                name: Some(p.intern(name)),
                module: Some(p.intern("a")),
                class: FrameClass::User,
                inlined,
                source: Some((p.intern(source.0), source.1)),
                reliable: true,
                address: 0x55_0010,
                offset: 0x10,
                size: 0x40,
                object: None,
            };
            ids.push(p.intern_frame(frame));
        }
        push(p, "a", ids, samples, "end of stack");
    }
    profile
}

/// Any small profile with some samples of its stacks: at any time, of any thread.
pub(crate) fn any_timeline() -> impl Strategy<Value = Timeline> {
    let point = (any::<[u32; 3]>(), any::<[u8; 3]>());
    (any_profile(), vec(point, 0..40)).prop_map(|(profile, points)| {
        let stacks = profile.stacks().len() as u32;
        let mut points: Vec<_> = points
            .into_iter()
            .filter(|_| stacks > 0)
            .map(|([time, stack, cpu], [tid, weight, _])| Point {
                time_ns: u64::from(time) << 8,
                stack: stack % stacks,
                tid: u32::from(tid % 4),
                cpu: cpu % 512,
                number: 0,
                weight: u64::from(weight),
                first_use: 0,
                use_count: 0,
            })
            .collect();
        points.sort_by_key(|point| point.time_ns);
        for (number, point) in (1..).zip(&mut points) {
            point.number = number;
        }
        let mut timeline = Timeline {
            profile,
            points,
            uses: Vec::new(),
            began: None,
        };
        weigh(&mut timeline);
        timeline
    })
}

/// Gives the stacks the sums of their samples.
pub(crate) fn weigh(timeline: &mut Timeline) {
    let mut sums = vec![(0, 0); timeline.profile.stacks().len()];
    for point in &timeline.points {
        let (samples, weight) = &mut sums[point.stack as usize];
        (*samples, *weight) = (*samples + 1, *weight + point.weight);
    }
    for (stack, (samples, weight)) in sums.into_iter().enumerate() {
        timeline.profile.weigh(stack, samples, weight);
    }
}

/// Any small profile, with any names.
pub(crate) fn any_profile() -> impl Strategy<Value = Profile> {
    let name = || prop_oneof![any::<String>(), "[a-c<&>;\"'\\]\n\t\u{0}\u{fffe}]{0,3}"];
    let class = prop_oneof![
        Just(FrameClass::User),
        select(&StackKind::ALL[..]).prop_map(FrameClass::Kernel),
    ];
    let frame = (
        option::of(name()),
        option::of(name()),
        class,
        any::<[bool; 2]>(),
    );
    let stack = (name(), vec(frame, 0..8), 0..1000_u64);
    (name(), vec(stack, 0..12)).prop_map(|(title, stacks)| {
        let mut profile = Profile::new(Meta {
            events: vec![title.clone()],
            unit: crate::profile::Unit::Samples,
            title,
            ..Meta::default()
        });
        for (comm, frames, samples) in stacks {
            let comm = profile.intern(&comm);
            let mut ids = Vec::new();
            for (name, module, class, [reliable, inlined]) in frames {
                let name = name.map(|name| profile.intern(&name));
                let module = module.map(|module| profile.intern(&module));
                ids.push(profile.intern_frame(Frame {
                    name,
                    module,
                    class,
                    reliable,
                    inlined,
                    source: name.map(|name| (name, 1)),
                    address: 0x1000,
                    offset: 0x10,
                    size: 0,
                    object: None,
                }));
            }
            profile.push(WeightedStack {
                process: comm,
                comm,
                pid: None,
                frames: ids,
                event: 0,
                samples,
                weight: samples,
                stop: "end of stack",
                complete: true,
            });
        }
        profile
    })
}
