//! What a page shows: stacks merged and in the order of time, colours, units, figures.

use serde_json::{Value, json};
use walker_user::profile::{FrameClass, Profile, Unit, timeline::Timeline};

use crate::{Test, chromium::Page, opened, recordings, test};

pub(crate) const TESTS: &[Test] = &[
    test!(a_page_shows_what_the_profile_holds),
    test!(the_root_is_painted),
    test!(the_heaviest_come_first),
    test!(sides_and_processes_can_be_left_out),
    test!(samples_stand_in_the_order_of_time),
    test!(weights_have_their_unit),
    test!(events_are_frames),
    test!(dark_and_light_follow_the_system_until_they_are_chosen),
    test!(the_inspector_tells_all_of_a_frame),
    test!(stacks_without_samples_have_no_strip_of_time),
];

/// The nodes of the page's tree, depth first: depth, name, own and total weight.
fn shown_tree(page: &mut Page) -> Value {
    page.evaluate(
        "(() => {
            const { graph, tree } = stackwalk;
            return Array.from({ length: graph.count }, (_, box) => {
                const node = graph.node[box];
                return [graph.depth[box], stackwalk.model.nameOf(tree.label[node]), tree.own[node], tree.total[node]];
            });
        })()",
    )
}

/// The same of the profile's.
fn tree(profile: &Profile, markers: bool) -> Value {
    let tree = profile.tree(markers);
    let nodes = tree.nodes().iter().filter(|node| node.total > 0);
    let node = |node: &walker_user::profile::tree::Node| {
        let doubt = if node.label.reliable { "" } else { "? " };
        let name = format!("{doubt}{}", profile.text(node.label.name));
        json!([node.depth, name, node.own, node.total])
    };
    nodes.map(node).collect()
}

fn a_page_shows_what_the_profile_holds() {
    for timeline in [
        recordings::small(Unit::Samples, 1),
        recordings::large(300, 5000),
    ] {
        let mut page = opened(&timeline);
        assert_eq!(page.complaints(), [""; 0]);
        assert_eq!(shown_tree(&mut page), tree(&timeline.profile, true));
        page.press("markers");
        assert_eq!(shown_tree(&mut page), tree(&timeline.profile, false));
        assert_eq!(page.complaints(), [""; 0]);
    }
}

/// The colour of the canvas in the middle of the widest box of this depth.
fn colour_at(page: &mut Page, depth: u32) -> Value {
    let depth = f64::from(depth);
    page.evaluate(&format!(
        "(() => {{
            const {{ canvas }} = stackwalk.painter;
            const y = stackwalk.topOf({depth}) - document.getElementById('scroll').scrollTop + 3;
            const pixel = canvas.getContext('2d').getImageData(canvas.width - 60, y, 1, 1).data;
            return '#' + Array.from(pixel.slice(0, 3), byte => byte.toString(16).padStart(2, '0')).join('');
        }})()"
    ))
}

fn the_root_is_painted() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    page.picture("light");
    let fills = page.evaluate("stackwalk.colours.fills[0]");
    let root = colour_at(&mut page, 0);
    assert!(fills.as_array().unwrap().contains(&root), "{root}");
    assert_ne!(colour_at(&mut page, 25), root, "above is paper");
    page.select("root", "top");
    page.picture("icicle");
    assert_eq!(colour_at(&mut page, 0), root);
    assert_eq!(page.evaluate("stackwalk.topOf(0)"), 0);
}

fn the_heaviest_come_first() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    page.select("order", "weight");
    page.picture("left-heavy");
    let rows = shown_tree(&mut page);
    let on = |depth: u64| -> Vec<&str> {
        let rows = rows.as_array().unwrap().iter();
        rows.filter(|row| row[0] == depth)
            .map(|row| row[1].as_str().unwrap())
            .collect()
    };
    assert_eq!(on(1), ["cc1", "make"]);
    assert_eq!(on(4)[..3], ["parse_file", "read_all", "walk"]);
    assert_eq!(on(2), ["_start", "_start", "? [not unwound]"]);
}

/// The weight of the stacks that have a frame of this kind of code.
fn weight_with(timeline: &Timeline, has: impl Fn(FrameClass) -> bool) -> u64 {
    let profile = &timeline.profile;
    let stacks = profile.stacks().iter();
    let with = stacks.filter(|stack| stack.frames.iter().any(|&id| has(profile.frame(id).class)));
    with.map(|stack| stack.weight).sum()
}

fn sides_and_processes_can_be_left_out() {
    let timeline = recordings::small(Unit::Samples, 1);
    let mut page = opened(&timeline);
    let names = |page: &mut Page| shown_tree(page).to_string();
    page.press("user");
    let rows = shown_tree(&mut page);
    let kernel = |class| matches!(class, FrameClass::Kernel(_));
    let on_processes: u64 = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row[0] == 2)
        .map(|row| row[3].as_u64().unwrap())
        .sum();
    assert_eq!(on_processes, weight_with(&timeline, kernel));
    assert!(!names(&mut page).contains("parse_file"));
    page.press("user");
    page.press("kernel");
    let shown = names(&mut page);
    assert!(
        shown.contains("parse_file") && !shown.contains("vfs_read") && !shown.contains("[IRQ]")
    );
    page.press("inlined");
    assert!(!names(&mut page).contains("next_token"));
    assert_eq!(shown_tree(&mut page)[0][3], 1000);
    page.select("processes", "none");
    assert!(!names(&mut page).contains("cc1"));
    page.select("processes", "id");
    assert!(names(&mut page).contains("cc1 (101)"));
    assert_eq!(shown_tree(&mut page)[0][3], 1000);
    assert_eq!(page.complaints(), [""; 0]);
}

fn samples_stand_in_the_order_of_time() {
    let timeline = recordings::small(Unit::Samples, 1);
    let mut page = opened(&timeline);
    page.select("order", "time");
    page.picture("time-ordered");
    // The thread that is chosen has one stack, so that each of its frames is one box.
    assert_eq!(
        page.text("range"),
        "shown: 400 samples of thread 100, all of the time"
    );
    assert_eq!(page.evaluate("stackwalk.boxes.count"), 6);
    page.select("thread", "-1");
    page.picture("time-ordered-all");
    // Boxes of processes are runs of samples of one process.
    let stacks = timeline.profile.stacks();
    let mut runs: Vec<(&str, u64)> = Vec::new();
    for point in &timeline.points {
        let comm = timeline.profile.text(stacks[point.stack as usize].comm);
        match runs.last_mut() {
            Some(last) if last.0 == comm => last.1 += 1,
            _ => runs.push((comm, 1)),
        }
    }
    let shown = page.evaluate(
        "(() => {
            const { boxes, tree, model } = stackwalk;
            const runs = [];
            for (let box = 0; box < boxes.count; box++) {
                if (boxes.depth[box] === 1) runs.push([model.nameOf(tree.label[boxes.node[box]]), boxes.x1[box] - boxes.x0[box]]);
            }
            return runs;
        })()",
    );
    assert_eq!(shown, json!(runs));
    assert_eq!(page.complaints(), [""; 0]);
}

fn weights_have_their_unit() {
    for (unit, weight, shown, root) in [
        (
            Unit::Samples,
            1,
            "shown: 1,000 samples, all of the time",
            "1,000 samples, 100.00 %",
        ),
        (
            Unit::Events,
            50,
            "shown: 1,000 samples, 50,000 events, all of the time",
            "50,000 events, 100.00 %",
        ),
        (
            Unit::Nanoseconds,
            1_500_000,
            "shown: 1,000 samples, 1.500 s, all of the time",
            "1.500 s, 100.00 %",
        ),
    ] {
        let mut page = opened(&recordings::small(unit, weight));
        assert_eq!(page.text("range"), shown);
        assert!(
            page.text("inspector").contains(root),
            "{}",
            page.text("inspector")
        );
    }
}

fn events_are_frames() {
    let mut timeline = recordings::small(Unit::Samples, 1);
    let mut meta = timeline.profile.meta.clone();
    meta.events = vec!["page-faults".to_owned(), "cpu-clock".to_owned()];
    let stacks = [("a", &[(recordings::USER, "main")][..], 4, recordings::END); 2];
    timeline = recordings::recording(meta, &stacks, 1);
    let mut page = opened(&timeline);
    assert_eq!(shown_tree(&mut page), tree(&timeline.profile, true));
    assert_eq!(shown_tree(&mut page)[1][1], "cpu-clock");
}

fn dark_and_light_follow_the_system_until_they_are_chosen() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    let paper = |page: &mut Page| page.evaluate("getComputedStyle(document.body).backgroundColor");
    let (light, dark) = (json!("rgb(255, 255, 255)"), json!("rgb(20, 22, 26)"));
    page.prefer("light");
    assert_eq!(paper(&mut page), light);
    let light_root = colour_at(&mut page, 0);
    page.prefer("dark");
    page.picture("dark");
    assert_eq!(paper(&mut page), dark);
    assert_ne!(colour_at(&mut page, 0), light_root);
    page.press("theme");
    assert_eq!(page.text("theme"), "theme: light");
    assert_eq!(paper(&mut page), light);
    page.prefer("light");
    page.press("theme");
    assert_eq!(page.text("theme"), "theme: dark");
    assert_eq!(paper(&mut page), dark);
}

/// The text of what is selected, with every piece on its own.
fn inspector(page: &mut Page) -> Vec<String> {
    let pieces = page.evaluate(
        "Array.from(document.querySelectorAll('#inspector :is(h2, dt, dd, h3, li, p)'), piece => piece.textContent)",
    );
    let pieces = pieces.as_array().unwrap().iter();
    pieces
        .map(|piece| piece.as_str().unwrap().to_owned())
        .collect()
}

fn the_inspector_tells_all_of_a_frame() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    page.evaluate(
        "(() => {
            const { boxes, tree, model } = stackwalk;
            for (let box = 0; box < boxes.count; box++) {
                if (model.nameOf(tree.label[boxes.node[box]]) === 'walk') return stackwalk.choose(box, true);
            }
        })()",
    );
    page.picture("inspector");
    assert_eq!(
        inspector(&mut page),
        [
            "walk",
            "is",
            "user space",
            "module",
            "app",
            "source",
            "/src/app.c:7",
            "file",
            "/usr/lib/debug/app",
            "build ID",
            &"ab".repeat(20),
            "total",
            "150 samples, 15.00 %",
            "own",
            "0 samples, 0.00 %",
            "incomplete walks",
            "none",
            "seen",
            "first at 10.00 ms",
            "last at 6.480 s",
            // Half of the calls are by itself, in stacks that have both.
            "callers",
            "100.00 %main",
            "100.00 %walk",
            "callees",
            "100.00 %parse_file",
            "100.00 %walk",
        ]
    );
    page.evaluate("stackwalk.choose(0, true)");
    let whole = inspector(&mut page);
    let stops = whole
        .iter()
        .position(|piece| piece == "incomplete walks")
        .unwrap();
    assert_eq!(
        whole[stops + 1..stops + 3],
        ["3.00 %", "no unwind information: 30 samples"]
    );
}

fn stacks_without_samples_have_no_strip_of_time() {
    let mut timeline = recordings::small(Unit::Samples, 1);
    timeline.points.clear();
    let mut page = opened(&timeline);
    assert_eq!(shown_tree(&mut page), tree(&timeline.profile, true));
    assert_eq!(
        page.evaluate("document.getElementById('when').hidden"),
        true
    );
    assert_eq!(page.complaints(), [""; 0]);
}
