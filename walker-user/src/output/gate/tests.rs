//! Verdicts in all their forms, read by the parsers of those who read them.

use std::io;

use pulldown_cmark::{Event, Options as MarkdownOptions, Parser, Tag};
use roxmltree::Document;
use serde_json::Value;

use super::{merged::Merged, *};
use crate::ci::{
    compare::{Options, Run},
    facts::{Change, Facts},
    fixture::{Stacks, profile, run},
    set::RunHead,
    stats::Random,
    sums::{Scope, Space},
};

const HOSTILE: &str = "<script>alert(1)</script>|`*_[x](http://evil)@all\u{202e}";

fn before() -> Vec<(String, f64)> {
    let stacks = [
        ("app;main;parse", 4000.0),
        ("app;main;[k]syscall;[k]read;[k]copy", 4500.0),
        ("app;main;[k]syscall;[k]open", 1000.0),
    ];
    let hostile = (format!("app;main;{}", HOSTILE.replace(';', "")), 500.0);
    let stacks = stacks.map(|(path, weight)| (path.to_owned(), weight));
    stacks.into_iter().chain([hostile]).collect()
}

/// The same with another weight for one of the stacks.
fn with(number: usize, weight: f64) -> Vec<(String, f64)> {
    let mut stacks = before();
    stacks[number].1 = weight;
    stacks
}

fn head() -> SetHead {
    let mut facts = Facts::default();
    facts.add("kernel release", Some("6.12.0".to_owned()));
    SetHead {
        workload: "./benchmark".to_owned(),
        facts,
        runs: vec![RunHead::default(); 10],
        ..SetHead::default()
    }
}

fn comparison(after: &[(String, f64)]) -> Comparison {
    let mut space = Space::new(Scope::default());
    let mut random = Random::new(3);
    let mut runs = |stacks: &[(String, f64)]| -> Vec<Run> {
        let stacks: Vec<(&str, f64)> = stacks
            .iter()
            .map(|(path, weight)| (path.as_str(), *weight))
            .collect();
        let stacks: Stacks<'_> = &stacks;
        (0..10)
            .map(|_| run(&mut space, &mut random, stacks, 1.0))
            .collect()
    };
    let sides = [runs(&before()), runs(after)];
    Comparison::new(&space, [&sides[0], &sides[1]], Options::default()).unwrap()
}

fn report(head: &SetHead, outcome: Result<Comparison, Vec<String>>) -> Report<'_> {
    let side = |name: &str| Side {
        name: name.to_owned(),
        head,
        lost: 0.001,
    };
    Report {
        sides: [side("base.swkset"), side("new.swkset")],
        changes: Changes {
            tested: Vec::new(),
            allowed: vec![Change {
                fact: "governor".to_owned(),
                before: "powersave".to_owned(),
                after: "performance".to_owned(),
            }],
        },
        outcome,
        unit_ns: Some(1e6),
        fail_on: FailOn::Regression,
        kernel_only: false,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_verdict_comes_first_then_the_lines_that_matter() {
    let head = head();
    let report = report(&head, Ok(comparison(&with(2, 2000.0))));
    assert_eq!(report.verdict(), Verdict::Fail);
    let text = written(|out| text::write(&report, false, None, out));
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("REGRESSION: open [kernel, TASK stack] costs ")
            && lines[0].ends_with("% of the whole more"),
        "{text}"
    );
    assert_eq!(lines[1], "  through app → main → syscall → open");
    assert!(
        lines[5].ends_with("the whole") && lines[6].contains("open [kernel"),
        "{text}"
    );
    assert!(
        text.contains("governor: powersave before, performance after (allowed by"),
        "{text}"
    );
    assert!(text.contains("998 ms  2.01 s"), "{text}");
    assert!(!text.contains('\u{202e}'));
}

#[test]
fn what_got_faster_fails_only_if_any_change_does() {
    let head = head();
    let mut report = report(&head, Ok(comparison(&with(1, 2000.0))));
    assert_eq!(report.verdict(), Verdict::Pass);
    assert!(
        report.headline().starts_with("no regression: copy"),
        "{}",
        report.headline()
    );
    report.fail_on = FailOn::Any;
    assert_eq!(report.verdict(), Verdict::Fail);
    assert!(
        report.headline().starts_with("CHANGED: copy"),
        "{}",
        report.headline()
    );
}

#[test]
fn json_says_what_there_is() {
    let head = head();
    let report = report(&head, Ok(comparison(&with(2, 2000.0))));
    let json: Value = serde_json::from_str(&written(|out| json::write(&report, out))).unwrap();
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["causes"][0]["function"], "open");
    assert_eq!(
        json["causes"][0]["path"],
        serde_json::json!(["app", "main", "syscall", "open"])
    );
    let open = json["rows"].as_array().unwrap().iter();
    let mut open = open.filter(|row| row["name"].as_str().unwrap().starts_with("open"));
    let open = open.next().unwrap();
    assert_eq!(
        (&open["measure"], &open["status"]),
        (&"total".into(), &"regression".into())
    );
    assert!(
        (open["before"].as_f64().unwrap() - 1e9).abs() < 2e7,
        "{open}"
    );
    let refused = Report {
        outcome: Err(vec!["too few".to_owned()]),
        ..report
    };
    let json: Value = serde_json::from_str(&written(|out| json::write(&refused, out))).unwrap();
    assert_eq!(
        (&json["verdict"], &json["reasons"][0]),
        (&"cannot-judge".into(), &"too few".into())
    );
}

#[test]
fn junit_has_a_failure_for_what_got_slower_and_an_error_where_nothing_can_be_said() {
    let head = head();
    let report = report(&head, Ok(comparison(&with(3, 1500.0))));
    let xml = written(|out| junit::write(&report, out));
    let document = Document::parse(&xml).unwrap();
    let failures = document
        .descendants()
        .filter(|node| node.has_tag_name("failure"));
    let names: Vec<&str> = failures
        .map(|node| node.parent().unwrap().attribute("name").unwrap())
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("<script>")),
        "{names:?}"
    );
    let suite = document
        .descendants()
        .find(|node| node.has_tag_name("testsuite"))
        .unwrap();
    let count: usize = suite.attribute("failures").unwrap().parse().unwrap();
    assert_eq!(count, names.len());
    let passes = document
        .descendants()
        .any(|node| node.attribute("name") == Some("stack kind TASK"));
    assert!(passes, "{xml}");
    let refused = Report {
        outcome: Err(vec!["too <few>".to_owned()]),
        ..report
    };
    let xml = written(|out| junit::write(&refused, out));
    let document = Document::parse(&xml).unwrap();
    let error = document
        .descendants()
        .find(|node| node.has_tag_name("error"))
        .unwrap();
    assert_eq!(error.text(), Some("too <few>"));
}

/// Names of functions are hostile: they are text, whatever they look like.
#[test]
fn markdown_is_a_table_of_text() {
    let head = head();
    let report = report(&head, Ok(comparison(&with(3, 1500.0))));
    let markdown = written(|out| markdown::write(&report, out));
    let events: Vec<Event<'_>> = Parser::new_ext(&markdown, MarkdownOptions::all()).collect();
    let cells = events
        .iter()
        .filter(|event| matches!(event, Event::Start(Tag::TableCell)));
    assert_eq!(cells.count() % 8, 0);
    let mut text = String::new();
    for event in &events {
        match event {
            Event::Text(part) => text.push_str(part),
            Event::InlineHtml(html) => assert_eq!(&**html, "<br>"),
            Event::Html(html) => assert!(html.starts_with("<!-- stackwalk"), "{html}"),
            Event::Code(_) => panic!("{event:?}"),
            Event::Start(tag) => assert!(
                matches!(
                    tag,
                    Tag::HtmlBlock
                        | Tag::Heading { .. }
                        | Tag::Paragraph
                        | Tag::Table(_)
                        | Tag::TableHead
                        | Tag::TableRow
                        | Tag::TableCell
                        | Tag::List(_)
                        | Tag::Item
                ),
                "{tag:?}"
            ),
            _ => {}
        }
    }
    assert!(
        text.contains("<script>alert(1)</script>|`*_[x](http://evil)@all_"),
        "{text}"
    );
}

#[test]
fn sarif_has_a_result_for_what_got_slower() {
    let head = head();
    let report = report(&head, Ok(comparison(&with(2, 2000.0))));
    let sarif: Value = serde_json::from_str(&written(|out| sarif::write(&report, out))).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let results = run["results"].as_array().unwrap();
    let text = |result: &Value| result["message"]["text"].as_str().unwrap().to_owned();
    assert!(
        results
            .iter()
            .any(|result| text(result).starts_with("open [kernel")),
        "{results:#?}"
    );
    for result in results {
        assert_eq!(result["ruleId"], run["tool"]["driver"]["rules"][0]["id"]);
    }
}

#[test]
fn the_picture_has_a_colour_for_what_is_significant_only() {
    let head = head();
    let after = with(2, 2000.0);
    let report = report(&head, Ok(comparison(&after)));
    let mut random = Random::new(9);
    let mut merged = |stacks: &[(String, f64)]| {
        let stacks: Vec<(&str, f64)> = stacks
            .iter()
            .map(|(path, weight)| (path.as_str(), *weight))
            .collect();
        let mut merged = Merged::new("a title");
        for _ in 0..3 {
            merged.add(&profile(&mut random, &stacks, 1.0), 1.0, false);
        }
        merged
    };
    let [before, after] = [merged(&before()), merged(&after)];
    let svg = written(|out| super::merged::write(&report, [&before, &after], out));
    let document = Document::parse(&svg).unwrap();
    let coloured: Vec<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("title"))
        .filter(|node| {
            let class = node.parent().and_then(|node| node.attribute("class"));
            class.is_some_and(|class| class.starts_with("f d") && !class.starts_with("f d4"))
        })
        .filter_map(|node| node.text()?.lines().next())
        .collect();
    assert_eq!(coloured, ["open"]);
    let page = written(|out| html::write(&report, [&before, &after], out));
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(!page.contains("<script"), "the page has a script");
    assert!(page.contains("data:image/svg+xml;base64,"));
}
