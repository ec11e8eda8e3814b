//! Made-up recordings to show: a small one whose figures can be counted by hand, one with hostile
//! names, and large ones.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use walker_common::StackKind;
use walker_user::elf::BuildId;
use walker_user::profile::{
    Frame, FrameClass, FrameId, Meta, Missing, Profile, ProfileObject, Totals, Unit, WeightedStack,
    timeline::{Point, Timeline},
};

pub(crate) const USER: FrameClass = FrameClass::User;
pub(crate) const TASK: FrameClass = FrameClass::Kernel(StackKind::Task);
pub(crate) const IRQ: FrameClass = FrameClass::Kernel(StackKind::Irq);
pub(crate) const NMI: FrameClass = FrameClass::Kernel(StackKind::Nmi);

/// A frame; a name that begins with `~` is one that was inlined, with `? ` one in doubt.
pub(crate) fn frame(profile: &mut Profile, class: FrameClass, name: &str) -> FrameId {
    let (name, inlined) = match name.strip_prefix('~') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (name, reliable) = match name.strip_prefix("? ") {
        Some(name) => (name, false),
        None => (name, true),
    };
    let module = (class == USER).then(|| profile.intern("app"));
    let object = (class == USER).then(|| {
        let path = "/usr/lib/debug/app".into();
        let build_id = BuildId::new(&[0xab; 20]).ok();
        profile.intern_object(ProfileObject { path, build_id })
    });
    let source = (class == USER).then(|| (profile.intern("/src/app.c"), 7));
    let name = Some(profile.intern(name));
    profile.intern_frame(Frame {
        name,
        module,
        class,
        inlined,
        source,
        reliable,
        address: 0x1000,
        offset: 0x10,
        size: 0x40,
        object,
    })
}

pub(crate) fn meta(title: &str, unit: Unit, samples: u64) -> Meta {
    Meta {
        title: title.to_owned(),
        events: vec!["cpu-clock".to_owned()],
        unit,
        frequency: Some(997),
        duration: Duration::from_secs(10),
        totals: Totals {
            taken: samples + 3,
            delivered: samples,
            lost: vec![Missing {
                reason: "ring buffer full".into(),
                samples: 3,
            }],
            filtered: Vec::new(),
        },
    }
}

/// One stack in how many samples, with why its walk ended.
pub(crate) type Stack<'a> = (&'a str, &'a [(FrameClass, &'a str)], u64, &'static str);

pub(crate) const END: &str = "end of stack";

/// A recording of 10 seconds in which the samples of these stacks take turns, one every 10 ms,
/// each weighing `weight`; the threads are as many as the processes.
pub(crate) fn recording(meta: Meta, stacks: &[Stack<'_>], weight: u64) -> Timeline {
    let mut profile = Profile::new(meta);
    let mut left: Vec<u64> = Vec::new();
    for (number, (comm, frames, samples, stop)) in stacks.iter().enumerate() {
        let comm = profile.intern(comm);
        let frames = frames
            .iter()
            .map(|(class, name)| frame(&mut profile, *class, name))
            .collect();
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: Some(100 + number as u32),
            frames,
            event: number % profile.meta.events.len(),
            samples: *samples,
            weight: samples * weight,
            stop,
            complete: *stop == END,
        });
        left.push(*samples);
    }
    let mut points = Vec::new();
    while left.iter().any(|samples| *samples > 0) {
        for (stack, samples) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
            *samples -= 1;
            points.push(Point {
                time_ns: points.len() as u64 * 10_000_000,
                stack: stack as u32,
                tid: 100 + stack as u32,
                cpu: points.len() as u32 % 4,
                number: points.len() as u32 + 1,
                weight,
                first_use: 0,
                use_count: 0,
            });
        }
    }
    Timeline {
        profile,
        points,
        uses: Vec::new(),
        began: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
    }
}

/// A recording that has a bit of everything, of 1,000 samples.
pub(crate) fn small(unit: Unit, weight: u64) -> Timeline {
    let parse = [
        (USER, "_start"),
        (USER, "main"),
        (USER, "parse_file"),
        (USER, "~next_token"),
    ];
    let walk = [
        (USER, "_start"),
        (USER, "main"),
        (USER, "walk"),
        (USER, "walk"),
        (USER, "parse_file"),
    ];
    let read = [
        (USER, "_start"),
        (USER, "main"),
        (USER, "read_all"),
        (TASK, "entry_SYSCALL_64_after_hwframe"),
        (TASK, "do_syscall_64"),
        (TASK, "vfs_read"),
        (TASK, "ext4_file_read_iter"),
    ];
    let irq = [
        &read[..],
        &[
            (TASK, "asm_sysvec_apic_timer_interrupt"),
            (IRQ, "sysvec_apic_timer_interrupt"),
            (IRQ, "handle_softirqs"),
            (IRQ, "net_rx_action"),
        ],
    ]
    .concat();
    let nmi = [
        &irq[..],
        &[(NMI, "asm_exc_nmi"), (NMI, "perf_event_nmi_handler")],
    ]
    .concat();
    let broken = [
        (USER, "? guess_1"),
        (USER, "? guess_2"),
        (USER, "lost_function"),
    ];
    let stacks: [Stack<'_>; 6] = [
        ("cc1", &parse, 400, END),
        ("cc1", &walk, 150, END),
        ("cc1", &read, 250, END),
        ("make", &irq, 120, END),
        ("make", &nmi, 50, END),
        ("make", &broken, 30, "no unwind information"),
    ];
    recording(meta("make -j2 all", unit, 1000), &stacks, weight)
}

/// Names that would do harm if they were taken for anything but text.
pub(crate) const HOSTILE: [&str; 9] = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "--><!--<script>",
    "line\u{2028}separator\u{2029}and\nbreak",
    "quotes ' \" ` ${document.title='owned'}",
    "bidi \u{202e}desrever\u{2066} isolate",
    "javascript:document.title='owned'",
    "{{data}} &lt;b&gt; \\u003cb\\u003e",
    "]]></style><style>body{display:none}",
];

/// A recording with these names everywhere: title, event, processes, frames, modules.
pub(crate) fn hostile() -> Timeline {
    let frames: Vec<_> = HOSTILE.iter().map(|name| (USER, *name)).collect();
    let stacks: Vec<Stack<'_>> = HOSTILE
        .iter()
        .map(|comm| (*comm, &frames[..], 10, HOSTILE[0]))
        .collect();
    let mut meta = meta(HOSTILE[0], Unit::Samples, 90);
    meta.events = vec![HOSTILE[1].to_owned(), HOSTILE[3].to_owned()];
    meta.totals.lost[0].reason = HOSTILE[1].into();
    recording(meta, &stacks, 1)
}

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are good enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A recording of a minute with so many distinct stacks and samples: 16 threads on 4 CPUs, stacks
/// of 12 to 45 frames that branch as those of a large program do.
pub(crate) fn large(stacks: usize, samples: usize) -> Timeline {
    let mut numbers = Numbers(1);
    let mut meta = meta("a large program", Unit::Samples, samples as u64);
    meta.duration = Duration::from_secs(60);
    let mut profile = Profile::new(meta);
    let comms = ["server", "worker", "indexer", "logger"].map(|comm| profile.intern(comm));
    let functions: Vec<[FrameId; 3]> = (0..8000)
        .map(|number| {
            let name = format!(
                "subsystem_{}::component_{}::operation_{number}",
                number % 40,
                number % 300
            );
            [USER, TASK, IRQ].map(|class| frame(&mut profile, class, &name))
        })
        .collect();
    let mut known = HashSet::new();
    let mut distinct = Vec::new();
    while known.len() < stacks {
        let depth = 12 + numbers.below(34);
        let kernel_from = depth - numbers.below(10);
        let irq_from = match numbers.below(10) {
            0 => depth - 3,
            _ => depth,
        };
        let mut at = numbers.below(4);
        let comm = comms[at as usize];
        let frames: Vec<FrameId> = (0..depth)
            .map(|level| {
                // The first branch is taken most of the time.
                let branch = (0..5).map(|_| numbers.below(6)).min().unwrap_or(0);
                at = (at * 31 + branch * 1009 + level * 7) % functions.len() as u64;
                let kernel = usize::from(level >= kernel_from);
                functions[at as usize][kernel + usize::from(kernel == 1 && level >= irq_from)]
            })
            .collect();
        if known.insert(frames.clone()) {
            distinct.push((comm, frames));
        }
    }
    let mut uses = vec![0; stacks];
    let mut points = Vec::with_capacity(samples);
    let mut recent = [0; 16];
    for number in 0..samples {
        // A thread goes on with what it did, mostly; and each stack is there once.
        let thread = numbers.below(16) as usize;
        if number < stacks {
            recent[thread] = number;
        } else if numbers.below(3) == 0 {
            recent[thread] = (0..3)
                .map(|_| numbers.below(stacks as u64))
                .min()
                .unwrap_or(0) as usize;
        }
        uses[recent[thread]] += 1;
        points.push(Point {
            time_ns: (number as u64 * 60_000_000_000) / samples as u64,
            stack: recent[thread] as u32,
            tid: 1000 + thread as u32,
            cpu: thread as u32 % 4,
            number: number as u32 + 1,
            weight: 1,
            first_use: 0,
            use_count: 0,
        });
    }
    for ((comm, frames), samples) in distinct.into_iter().zip(uses) {
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames,
            event: 0,
            samples,
            weight: samples,
            stop: END,
            complete: true,
        });
    }
    Timeline {
        profile,
        points,
        uses: Vec::new(),
        began: None,
    }
}
