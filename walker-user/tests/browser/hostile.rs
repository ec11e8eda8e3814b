//! Names that are hostile text, and what a page may not do whatever is in it.

use serde_json::json;
use walker_user::profile::Unit;

use crate::{Test, opened, recordings, test};

pub(crate) const TESTS: &[Test] = &[
    test!(names_are_only_text),
    test!(nothing_is_loaded_or_made_from_text),
];

fn names_are_only_text() {
    let mut page = opened(&recordings::hostile());
    page.picture("hostile");
    assert_eq!(page.evaluate("document.title"), recordings::HOSTILE[0]);
    let made =
        "['img', 'script', 'style', 'b'].map(name => document.getElementsByTagName(name).length)";
    assert_eq!(page.evaluate(made), json!([0, 2, 1, 0]));
    // Each is shown in the inspector, searched for, and drawn.
    for name in recordings::HOSTILE {
        let line = "bidi \u{202e}desrever\u{2066} isolate";
        let expected = match name {
            name if name == line => "bidi _desrever_ isolate".to_owned(),
            name => name.replace(['\u{2028}', '\u{2029}', '\n'], "_"),
        };
        page.evaluate(
            "stackwalk.order; document.getElementById('search').value = ''; document.getElementById('search').focus()",
        );
        page.type_text(&expected);
        page.key("Enter", 0);
        let title = page.evaluate("document.querySelector('#inspector h2').textContent");
        assert_eq!(title, expected);
        assert!(page.text("selected").starts_with(&expected));
        assert!(!page.text("result").starts_with("0.00"), "{name}");
    }
    assert_eq!(page.evaluate(made), json!([0, 2, 1, 0]));
    assert_eq!(page.evaluate("document.title"), recordings::HOSTILE[0]);
    assert_eq!(page.complaints(), [""; 0]);
}

/// The policy holds even against the page's own script.
fn nothing_is_loaded_or_made_from_text() {
    let mut page = opened(&recordings::small(Unit::Samples, 1));
    let requests = page.evaluate("performance.getEntriesByType('resource').length");
    assert_eq!(requests, 0);
    for attempt in [
        "fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')",
        "new Promise(done => { const image = new Image(); image.onload = () => done('loaded');
            image.onerror = () => done('refused'); image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw='; })",
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch { return 'refused'; } })()",
        "new Promise(done => { const script = document.createElement('script');
            try { script.textContent = 'globalThis.ran = true'; document.body.append(script); } catch {}
            done(globalThis.ran ? 'ran' : 'refused'); })",
    ] {
        assert_eq!(page.evaluate(attempt), "refused", "{attempt}");
    }
}
