//! Recordings of which it is known what is in them: samples of functions of the kernel.

use walker_common::StackKind;
use walker_user::{
    profile::{
        Frame, FrameClass, Profile, WeightedStack,
        timeline::{Point, Timeline},
    },
    recording::{
        head::{EventHead, Head},
        named,
    },
};

/// The bytes of a recording of these stacks: the functions from the root on, by number, and how many
/// samples there are. A function without a name is one that has no symbol.
pub(crate) fn recording(
    names: &[impl AsRef<str>],
    stacks: &[(Vec<usize>, u32)],
) -> std::io::Result<Vec<u8>> {
    let head = Head {
        events: vec![EventHead::counted("cpu-clock", Some(1000))],
        ..Head::default()
    };
    let mut profile = Profile::new(head.meta());
    let comm = profile.intern("program");
    let mut frames = Vec::new();
    for (number, name) in (0u64..).zip(names) {
        let name = name.as_ref();
        let name = (!name.is_empty()).then(|| profile.intern(name));
        frames.push(profile.intern_frame(Frame {
            name,
            module: None,
            class: FrameClass::Kernel(StackKind::Task),
            inlined: false,
            source: None,
            reliable: true,
            address: 0xffff_ffff_8100_0000 + number * 64,
            offset: 0,
            size: 64,
            object: None,
        }));
    }
    let mut points = Vec::new();
    for (stack, (path, samples)) in (0..).zip(stacks) {
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: Some(7),
            frames: path.iter().map(|function| frames[*function]).collect(),
            event: 0,
            samples: (*samples).into(),
            weight: (*samples).into(),
            stop: "end-of-stack",
            complete: true,
        });
        points.extend((0..*samples).map(|number| Point {
            time_ns: u64::from(number) * 1_000_000,
            stack,
            tid: 7,
            cpu: 0,
            number: 0,
            weight: 1,
            first_use: 0,
            use_count: 0,
        }));
    }
    let timeline = Timeline {
        profile,
        points,
        uses: Vec::new(),
        began: None,
    };
    named::write(&timeline, head)
}
