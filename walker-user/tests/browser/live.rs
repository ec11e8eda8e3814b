//! The page of `stackwalk live` while samples come: what moves, and what stays where the user has put
//! it.

use serde_json::{Value, json};
use walker_common::StackKind::{Irq, Task};

use crate::{
    Test,
    chromium::Page,
    recordings::HOSTILE,
    served::{
        Door, Run,
        Step::{Kernel, User},
    },
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(the_graph_grows_while_it_is_looked_at),
    test!(zoom_selection_and_search_survive_what_comes),
    test!(a_part_that_is_panned_to_stays_in_view),
    test!(what_is_gone_is_said_and_found_again),
    test!(a_dragged_range_shows_its_samples_and_a_click_goes_on),
    test!(a_range_is_compared_with_the_time_before),
    test!(interrupts_stand_apart_from_their_victims),
    test!(windows_and_toggles_show_what_they_say),
    test!(the_strip_counts_samples_by_cpu),
    test!(names_are_only_text_and_addresses_are_not_told),
    test!(a_server_that_comes_back_is_found_and_so_is_the_place),
    test!(what_is_seen_can_be_downloaded),
    test!(every_live_control_is_reached_by_tab),
];

/// Functions of every kernel.
const SYSCALL: &str = "do_syscall_64";
const READ: &str = "vfs_read";

/// A door, a run behind it and the page of it.
fn looked_at() -> (Door, Run, Page) {
    let mut door = Door::new();
    let run = Run::start(&mut door, "a title");
    let mut page = Page::new();
    page.open_url(&door.url());
    (door, run, page)
}

/// Waits until an expression is true.
fn until(page: &mut Page, condition: &str) {
    page.evaluate(&format!(
        "new Promise(done => {{ const look = () => {{ ({condition}) ? done() : setTimeout(look, 10); }}; look(); }})"
    ));
}

/// Waits until the page shows so many samples.
fn shows(page: &mut Page, samples: u64) {
    until(page, &format!("stackwalk.tree.samples === {samples}"));
    page.settle();
}

/// The weights of all paths that have any by themselves, by the names on the way.
fn folded(page: &mut Page) -> Value {
    page.evaluate(
        "(() => { const { tree, model } = stackwalk, all = {};
            for (let node = 0; node < tree.size; node++) if (tree.own[node] > 0) {
                all[tree.path(node).map(label => model.nameOf(label)).join(';')] = tree.own[node]; }
            return all; })()",
    )
}

/// What is selected: its name, its row, and whether it fills the view.
fn place(page: &mut Page) -> Value {
    page.evaluate(
        "(() => { const { boxes, chosen, view } = stackwalk;
            return [stackwalk.nameOf(chosen), boxes.depth[chosen], view[0] === boxes.x0[chosen] && view[1] === boxes.x1[chosen]]; })()",
    )
}

/// The middle of the first frame with a name, in pixels of the window.
fn place_of(page: &mut Page, name: &str) -> (f64, f64) {
    let place = page.evaluate(&format!(
        "(() => {{ const {{ boxes, tree, model, view }} = stackwalk;
            const box = Array.from({{ length: boxes.count }}, (_, box) => box).find(box => model.nameOf(tree.label[boxes.node[box]]) === '{name}');
            const at = document.getElementById('canvas').getBoundingClientRect();
            const scale = at.width / (view[1] - view[0]);
            const [x0, x1] = [Math.max(boxes.x0[box], view[0]), Math.min(boxes.x1[box], view[1])];
            return [at.x + ((x0 + x1) / 2 - view[0]) * scale,
                at.y + stackwalk.topOf(boxes.depth[box]) - document.getElementById('scroll').scrollTop + 9]; }})()"
    ));
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

fn the_graph_grows_while_it_is_looked_at() {
    let (_door, mut run, mut page) = looked_at();
    assert_eq!(page.text("title"), "a title");
    assert_eq!(page.evaluate("location.search"), "");
    let read = run.stack(
        "reader",
        &[User("app"), Kernel(SYSCALL, Task), Kernel(READ, Task)],
    );
    for _ in 0..3 {
        let all = run.sample(read, 0, 10);
        shows(&mut page, all);
        assert_eq!(
            folded(&mut page),
            json!({ "reader;app+0x1;do_syscall_64;vfs_read": all })
        );
    }
    let other = run.stack("another", &[User("other")]);
    let all = run.sample(other, 1, 5);
    shows(&mut page, all);
    assert_eq!(
        folded(&mut page),
        json!({ "another;other+0x1": 5, "reader;app+0x1;do_syscall_64;vfs_read": 30 })
    );
    until(
        &mut page,
        "document.getElementById('health').textContent.includes('35 taken = 35 delivered + 0 lost')",
    );
    assert_eq!(page.complaints(), [""; 0]);
}

fn zoom_selection_and_search_survive_what_comes() {
    let (_door, mut run, mut page) = looked_at();
    let read = run.stack(
        "reader",
        &[User("app"), Kernel(SYSCALL, Task), Kernel(READ, Task)],
    );
    let all = run.sample(read, 0, 20);
    shows(&mut page, all);
    let at = place_of(&mut page, "do_syscall_64");
    page.click(at);
    let kept = json!(["do_syscall_64", 3, true]);
    assert_eq!(place(&mut page), kept);
    page.key("/", 0);
    page.type_text("^(vfs|SCHED)");
    page.press("regex");
    assert_eq!(page.text("result"), "100.00 % matched");
    // What comes stands to the left, to the right, and on it; some of it is a match.
    for (comm, function, matched) in [
        ("a", "common_interrupt", "83.33"),
        ("z", "common_interrupt", "71.43"),
        ("reader", "schedule", "75.00"),
        ("b", "schedule", "77.78"),
    ] {
        let steps = [User("app"), Kernel(SYSCALL, Task), Kernel(function, Task)];
        let more = run.stack(comm, &steps);
        let all = run.sample(more, 1, 4);
        shows(&mut page, all);
        assert_eq!(place(&mut page), kept);
        assert!(
            page.text("result").starts_with(matched),
            "{}",
            page.text("result")
        );
    }
    assert_eq!(page.complaints(), [""; 0]);
}

fn a_part_that_is_panned_to_stays_in_view() {
    let (_door, mut run, mut page) = looked_at();
    let read = run.stack("reader", &[User("app"), Kernel(READ, Task)]);
    let all = run.sample(read, 0, 64);
    shows(&mut page, all);
    page.evaluate("stackwalk.zoomTo(16, 32)");
    let more = run.stack("before", &[User("app")]);
    let all = run.sample(more, 0, 36);
    shows(&mut page, all);
    // Still the second quarter of the reader, which begins 36 samples further right.
    assert_eq!(page.evaluate("stackwalk.view"), json!([52, 68]));
    page.press("reset");
    let all = run.sample(more, 0, 1);
    shows(&mut page, all);
    assert_eq!(page.evaluate("stackwalk.view"), json!([0, 101]));
}

fn what_is_gone_is_said_and_found_again() {
    let (_door, mut run, mut page) = looked_at();
    let read = run.stack("reader", &[User("app"), Kernel(READ, Task)]);
    let other = run.stack("other", &[User("app")]);
    let all = run.sample(read, 0, 10);
    shows(&mut page, all);
    let at = place_of(&mut page, "vfs_read");
    page.click(at);
    page.hover((5.0, 5.0));
    // A window that is shorter than those to choose from: the samples leave it.
    page.evaluate("stackwalk.setWindow(0.5)");
    shows(&mut page, 0);
    run.sample(other, 0, 10);
    until(
        &mut page,
        "document.getElementById('inspector').textContent === 'vfs_read: no samples in this time.'",
    );
    page.evaluate("stackwalk.setWindow(null)");
    shows(&mut page, 20);
    assert_eq!(place(&mut page), json!(["vfs_read", 3, true]));
    until(
        &mut page,
        "document.querySelector('#inspector h2')?.textContent === 'vfs_read'",
    );
}

/// Samples of one stack, then of another in a later slot; the middle between them in pixels.
fn two_spans(run: &mut Run, page: &mut Page) -> [(f64, f64); 3] {
    let read = run.stack("reader", &[User("app"), Kernel(READ, Task)]);
    let work = run.stack("worker", &[User("work")]);
    let all = run.sample(read, 0, 30);
    shows(page, all);
    let before = page.evaluate("stackwalk.model.slot");
    until(page, &format!("stackwalk.model.slot >= {before} + 20"));
    run.sample(read, 0, 10);
    let all = run.sample(work, 1, 10);
    shows(page, all);
    page.press("pause");
    // The first row's slot, a place between, and behind the last.
    let places = page.evaluate(
        "(() => { const { strip, model: { rows } } = stackwalk;
            const at = strip.canvas.getBoundingClientRect();
            const x = slot => at.x + (slot - strip.first) / strip.perColumn / strip.columns * at.width;
            const [first, last] = [rows.slot[rows.start], rows.slot[rows.end - 1]];
            return [x(first) - 20, x((first + last) / 2), x(last) + 8, at.y + 20]; })()",
    );
    let number = |index: usize| places[index].as_f64().unwrap();
    [0, 1, 2].map(|index| (number(index), number(3)))
}

fn a_dragged_range_shows_its_samples_and_a_click_goes_on() {
    let (_door, mut run, mut page) = looked_at();
    let [before, middle, after] = two_spans(&mut run, &mut page);
    page.drag(before, middle);
    assert_eq!(folded(&mut page), json!({ "reader;app+0x1;vfs_read": 30 }));
    page.drag(middle, after);
    assert_eq!(
        folded(&mut page),
        json!({ "reader;app+0x1;vfs_read": 10, "worker;work+0x1": 10 })
    );
    assert!(page.text("state").starts_with("paused"));
    // What comes is not in the range.
    let work = run.stack("worker", &[User("work")]);
    run.sample(work, 0, 7);
    until(&mut page, "stackwalk.model.health.delivered === 57");
    page.settle();
    assert_eq!(page.evaluate("stackwalk.tree.samples"), 20);
    page.click(middle);
    shows(&mut page, 57);
    assert_eq!(page.text("state"), "live");
    page.click(middle);
    assert!(page.text("state").starts_with("paused"));
    page.key(" ", 0);
    assert_eq!(page.text("state"), "live");
    // By keys alone.
    page.evaluate("document.getElementById('strip').focus()");
    page.key("ArrowLeft", 8);
    page.key("ArrowLeft", 8);
    assert!(page.text("state").starts_with("paused"));
    page.key("Escape", 0);
    assert_eq!(page.text("state"), "live");
    assert_eq!(page.complaints(), [""; 0]);
}

fn a_range_is_compared_with_the_time_before() {
    let (_door, mut run, mut page) = looked_at();
    let [_, middle, after] = two_spans(&mut run, &mut page);
    page.drag(middle, after);
    page.press("compare");
    page.picture("live-compare");
    // All of it was the reader's before; now a half is the worker's.
    let changes = page.evaluate(
        "(() => { const { tree, compared, model } = stackwalk, all = {};
            for (let node = 0; node < tree.size; node++) if (tree.total[node] > 0) {
                all[model.nameOf(tree.label[node])] = [compared.total[node], compared.level(node, 9)]; }
            return all; })()",
    );
    assert_eq!(changes["vfs_read"], json!([-0.5, 0]));
    assert_eq!(changes["work+0x1"], json!([0.5, 8]));
    assert_eq!(changes["worker"], json!([0.5, 4]));
    let colours = page.evaluate(
        "(() => { const { look, model } = stackwalk, fill = stackwalk.look().fill;
            const node = [...stackwalk.tree.own.keys()].filter(node => stackwalk.tree.own[node] > 0);
            return [node.map(fill).sort(), [model.changes[0][0], model.changes[0][8]].sort()]; })()",
    );
    assert_eq!(colours[0], colours[1]);
    assert!(page.text("legend").starts_with("own share shrank −50.00 %"));
    page.press("compare");
    assert_eq!(page.evaluate("stackwalk.look().fill === undefined"), true);
}

fn interrupts_stand_apart_from_their_victims() {
    let (_door, mut run, mut page) = looked_at();
    let interrupted = [
        User("app"),
        Kernel(SYSCALL, Task),
        Kernel("asm_common_interrupt", Task),
        Kernel("common_interrupt", Task),
        Kernel("handle_irq_event", Irq),
    ];
    let read = run.stack(
        "reader",
        &[User("app"), Kernel(SYSCALL, Task), Kernel(READ, Task)],
    );
    let hit = run.stack("reader", &interrupted);
    run.sample(read, 0, 6);
    let all = run.sample(hit, 0, 2);
    shows(&mut page, all);
    assert_eq!(
        folded(&mut page),
        json!({
            "reader;app+0x1;do_syscall_64;vfs_read": 6,
            "reader;app+0x1;do_syscall_64;asm_common_interrupt;common_interrupt;[IRQ];handle_irq_event": 2,
        })
    );
    page.press("apart");
    let apart = |all: u64| {
        json!({
            "reader;app+0x1;do_syscall_64;vfs_read": 6,
            "[IRQ];asm_common_interrupt;common_interrupt;handle_irq_event": all - 6,
        })
    };
    assert_eq!(folded(&mut page), apart(all));
    page.picture("live-apart");
    let all = run.sample(hit, 1, 3);
    shows(&mut page, all);
    assert_eq!(folded(&mut page), apart(all));
}

fn windows_and_toggles_show_what_they_say() {
    let (_door, mut run, mut page) = looked_at();
    let read = run.stack("reader", &[User("app"), Kernel(READ, Task)]);
    let all = run.sample(read, 0, 4);
    shows(&mut page, all);
    for (control, expected) in [
        ("kernel", "reader;app+0x1"),
        ("user", "reader"),
        ("kernel", "reader;vfs_read"),
        ("markers", "reader;vfs_read"),
    ] {
        page.press(control);
        assert_eq!(folded(&mut page), json!({ expected: 4 }), "{control}");
    }
    page.select("processes", "none");
    assert_eq!(folded(&mut page), json!({ "vfs_read": 4 }));
    page.select("processes", "id");
    assert_eq!(folded(&mut page), json!({ "reader (100);vfs_read": 4 }));
    // A key for each window; samples leave the shortest one.
    page.hover((5.0, 5.0));
    page.evaluate("document.activeElement.blur()");
    page.key("1", 0);
    let range = page.evaluate("stackwalk.span[1] - Math.max(stackwalk.span[1] - 100, 0)");
    assert_eq!(
        page.evaluate("stackwalk.span[1] - stackwalk.span[0]"),
        range
    );
    until(&mut page, "stackwalk.tree.samples === 0");
    assert_eq!(page.text("note"), "No samples in this selection.");
    for (key, seconds) in [("2", json!(30)), ("3", json!(300)), ("4", Value::Null)] {
        page.key(key, 0);
        shows(&mut page, 4);
        assert_eq!(page.evaluate("stackwalk.window"), seconds);
    }
}

fn the_strip_counts_samples_by_cpu() {
    let (_door, mut run, mut page) = looked_at();
    let read = run.stack("reader", &[User("app"), Kernel(READ, Task)]);
    run.sample(read, 0, 3);
    let all = run.sample(read, 1, 5);
    shows(&mut page, all);
    let lanes = |page: &mut Page| {
        page.evaluate(
            "(() => { const { counts, columns } = stackwalk.strip, groups = stackwalk.colours.groups.length;
                const lanes = Array(counts.length / groups / columns).fill(0);
                counts.forEach((count, at) => { lanes[Math.floor(at / groups / columns)] += count; });
                return lanes; })()",
        )
    };
    until(&mut page, "stackwalk.strip.counts.some(count => count > 0)");
    assert_eq!(lanes(&mut page), json!([8]));
    page.press("lanes");
    assert_eq!(lanes(&mut page), json!([3, 5]));
}

fn names_are_only_text_and_addresses_are_not_told() {
    let mut door = Door::new();
    let mut run = Run::start(&mut door, HOSTILE[0]);
    let mut page = Page::new();
    page.open_url(&door.url());
    let mut all = 0;
    for name in HOSTILE {
        let end = name.char_indices().map(|(at, c)| at + c.len_utf8());
        let short = end.take_while(|end| *end <= 15).last().unwrap();
        let stack = run.stack(&name[..short], &[User(name), Kernel(READ, Task)]);
        all = run.sample(stack, 0, 10);
    }
    shows(&mut page, all);
    page.picture("live-hostile");
    assert_eq!(page.text("title"), HOSTILE[0]);
    let made =
        "['img', 'script', 'style', 'b'].map(name => document.getElementsByTagName(name).length)";
    assert_eq!(page.evaluate(made), json!([0, 1, 0, 0]));
    // The inspector shows each.
    for step in 0..HOSTILE.len() {
        page.evaluate(&format!(
            "stackwalk.choose(stackwalk.boxOf([...stackwalk.tree.label.keys()].filter(node => stackwalk.tree.depth[node] === 2)[{step}]), true)"
        ));
        let title = page.evaluate("document.querySelector('#inspector h2').textContent");
        assert!(title.as_str().unwrap().ends_with("+0x1"), "{title}");
    }
    assert_eq!(page.evaluate(made), json!([0, 1, 0, 0]));
    assert_eq!(
        page.evaluate("document.title"),
        format!("{} – stackwalk live", HOSTILE[0])
    );
    let told = page.evaluate("JSON.stringify([stackwalk.model.texts, stackwalk.model.frames])");
    assert!(!told.as_str().unwrap().contains("ffffffff81"), "{told}");
    assert_eq!(page.complaints(), [""; 0]);
}

fn a_server_that_comes_back_is_found_and_so_is_the_place() {
    let (mut door, mut run, mut page) = looked_at();
    let steps = [User("app"), Kernel(SYSCALL, Task), Kernel(READ, Task)];
    let read = run.stack("reader", &steps);
    let all = run.sample(read, 0, 10);
    shows(&mut page, all);
    let at = place_of(&mut page, "do_syscall_64");
    page.click(at);
    door.close();
    until(
        &mut page,
        "document.getElementById('state').textContent === 'stackwalk does not answer: trying again'",
    );
    // Another run, in which everything has another number.
    let mut run = Run::start(&mut door, "another title");
    let first = run.stack("first", &[User("more"), Kernel(READ, Task)]);
    run.sample(first, 0, 4);
    let read = run.stack("reader", &steps);
    let all = run.sample(read, 0, 5);
    shows(&mut page, all);
    until(
        &mut page,
        "document.getElementById('state').textContent === 'live'",
    );
    assert_eq!(page.text("title"), "another title");
    assert_eq!(place(&mut page), json!(["do_syscall_64", 3, true]));
    // And it goes on; so does a page that was paused at a time that the next run has not reached.
    let all = run.sample(read, 0, 5);
    shows(&mut page, all);
    page.press("pause");
    door.close();
    let mut run = Run::start(&mut door, "a third title");
    let read = run.stack("reader", &steps);
    let all = run.sample(read, 0, 3);
    shows(&mut page, all);
    // Nothing but the connections that were broken.
    let complaints = page.complaints();
    assert!(
        complaints.iter().all(|said| said.contains("/stream")),
        "{complaints:?}"
    );
}

fn what_is_seen_can_be_downloaded() {
    let (_door, mut run, mut page) = looked_at();
    let [_, middle, after] = two_spans(&mut run, &mut page);
    page.drag(middle, after);
    let links = page.evaluate(
        "(async () => { const found = [];
            for (const link of document.querySelectorAll('a[data-format]')) {
                link.addEventListener('click', event => event.preventDefault());
                link.click();
                const answer = await fetch(link.href);
                found.push([link.dataset.format, answer.status, (await answer.text()).length > 20]);
            }
            return found; })()",
    );
    let expected: Vec<Value> = ["svg", "folded", "pb.gz", "html", "swk"]
        .iter()
        .map(|format| json!([format, 200, true]))
        .collect();
    assert_eq!(links, json!(expected));
    let mut text = |query: &str| {
        let text = page.evaluate(&format!(
            "(async () => {{ {query} return (await fetch(stackwalk.download('folded'))).text(); }})()"
        ));
        text.as_str().unwrap().to_owned()
    };
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        lines(&text("")),
        ["reader;app+0x1;vfs_read_[k] 10", "worker;work+0x1 10"]
    );
    assert_eq!(
        lines(&text("stackwalk.setOption('markers', false);")),
        ["reader;app+0x1;vfs_read_[k] 10", "worker;work+0x1 10"]
    );
    assert_eq!(
        lines(&text(
            "stackwalk.setOption('kernel', false); stackwalk.setOption('processes', 'none');"
        )),
        ["[all processes];app+0x1 10", "[all processes];work+0x1 10"]
    );
}

fn every_live_control_is_reached_by_tab() {
    let (_door, _run, mut page) = looked_at();
    let mut reached = Vec::new();
    for _ in 0..40 {
        page.key("Tab", 0);
        let id = page.evaluate("document.activeElement.id || document.activeElement.dataset.format || document.activeElement.name");
        reached.push(id.as_str().unwrap_or_default().to_owned());
    }
    for id in [
        "window",
        "order",
        "root",
        "processes",
        "apart",
        "markers",
        "inlined",
        "kernel",
        "user",
        "search",
        "regex",
        "strip",
        "pause",
        "compare",
        "lanes",
        "svg",
        "folded",
        "pb.gz",
        "html",
        "canvas",
        "theme",
        "help",
    ] {
        assert!(
            reached.iter().any(|reached| reached == id),
            "{id}: {reached:?}"
        );
    }
}
