//! Large recordings: they open, stay fluid, and say what is merged.
//!
//! The figures are printed with `--nocapture`. The limits are those of a page that works on a busy
//! machine, not of one that is pleasant.

use serde_json::json;

use crate::{Test, chromium::Page, recordings, test, written};

pub(crate) const TESTS: &[Test] = &[
    test!(a_hundred_thousand_stacks_are_fluid),
    test!(more_than_a_million_samples_are_merged_and_it_says_so),
];

/// Milliseconds from the start of the page to its first picture.
fn painted(page: &mut Page) -> f64 {
    let mark = page.evaluate("performance.getEntriesByName('painted')[0].startTime");
    mark.as_f64().unwrap()
}

/// Milliseconds that one picture takes while the view moves from left to right.
fn panning(page: &mut Page) -> f64 {
    let milliseconds = page.evaluate(
        "(async () => {
            const width = stackwalk.boxes.width;
            stackwalk.zoomTo(0, width / 4);
            const began = performance.now();
            for (let step = 0; step < 60; step++) {
                stackwalk.pan(20);
                stackwalk.draw();
                stackwalk.painter.context.getImageData(0, 0, 1, 1);
            }
            const took = (performance.now() - began) / 60;
            stackwalk.zoomBox(0);
            return took;
        })()",
    );
    milliseconds.as_f64().unwrap()
}

fn a_hundred_thousand_stacks_are_fluid() {
    let timeline = recordings::large(100_000, 400_000);
    let written = written(&timeline);
    let mut page = Page::new();
    page.open(&written.path);
    let first = painted(&mut page);
    assert_eq!(page.evaluate("stackwalk.tree.samples"), 400_000);
    let tree = timeline.profile.tree(true);
    assert_eq!(
        page.evaluate("stackwalk.graph.count"),
        json!(tree.nodes().len())
    );
    assert!(page.text("note").contains("narrower than half a pixel"));
    page.picture("large");
    // The browser would rather have what is measured next measured otherwise, and says so.
    assert_eq!(page.complaints(), [""; 0]);
    let graph = panning(&mut page);
    page.select("order", "time");
    page.picture("large-time");
    let chart = panning(&mut page);
    page.evaluate("stackwalk.zoomTo(1000, 1400)");
    page.settle();
    page.picture("large-time-zoomed");
    page.select("thread", "-1");
    assert_eq!(page.evaluate("stackwalk.boxes.width"), 400_000);
    let chart_of_all = panning(&mut page);
    println!(
        "{} bytes, {} nodes, first picture {first:.0} ms; a picture of the graph {graph:.1} ms, of a \
         thread's chart {chart:.1} ms, of all threads' {chart_of_all:.1} ms",
        written.size,
        tree.nodes().len(),
    );
    assert!(written.size < 20_000_000);
    assert!(
        first < 30_000.0 && graph < 250.0 && chart < 250.0,
        "see above"
    );
}

fn more_than_a_million_samples_are_merged_and_it_says_so() {
    let timeline = recordings::large(5_000, 1_200_000);
    let written = written(&timeline);
    let mut page = Page::new();
    page.open(&written.path);
    let first = painted(&mut page);
    println!("{} bytes, first picture {first:.0} ms", written.size);
    page.picture("million");
    assert_eq!(page.evaluate("stackwalk.tree.samples"), 1_200_000);
    let points = page.evaluate("stackwalk.model.points.count");
    assert!(points.as_u64().unwrap() <= 500_000, "{points}");
    let merged = page.text("merged");
    assert!(
        merged.starts_with("1,200,000 samples are too many to be shown one by one: "),
        "{merged}"
    );
    let tree = timeline.profile.tree(true);
    assert_eq!(
        page.evaluate("stackwalk.graph.count"),
        json!(tree.nodes().len())
    );
    assert!(first < 30_000.0, "see above");
    assert_eq!(page.complaints(), [""; 0]);
}
