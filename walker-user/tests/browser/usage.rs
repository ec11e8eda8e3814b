//! How a page is used: search, zoom and ranges of time, with the pointer and by keyboard alone.

use std::collections::BTreeSet;

use serde_json::json;
use walker_user::profile::{Unit, timeline::Timeline};

use crate::{Test, chromium::Page, opened, recordings, test};

pub(crate) const TESTS: &[Test] = &[
    test!(a_match_on_a_match_is_not_counted_again),
    test!(expressions_are_searched_where_they_are_asked_for),
    test!(a_colour_finds_its_frames),
    test!(a_click_zooms_in),
    test!(keys_select_and_zoom),
    test!(a_dragged_range_shows_its_samples_and_no_others),
    test!(keys_select_a_range),
    test!(a_lane_per_cpu_has_all_samples),
    test!(every_control_is_reached_by_tab_and_shows_it),
    test!(keys_are_told),
];

/// The share of the stacks in which some label's name satisfies `test`, as the page writes it.
fn share(timeline: &Timeline, test: impl Fn(&str) -> bool) -> String {
    let profile = &timeline.profile;
    let stacks = profile.stacks().iter();
    let matched = stacks.filter(|stack| {
        let mut labels = profile.picture(stack, true);
        labels.any(|label| test(profile.text(label.name)))
    });
    let weight: u64 = matched.map(|stack| stack.weight).sum();
    format!(
        "{:.2} % matched",
        weight as f64 * 100.0 / profile.weight() as f64
    )
}

fn a_match_on_a_match_is_not_counted_again() {
    for timeline in [
        recordings::small(Unit::Samples, 1),
        recordings::large(500, 4000),
    ] {
        let mut page = opened(&timeline);
        for text in [
            "walk",
            "PARSE",
            "read",
            "component_1",
            "[",
            "nothing of this name",
        ] {
            page.key("/", 0);
            page.type_text(text);
            let lower = text.to_lowercase();
            let expected = share(&timeline, |name| name.to_lowercase().contains(&lower));
            assert_eq!(page.text("result"), expected, "{text}");
            if text == "read" && timeline.points.len() == 1000 {
                page.picture("search");
            }
            page.key("Escape", 0);
            assert_eq!(page.text("result"), "");
        }
        assert_eq!(page.complaints(), [""; 0]);
    }
}

fn expressions_are_searched_where_they_are_asked_for() {
    let timeline = recordings::small(Unit::Samples, 1);
    let mut page = opened(&timeline);
    page.key("f", 2);
    page.type_text("^(walk|parse_file)$");
    assert_eq!(page.text("result"), "0.00 % matched");
    page.press("regex");
    let expected = share(&timeline, |name| name == "walk" || name == "parse_file");
    assert_eq!(page.text("result"), expected);
    page.key("/", 0);
    page.type_text("(");
    assert_eq!(
        page.text("result"),
        "0.00 % matched, no regular expression, searched as text"
    );
}

fn a_colour_finds_its_frames() {
    let timeline = recordings::small(Unit::Samples, 1);
    let mut page = opened(&timeline);
    let legend = page.text("legend");
    for key in ["user 58.00 %", "task 25.00 %", "IRQ 12.00 %", "NMI 5.00 %"] {
        assert!(legend.contains(key), "{key} in {legend}");
    }
    page.evaluate("[...document.querySelectorAll('.key')].find(key => key.textContent.startsWith('IRQ')).click()");
    page.settle();
    assert_eq!(page.text("result"), "17.00 % matched");
}

/// The middle of the first box of this name, in the window.
fn place_of(page: &mut Page, name: &str) -> (f64, f64) {
    let place = page.evaluate(&format!(
        "(() => {{
            const {{ boxes, tree, model, view }} = stackwalk;
            const canvas = document.getElementById('canvas').getBoundingClientRect();
            for (let box = 0; box < boxes.count; box++) {{
                if (model.nameOf(tree.label[boxes.node[box]]) !== '{name}') continue;
                const middle = ((boxes.x0[box] + boxes.x1[box]) / 2 - view[0]) / (view[1] - view[0]);
                const top = stackwalk.topOf(boxes.depth[box]) - document.getElementById('scroll').scrollTop;
                return [canvas.x + middle * canvas.width, canvas.y + top + 8];
            }}
        }})()"
    ));
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

fn a_click_zooms_in() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    let place = place_of(&mut page, "read_all");
    page.hover(place);
    assert!(
        page.text("details")
            .starts_with("read_all – 250 samples, 25.00 %, 0 own, user space")
    );
    page.click(place);
    page.picture("zoomed");
    assert_eq!(page.evaluate("stackwalk.view"), json!([400, 650]));
    assert!(
        page.text("selected")
            .starts_with("read_all, 250 samples, 25.00 %")
    );
    // In a part of the graph, the share of that part is told, too.
    page.key("/", 0);
    page.type_text("vfs_read");
    assert_eq!(
        page.text("result"),
        "42.00 % matched, 100.00 % of this view"
    );
    page.press("reset");
    assert_eq!(page.evaluate("stackwalk.view"), json!([0, 1000]));
    // A drag moves the view, and is no click.
    page.evaluate("stackwalk.zoomTo(200, 400)");
    let (x, y) = page.middle("canvas");
    page.drag((x, y), (x - 100.0, y));
    let view = page.evaluate("stackwalk.view");
    let (from, to) = (view[0].as_f64().unwrap(), view[1].as_f64().unwrap());
    assert!(
        from > 215.0 && from < 230.0 && (to - from - 200.0).abs() < 1e-6,
        "{view}"
    );
}

fn keys_select_and_zoom() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    page.evaluate("document.getElementById('canvas').focus()");
    let selected = |page: &mut Page| page.text("selected").split(',').next().unwrap().to_owned();
    for (key, name) in [
        ("ArrowUp", "cc1"),
        ("ArrowUp", "_start"),
        ("ArrowUp", "main"),
        ("ArrowUp", "parse_file"),
        ("ArrowRight", "read_all"),
        ("ArrowRight", "walk"),
        ("ArrowLeft", "read_all"),
        ("ArrowUp", "entry_SYSCALL_64_after_hwframe"),
        ("ArrowDown", "read_all"),
    ] {
        page.key(key, 0);
        assert_eq!(selected(&mut page), name, "{key}");
    }
    let view = |page: &mut Page| page.evaluate("stackwalk.view");
    page.key("Enter", 0);
    assert_eq!(view(&mut page), json!([400, 650]));
    page.key("+", 0);
    assert_eq!(view(&mut page), json!([462.5, 587.5]));
    page.key("-", 0);
    assert_eq!(view(&mut page), json!([400, 650]));
    page.key("Escape", 0);
    assert_eq!(
        view(&mut page),
        json!([0, 800]),
        "main, of which read_all is a part"
    );
    page.key("Backspace", 0);
    assert_eq!(view(&mut page), json!([0, 1000]));
    page.key("Enter", 0);
    page.key("Home", 0);
    assert_eq!(view(&mut page), json!([0, 1000]));
    // With the root on top, down is away from it.
    page.select("root", "top");
    page.evaluate("stackwalk.choose(0); document.getElementById('canvas').focus()");
    page.key("ArrowDown", 0);
    assert_eq!(selected(&mut page), "cc1");
    // From match to match.
    page.key("/", 0);
    page.type_text("vfs_read");
    page.key("Enter", 0);
    assert_eq!(selected(&mut page), "vfs_read");
    let first = page.evaluate("stackwalk.chosen");
    page.key("n", 0);
    assert_eq!(selected(&mut page), "vfs_read");
    assert_ne!(page.evaluate("stackwalk.chosen"), first);
    page.key("N", 8);
    assert_eq!(page.evaluate("stackwalk.chosen"), first);
    assert_eq!(page.complaints(), [""; 0]);
}

/// Checks that what the page shows is what the samples in its range add up to.
fn assert_range_is_shown(page: &mut Page, timeline: &Timeline) -> u64 {
    let range = page.evaluate("stackwalk.range");
    let (from, to) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
    let in_range = || {
        timeline
            .points
            .iter()
            .filter(|point| (from..to).contains(&point.time_ns))
    };
    let stacks = timeline.profile.stacks();
    let count = in_range().count() as u64;
    let weight: u64 = in_range().map(|point| point.weight).sum();
    let of_make: u64 = in_range()
        .filter(|point| timeline.profile.text(stacks[point.stack as usize].comm) == "make")
        .map(|point| point.weight)
        .sum();
    assert!(count > 0);
    assert_eq!(page.evaluate("stackwalk.tree.samples"), json!(count));
    assert_eq!(page.evaluate("stackwalk.tree.total[0]"), json!(weight));
    let make = page.evaluate(
        "(() => {
            const { tree, model } = stackwalk;
            const node = tree.label.findIndex((label, node) => node < tree.size && model.nameOf(label) === 'make');
            return tree.total[node];
        })()",
    );
    assert_eq!(make, json!(of_make));
    count
}

fn a_dragged_range_shows_its_samples_and_no_others() {
    let timeline = recordings::small(Unit::Nanoseconds, 10_000_000);
    let mut page = opened(&timeline);
    let (x, y) = page.middle("strip");
    page.drag((x - 300.0, y - 10.0), (x + 100.0, y - 5.0));
    page.picture("range");
    let count = assert_range_is_shown(&mut page, &timeline);
    assert!((250..400).contains(&count), "{count}");
    let shown = page.text("range");
    assert!(
        shown.starts_with(&format!("shown: {count} samples, ")) && shown.contains(" from 2."),
        "{shown}"
    );
    page.press("all");
    assert_eq!(page.evaluate("stackwalk.tree.samples"), 1000);
    assert_eq!(page.complaints(), [""; 0]);
}

fn keys_select_a_range() {
    let timeline = recordings::small(Unit::Samples, 1);
    let mut page = opened(&timeline);
    page.evaluate("document.getElementById('strip').focus()");
    for _ in 0..10 {
        page.key("ArrowRight", 0);
    }
    for _ in 0..5 {
        page.key("ArrowRight", 8);
    }
    assert_eq!(
        page.evaluate("stackwalk.range"),
        json!([1_000_000_000, 1_500_000_000])
    );
    assert_eq!(assert_range_is_shown(&mut page, &timeline), 50);
    page.key("ArrowLeft", 8);
    assert_eq!(
        page.evaluate("stackwalk.range"),
        json!([1_000_000_000, 1_400_000_000])
    );
    page.key("ArrowRight", 0);
    assert_eq!(
        page.evaluate("stackwalk.range"),
        json!([1_100_000_000, 1_500_000_000])
    );
    // The same from the graph.
    page.evaluate("document.getElementById('canvas').focus()");
    page.key("ArrowRight", 8);
    assert_eq!(
        page.evaluate("stackwalk.range"),
        json!([1_100_000_000, 1_600_000_000])
    );
    assert_eq!(assert_range_is_shown(&mut page, &timeline), 50);
    page.evaluate("document.getElementById('strip').focus()");
    page.key("Escape", 0);
    assert_eq!(page.evaluate("stackwalk.range"), json!(null));
    assert_eq!(page.evaluate("stackwalk.tree.samples"), 1000);
}

fn a_lane_per_cpu_has_all_samples() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    let sum = "stackwalk.strip.counts.reduce((sum, count) => sum + count, 0)";
    assert_eq!(page.evaluate(sum), 1000);
    let height = page
        .evaluate("document.getElementById('strip').clientHeight")
        .as_f64();
    page.press("lanes");
    page.picture("lanes");
    assert_eq!(page.evaluate(sum), 1000);
    assert_eq!(page.evaluate("stackwalk.strip.layout().count"), 4);
    assert!(
        page.evaluate("document.getElementById('strip').clientHeight")
            .as_f64()
            >= height
    );
}

fn every_control_is_reached_by_tab_and_shows_it() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    page.evaluate("stackwalk.strip.choose([0, 5e9]); stackwalk.zoomTo(0, 10)");
    page.settle();
    let mut seen = BTreeSet::new();
    for _ in 0..45 {
        page.key("Tab", 0);
        let at = page.evaluate(
            "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]",
        );
        let id = at[0].as_str().unwrap().to_owned();
        if !id.is_empty() {
            assert_ne!(at[1], "none", "{id}");
        }
        seen.insert(id);
    }
    let controls = page.evaluate(
        "Array.from(document.querySelectorAll('body > :not(dialog) :is(button, select, input, canvas)'), control => control.id)",
    );
    for control in controls.as_array().unwrap() {
        let control = control.as_str().unwrap();
        let disabled = page.evaluate(&format!(
            "document.getElementById('{control}')?.disabled === true"
        ));
        assert!(
            seen.contains(control) || disabled == true,
            "{control} not in {seen:?}"
        );
    }
    for id in [
        "order", "thread", "search", "reset", "all", "strip", "canvas", "theme", "help",
    ] {
        assert!(seen.contains(id), "{id} not in {seen:?}");
    }
}

fn keys_are_told() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    let open = |page: &mut Page| page.evaluate("document.getElementById('keys').open");
    page.key("?", 8);
    page.picture("keys");
    assert_eq!(open(&mut page), true);
    page.key("Escape", 0);
    assert_eq!(open(&mut page), false);
    page.press("help");
    assert_eq!(open(&mut page), true);
}
