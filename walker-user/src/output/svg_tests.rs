use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::{MAX_FRAMES, Options, clipped, escaped, wrapped, write};
use crate::profile::{Frame, FrameClass, Meta, Profile, WeightedStack, fixture};

fn svg(profile: &Profile, options: &Options) -> String {
    let mut out = Vec::new();
    write(profile, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn has_class(node: Node<'_, '_>, class: &str) -> bool {
    let classes = node.attribute("class").unwrap_or_default();
    classes.split(' ').any(|other| other == class)
}

fn frames<'a>(document: &'a Document<'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(|&node| has_class(node, "f"))
}

fn child_text<'a>(frame: Node<'a, 'a>, tag: &str) -> Option<&'a str> {
    let child = frame.children().find(|child| child.has_tag_name(tag))?;
    child.text()
}

#[test]
fn a_frame_says_what_it_is() {
    let svg = svg(&fixture::profile(), &Options::default());
    let document = Document::parse(&svg).unwrap();
    let titles: Vec<_> = frames(&document)
        .filter_map(|frame| child_text(frame, "title"))
        .collect();
    assert_eq!(titles[0], "all\n100 samples, 100.00 %, 0 own, process");
    for title in [
        "parse<int; char>(a)\n92 samples, 92.00 %, 50 own, user space\ncc1",
        "[IRQ]\n27 samples, 27.00 %, 0 own, switch to the IRQ stack",
        "perf_event_nmi_handler\n20 samples, 20.00 %, 20 own, on the NMI stack",
        "? [not unwound]\n5 samples, 5.00 %, 5 own, on the TASK stack, \
         the rest of the stack could not be unwound",
    ] {
        assert!(titles.contains(&title), "{title:?} in {titles:#?}");
    }
}

#[test]
fn an_inlined_frame_looks_lighter_and_frames_say_where_they_are_from() {
    let svg = svg(&fixture::inlined(), &Options::default());
    let document = Document::parse(&svg).unwrap();
    let shown: Vec<_> = frames(&document)
        .map(|frame| (child_text(frame, "title").unwrap(), has_class(frame, "l")))
        .collect();
    assert_eq!(
        shown[2..],
        [
            (
                "main\n6 samples, 100.00 %, 0 own, user space\na, /src/a.c",
                false
            ),
            (
                "step\n2 samples, 33.33 %, 2 own, user space\na, /src/a.c:1",
                false
            ),
            (
                "step\n4 samples, 66.67 %, 4 own, user space, inlined\na, /src/a.h:3",
                true
            ),
        ]
    );
    let legend = document
        .descendants()
        .filter(|node| has_class(*node, "key"));
    let mut groups = legend.filter_map(|key| key.attribute("data-group"));
    assert!(groups.any(|group| group == "l"));
}

#[test]
fn frames_lie_side_by_side_on_their_callers() {
    let svg = svg(&fixture::profile(), &Options::default());
    let document = Document::parse(&svg).unwrap();
    let number = |node: Node<'_, '_>, name| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let boxes: Vec<_> = frames(&document)
        .map(|frame| {
            let rect = frame
                .children()
                .find(|child| child.has_tag_name("rect"))
                .unwrap();
            (number(rect, "x"), number(rect, "width"), number(rect, "y"))
        })
        .collect();
    assert_eq!((boxes[0].0, boxes[0].1), (0.0, 1199.0));
    for (index, &(x, width, y)) in boxes.iter().enumerate().skip(1) {
        let before = &boxes[..index];
        let caller = before.iter().rev().find(|other| other.2 > y).unwrap();
        assert_eq!(caller.2, y + 18.0);
        assert!(caller.0 <= x && x + width <= caller.0 + caller.1 + 0.01);
        if let Some(left) = before.iter().rev().find(|other| other.2 == y) {
            assert!(left.0 + left.1 < x);
        }
    }
}

#[test]
fn the_heading_tells_the_recording_the_losses_and_the_stacks() {
    let svg = svg(&fixture::profile(), &Options::default());
    let document = Document::parse(&svg).unwrap();
    let head = document
        .descendants()
        .find(|&node| has_class(node, "head"))
        .unwrap();
    let texts: Vec<_> = head
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .filter_map(|node| node.text())
        .collect();
    assert_eq!(
        texts,
        [
            "make -j2",
            "cpu-clock, 997 Hz, 1.5 s, 100 samples, 92.00 % walked to the end",
            "110 taken, 100 delivered; 6 lost (5.45 %): 5 ring buffer full, 1 no memory; \
             4 filtered out: 4 idle",
            "sampled in:",
            "process",
            "user 56.00 %",
            "task 17.00 %",
            "IRQ 7.00 %",
            "NMI 20.00 %",
            "change of stack",
            "? not unwound",
        ]
    );
}

/// A deep recursion that is sampled once makes thousands of frames that nobody could see.
#[test]
fn no_more_frames_are_drawn_than_a_browser_can_take() {
    let mut profile = Profile::new(Meta::default());
    let comm = profile.intern("deep");
    for stack in 0..30u64 {
        let frames = (0..1000u64)
            .map(|depth| {
                let name = Some(profile.intern(&format!("f{stack}_{depth}")));
                profile.intern_frame(Frame {
                    name,
                    module: None,
                    class: FrameClass::User,
                    inlined: false,
                    source: None,
                    reliable: true,
                    address: depth,
                    offset: 0,
                    size: 0,
                    object: None,
                })
            })
            .collect();
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames,
            event: 0,
            samples: stack + 1,
            weight: stack + 1,
            stop: "end of stack",
            complete: true,
        });
    }
    let svg = svg(&profile, &Options::default());
    let drawn = svg.matches("<g class=\"f").count();
    // The heaviest 19 stacks of 1,000 frames, the root and the process.
    assert!((19_000..=MAX_FRAMES).contains(&drawn), "{drawn}");
    assert!(svg.contains("f29_999"), "the heaviest stack is there");
    assert!(!svg.contains("f0_0"), "the lightest is not");
}

#[test]
fn narrow_frames_are_left_out_and_counted() {
    let profile = fixture::profile();
    let all = svg(&profile, &Options::default());
    assert!(!all.contains("left out"));
    // 60 px are 5 of 100 samples.
    let min_frame_width = 60.5;
    let some = svg(
        &profile,
        &Options {
            min_frame_width,
            ..Options::default()
        },
    );
    assert!(
        some.contains("frames with the fewest samples left out: 2"),
        "the two of 5 and 2"
    );
    assert!(!some.contains("ext4_file_read_iter"));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let svg = svg(&fixture::profile(), &Options::default());
    let own = ["http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"];
    let rest = own.iter().fold(svg, |svg, name| svg.replace(name, ""));
    for reference in [
        "://", "href", "src", "url(", "@import", "fetch", "eval", " on",
    ] {
        let mut places = rest.match_indices(reference);
        // An attribute such as onclick would not pass a strict policy.
        let bad = places.find(|(at, _)| reference != " on" || rest[*at..].starts_with(" onc"));
        assert_eq!(bad, None);
    }
}

#[test]
fn an_empty_profile_is_a_picture_without_frames() {
    let svg = svg(&Profile::new(Meta::default()), &Options::default());
    let document = Document::parse(&svg).unwrap();
    assert_eq!(frames(&document).count(), 0);
    assert!(svg.contains("0 samples"));
    assert!(!svg.contains("NaN") && !svg.contains("left out"));
}

#[test]
fn text_is_clipped_to_whole_characters() {
    assert_eq!(clipped("schedule", 8.0).as_deref(), Some("schedule"));
    assert_eq!(clipped("schedule", 7.9).as_deref(), Some("schedu…"));
    assert_eq!(clipped("schedule", 3.0).as_deref(), Some("sc…"));
    assert_eq!(clipped("schedule", 2.0), None);
    assert_eq!(clipped("ééééé", 7.0).as_deref(), Some("ééé…"));
    assert_eq!(clipped("", 0.0).as_deref(), Some(""));
}

#[test]
fn lines_break_between_words() {
    assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    assert_eq!(wrapped("extraordinary", 3), ["extraordinary"]);
}

proptest! {
    #[test]
    fn any_profile_is_well_formed(profile in fixture::any_profile()) {
        let options = Options { min_frame_width: 0.0, ..Options::default() };
        let svg = svg(&profile, &options);
        let document = Document::parse(&svg).unwrap();
        let tree = profile.tree(true);
        let seen: Vec<_> = tree.nodes().iter().filter(|node| node.total > 0).collect();
        prop_assert_eq!(frames(&document).count(), seen.len());
        for (frame, node) in frames(&document).zip(seen) {
            let title = child_text(frame, "title").unwrap();
            let (name, _) = title.split_once('\n').unwrap();
            let doubt = if node.label.reliable { "" } else { "? " };
            let expected = super::printable(profile.text(node.label.name));
            let expected = expected.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
            prop_assert_eq!(name, format!("{doubt}{expected}"));
        }
    }

    #[test]
    fn escaped_text_is_read_back(text in "[^\\p{Cc}\u{fffe}\u{ffff}]*") {
        let xml = format!("<a b=\"{0}\">{0}</a>", escaped(&text));
        let document = Document::parse(&xml).unwrap();
        prop_assert_eq!(document.root_element().text().unwrap_or_default(), &text);
        prop_assert_eq!(document.root_element().attribute("b"), Some(text.as_str()));
    }
}
