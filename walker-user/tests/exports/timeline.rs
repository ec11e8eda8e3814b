//! A recording with something of everything: two processes and three threads, interrupts, modules,
//! inlined functions, names that are hostile or missing, and walks that stopped early.

use std::time::{Duration, SystemTime};

use walker_common::StackKind;
use walker_user::{
    elf::BuildId,
    profile::{
        Frame, FrameClass, FrameId, Meta, Missing, ObjectIndex, Profile, ProfileObject, Totals,
        Unit, WeightedStack,
        timeline::{Point, Timeline},
    },
};

/// The recording; it has 60 samples at 1,000 Hz.
pub(crate) fn timeline() -> Timeline {
    let mut profile = Profile::new(Meta {
        title: "make -j2\n<evil>".to_owned(),
        events: vec!["cpu-clock".to_owned()],
        unit: Unit::Samples,
        frequency: Some(1000),
        duration: Duration::from_millis(60),
        totals: Totals {
            taken: 63,
            delivered: 60,
            lost: vec![Missing {
                reason: "ring buffer full".into(),
                samples: 3,
            }],
            filtered: Vec::new(),
        },
    });
    let p = &mut profile;
    let cc1 = p.intern_object(ProfileObject {
        path: "/usr/lib/gcc/cc1 (deleted)".into(),
        build_id: Some(BuildId::new(&[0xab; 20]).unwrap()),
    });
    let libc = p.intern_object(ProfileObject {
        path: "/usr/lib/libc.so.6".into(),
        build_id: None,
    });
    let main = user(p, Some("main"), cc1, 0x1100, false);
    let parse = user(p, Some("parse<int>"), cc1, 0x1200, false);
    let peek = user(p, Some("peek"), cc1, 0x1200, true);
    let evil = user(p, Some("a\n\tffff forged+0x1 (b)\nc"), cc1, 0x1300, false);
    let unnamed = user(p, None, libc, 0x2000, false);
    let syscall = kernel(p, "do_syscall_64", None, StackKind::Task, true);
    let read = kernel(
        p,
        "ext4_file_read_iter",
        Some("ext4"),
        StackKind::Task,
        true,
    );
    let stale = kernel(p, "kfree", None, StackKind::Task, false);
    let irq = kernel(p, "net_rx_action", None, StackKind::Irq, true);
    let nmi = kernel(p, "nmi_handle", None, StackKind::Nmi, true);

    let stacks = [
        ("cc1", 42, vec![main, parse, peek], 30, None),
        ("cc1", 42, vec![main, evil, syscall, read], 12, None),
        ("cc1", 42, vec![main, parse, peek, irq, nmi], 8, None),
        ("make", 7, vec![unnamed, syscall, stale, stale], 6, None),
        ("make", 7, vec![unnamed], 4, Some("truncated")),
    ];
    let mut points = Vec::new();
    for (stack, (comm, pid, frames, samples, stop)) in (0..).zip(stacks) {
        let comm = p.intern(comm);
        p.push(WeightedStack {
            process: comm,
            comm,
            pid: Some(pid),
            frames,
            event: 0,
            samples,
            weight: samples,
            stop: stop.unwrap_or("outermost-frame"),
            complete: stop.is_none(),
        });
        for _ in 0..samples {
            let number = points.len() as u32;
            points.push(Point {
                time_ns: u64::from(number) * 1_000_000,
                stack,
                // Every third sample of a process is of its other thread.
                tid: pid + u32::from(pid == 42 && number.is_multiple_of(3)),
                cpu: number % 2,
                number: number + 1,
                weight: 1,
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

fn user(
    profile: &mut Profile,
    name: Option<&str>,
    object: ObjectIndex,
    address: u64,
    inlined: bool,
) -> FrameId {
    let path = profile.object(object).path.clone();
    let module = path.file_name().unwrap().to_string_lossy().into_owned();
    let frame = Frame {
        name: name.map(|name| profile.intern(name)),
        module: Some(profile.intern(&module)),
        class: FrameClass::User,
        inlined,
        source: name.map(|_| (profile.intern("/src/parse.cc"), 17 + u32::from(inlined))),
        reliable: true,
        address: address + 0x10,
        offset: if name.is_some() { 0x10 } else { address + 0x10 },
        size: 0x80,
        object: Some(object),
    };
    profile.intern_frame(frame)
}

fn kernel(
    profile: &mut Profile,
    name: &str,
    module: Option<&str>,
    kind: StackKind,
    reliable: bool,
) -> FrameId {
    let frame = Frame {
        name: Some(profile.intern(name)),
        module: module.map(|module| profile.intern(module)),
        class: FrameClass::Kernel(kind),
        inlined: false,
        source: None,
        reliable,
        address: 0xffff_ffff_8100_0010,
        offset: 0x10,
        size: 0x80,
        object: None,
    };
    profile.intern_frame(frame)
}
