//! Runs for tests: stacks of which it is known what they weigh, with a little noise.

use walker_common::StackKind;

use super::{compare::Run, stats::Random, sums::Space};
use crate::profile::{FrameClass, Meta, Profile, WeightedStack, fixture};

/// Stacks with what they weigh: `program;main;[k]read;[irq]tick` and so on.
pub(crate) type Stacks<'a> = &'a [(&'a str, f64)];

/// A profile of these stacks, each of which varies by a few percent, on a machine of this speed.
pub(crate) fn profile(random: &mut Random, stacks: Stacks<'_>, speed: f64) -> Profile {
    let mut profile = Profile::new(Meta::default());
    for (path, weight) in stacks {
        let mut names = path.split(';');
        let comm = profile.intern(names.next().unwrap_or_default());
        let frames = names.map(|name| {
            let (class, name) = match name.split_once(']') {
                Some(("[k", name)) => (FrameClass::Kernel(StackKind::Task), name),
                Some(("[irq", name)) => (FrameClass::Kernel(StackKind::Irq), name),
                _ => (FrameClass::User, name),
            };
            fixture::frame(&mut profile, class, name, None)
        });
        let frames = frames.collect();
        let noise = random.next() as f64 / u64::MAX as f64 * 0.06 + 0.97;
        let weight = (weight * noise * speed) as u64;
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames,
            event: 0,
            samples: weight,
            weight,
            stop: "end-of-stack",
            complete: true,
        });
    }
    profile
}

/// A run of such a profile.
pub(crate) fn run(space: &mut Space, random: &mut Random, stacks: Stacks<'_>, speed: f64) -> Run {
    Run {
        sums: space.add(&profile(random, stacks, speed)),
        work: 1.0,
        wall_ns: 1e9 * speed,
    }
}
