//! The flame graph of what changed: the runs of each side as one profile, by names that builds have in
//! common, and colours for what is significant only.

use std::{
    borrow::Cow,
    io::{self, Write},
    time::Duration,
};

use rustc_hash::FxHashSet;

use super::Report;
use crate::{
    ci::compare::Status,
    output::{
        diff::{
            Compared, Diff,
            svg::{Widths, write_counted},
        },
        svg::Options,
    },
    profile::{Frame, FrameClass, FrameId, Meta, Missing, Profile, WeightedStack, build_names},
};

/// The runs of one side, merged.
#[derive(Debug, Clone)]
pub struct Merged {
    profile: Profile,
    work: f64,
}

impl Merged {
    /// No run yet; `title` says what they are.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self {
            profile: Profile::new(Meta {
                title: title.to_owned(),
                ..Meta::default()
            }),
            work: 0.0,
        }
    }

    /// Adds a run that did so much work.
    pub fn add(&mut self, run: &Profile, work: f64, kernel_only: bool) {
        self.work += work;
        let merged = &mut self.profile;
        let totals = &mut merged.meta.totals;
        totals.taken += run.meta.totals.taken;
        totals.delivered += run.meta.totals.delivered;
        add_missing(&mut totals.lost, &run.meta.totals.lost);
        add_missing(&mut totals.filtered, &run.meta.totals.filtered);
        (merged.meta.unit, merged.meta.frequency) = (run.meta.unit, run.meta.frequency);
        merged.meta.events.clone_from(&run.meta.events);
        merged.meta.duration += run.meta.duration;
        let frames: Vec<Option<FrameId>> = run
            .frames()
            .map(|id| {
                let frame = run.frame(id);
                let is_left_out = kernel_only && frame.class == FrameClass::User;
                (!is_left_out).then(|| same_in_all(merged, run, frame))
            })
            .collect();
        for stack in run.stacks() {
            let path: Vec<FrameId> = { stack.frames.iter() }
                .filter_map(|id| frames[id.index()])
                .collect();
            if path.is_empty() && kernel_only {
                continue;
            }
            let process = match kernel_only {
                true => "kernel".into(),
                false => build_names::of_process(run.text(stack.process)),
            };
            let process = merged.intern(&process);
            merged.push(WeightedStack {
                process,
                comm: process,
                pid: None,
                frames: path,
                ..*stack
            });
        }
    }
}

/// Adds what went missing to the sums by reason.
fn add_missing(sums: &mut Vec<Missing>, more: &[Missing]) {
    for missing in more {
        match sums.iter_mut().find(|sum| sum.reason == missing.reason) {
            Some(sum) => sum.samples += missing.samples,
            None => sums.push(missing.clone()),
        }
    }
}

/// A frame as all builds have it: without addresses and lines, and by its matching name.
fn same_in_all(merged: &mut Profile, run: &Profile, frame: &Frame) -> FrameId {
    let name = frame
        .name
        .map(|name| merged.intern(&build_names::of_function(run.text(name))));
    let module = frame.module.map(|module| merged.intern(run.text(module)));
    merged.intern_frame(Frame {
        name,
        module,
        source: None,
        address: 0,
        // Without a name it is a part of what is shown.
        offset: if name.is_some() { 0 } else { frame.offset },
        size: 0,
        object: None,
        ..*frame
    })
}

/// Draws what changed, as wide as it is after.
///
/// # Errors
///
/// If `out` cannot be written to, or the sides cannot be compared.
pub fn write(report: &Report<'_>, sides: [&Merged; 2], out: &mut impl Write) -> io::Result<()> {
    let [before, after] = sides.map(|side| Compared {
        profile: &side.profile,
        duration: Duration::ZERO,
    });
    let diff =
        Diff::of_costs(before, after, [sides[0].work, sides[1].work]).map_err(io::Error::other)?;
    let mut changed: FxHashSet<(Cow<'_, str>, FrameClass)> = FxHashSet::default();
    if let Ok(comparison) = &report.outcome {
        let findings = comparison.findings.iter();
        for finding in findings.filter(|finding| finding.status != Status::Unchanged) {
            let function = comparison.function(finding.function);
            changed.insert((build_names::of_function(&function.name), function.class));
        }
    }
    let counts = |name: &str, class: FrameClass| changed.contains(&(name.into(), class));
    write_counted(&diff, Widths::After, &Options::default(), &counts, out)
}
