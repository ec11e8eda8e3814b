use std::io::Read as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::read::DeflateDecoder;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Options, fill, printable, write};
use crate::profile::timeline::Timeline;
use crate::profile::{Profile, fixture};

fn page(timeline: &Timeline) -> String {
    let mut page = Vec::new();
    write(timeline, &Options::default(), &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// A profile without samples one by one.
fn untimed(profile: Profile) -> Timeline {
    Timeline {
        profile,
        points: Vec::new(),
        uses: Vec::new(),
        began: None,
    }
}

/// What is between two texts that a page has once.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    assert_eq!(page.matches(from).count(), 1, "{from}");
    page.split_once(from).unwrap().1.split_once(to).unwrap().0
}

/// The JSON text of a page's data, and a column of it.
fn data(page: &str) -> (Value, impl Fn(&str) -> Vec<u64> + use<>) {
    let block = between(
        page,
        "<script type=\"text/plain\" id=\"data\">",
        "</script>",
    );
    let packed = BASE64_STANDARD.decode(block).unwrap();
    let mut bytes = Vec::new();
    DeflateDecoder::new(&packed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    let mut columns = Vec::new();
    let mut rest = bytes[4 + length..].iter();
    for head in json["columns"].as_array().unwrap() {
        let mut numbers = Vec::new();
        for _ in 0..head[1].as_u64().unwrap() {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = rest.next().unwrap();
                number |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            numbers.push(number);
        }
        columns.push((head[0].as_str().unwrap().to_owned(), numbers));
    }
    assert_eq!(rest.next(), None, "all bytes belong to a column");
    let column = move |name: &str| {
        let found = columns.iter().find(|column| column.0 == name);
        found.unwrap().1.clone()
    };
    (json, column)
}

#[test]
fn the_same_recording_makes_the_same_page() {
    assert_eq!(page(&fixture::timeline()), page(&fixture::timeline()));
}

#[test]
fn the_heading_tells_the_recording_and_the_losses() {
    let page = page(&fixture::timeline());
    let head = between(&page, "<header>", "</header>");
    for text in [
        "<h1>make -j2</h1>",
        "cpu-clock, 997 Hz, 1.5 s, 100 samples, 92.00 % walked to the end",
        "<p class=\"lost\">110 taken, 100 delivered; 6 lost (5.45 %): 5 ring buffer full, 1 no memory; \
         4 filtered out: 4 idle",
    ] {
        assert!(head.contains(text), "{text}\n{head}");
    }
}

/// A wrong hash would be a page that does nothing.
#[test]
fn the_policy_allows_the_style_and_the_script_and_nothing_else() {
    let page = page(&fixture::timeline());
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| {
        let hash = BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
        format!("'sha256-{hash}'")
    };
    let script = between(&page, "<script type=\"module\">", "</script>");
    let style = between(&page, "<style>", "</style>");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; \
             form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash(script),
            hash(style)
        )
    );
    for loading in [
        "src=", "href=", "url(", "@import", "import ", "import(", "fetch(", "http:", "https:",
    ] {
        assert!(!page.contains(loading), "{loading}");
    }
}

#[test]
fn every_sample_is_there() {
    let timeline = fixture::timeline();
    let (json, column) = data(&page(&timeline));
    assert_eq!(column("pointStep").len(), 100);
    assert_eq!(column("pointStep")[..3], [0, 15_000_000, 15_000_000]);
    assert_eq!(column("pointWeight").iter().sum::<u64>(), 100);
    assert_eq!(
        json["threads"],
        serde_json::json!([[42, threads_name(&json)], [43, threads_name(&json)]])
    );
    assert_eq!(json["cpus"], serde_json::json!([0, 1]));
    assert_eq!(json["timed"], true);
    assert_eq!(json["merged"], Value::Null);
    // The stack that two processes of one name have, with the same PID, is one.
    assert_eq!(column("stackNode").len(), 7);
}

/// The index of the name that both threads of the fixture first had.
fn threads_name(json: &Value) -> usize {
    let texts = json["texts"].as_array().unwrap();
    texts.iter().position(|text| text == "cc1").unwrap()
}

#[test]
fn a_profile_without_samples_one_by_one_has_its_stacks() {
    let profile = fixture::profile();
    let (json, column) = data(&page(&untimed(profile)));
    assert_eq!(json["timed"], false);
    assert_eq!(column("pointSamples").iter().sum::<u64>(), 100);
}

#[test]
fn an_empty_profile_makes_a_page() {
    let (json, column) = data(&page(&untimed(Profile::new(Default::default()))));
    assert_eq!(json["timed"], false);
    assert!(column("nodeStep").is_empty());
}

#[test]
fn too_many_samples_are_merged_and_it_says_so() {
    let mut out = Vec::new();
    write(&fixture::timeline(), &Options { max_points: 20 }, &mut out).unwrap();
    let (json, column) = data(&String::from_utf8(out).unwrap());
    assert!(column("pointStep").len() <= 20);
    assert_eq!(column("pointSamples").iter().sum::<u64>(), 100);
    assert_eq!(json["merged"]["samples"], 100);
    assert!(json["merged"]["slot_ns"].as_u64().unwrap() > 0);
}

#[test]
fn what_turns_or_breaks_a_line_is_not_printable() {
    assert_eq!(
        printable("a\u{202e}b\u{2028}c\u{2066}d\ne\u{feff}é"),
        "a_b_c_d_e_é"
    );
}

#[test]
fn what_is_filled_in_is_not_looked_at_again() {
    let mut out = Vec::new();
    fill("<{{a}}|{{b}}>", &mut out, |name| match name {
        "a" => "{{b}}".into(),
        _ => "}}{{".into(),
    })
    .unwrap();
    assert_eq!(out, b"<{{b}}|}}{{>");
}

proptest! {
    /// Whatever names there are, the page has the elements of the template and no others.
    #[test]
    fn no_name_becomes_markup(profile in fixture::any_profile(), title in "[</>\"'&a-e!-]{0,20}") {
        let mut profile = profile;
        profile.meta.title = format!("</title></h1><script>{title}");
        profile.meta.events = vec![format!("<img src=x {title}>")];
        let page = page(&untimed(profile));
        prop_assert_eq!(page.matches("<script").count(), 2);
        prop_assert_eq!(page.matches("</script").count(), 2);
        prop_assert_eq!(page.matches("</title").count(), 1);
        prop_assert_eq!(page.matches("<img").count(), 0);
        prop_assert_eq!(page.matches("<!--").count(), 0);
    }

    #[test]
    fn stacks_come_back_as_they_were(profile in fixture::any_profile()) {
        let expected: Vec<usize> = {
            let mut depths: Vec<usize> = profile.stacks().iter().map(|stack| stack.frames.len() + 1).collect();
            depths.sort_unstable();
            depths.dedup();
            depths
        };
        let (_, column) = data(&page(&untimed(profile)));
        let mut depth = 0;
        let depths: Vec<usize> = column("nodeUp").iter().map(|up| {
            depth = depth + 1 - *up as usize;
            depth
        }).collect();
        let mut leaves: Vec<usize> = column("stackNode").iter().scan(0, |_, node| Some(depths[*node as usize])).collect();
        leaves.sort_unstable();
        leaves.dedup();
        prop_assert_eq!(leaves, expected);
    }
}
