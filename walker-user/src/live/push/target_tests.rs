//! URLs, names, labels and headers, right and wrong.

use super::*;

fn asked(url: &str) -> Asked {
    let labels = vec![("hostname".to_owned(), "web 1".to_owned())];
    Asked {
        url: url.to_owned(),
        name: "stackwalk".to_owned(),
        labels,
        headers: Vec::new(),
    }
}

#[test]
fn an_url_without_a_path_is_that_of_pyroscope() {
    for (url, wanted) in [
        ("http://h:4040", "http://h:4040/ingest"),
        ("https://h/", "https://h/ingest"),
        ("http://[::1]:1/a/b", "http://[::1]:1/a/b"),
    ] {
        let target = Target::new(&asked(url)).unwrap();
        assert_eq!(target.to_string(), wanted);
        assert_eq!(
            target.url(5, 15),
            format!(
                "{wanted}?name=stackwalk%7Bhostname%3Dweb%201%7D&from=5&until=15&format=pprof\
                 &spyName=stackwalk"
            )
        );
    }
}

#[test]
fn a_password_goes_into_a_header_and_is_never_shown() {
    let mut asked = asked("http://me:p%40ss@example.org");
    let target = Target::new(&asked).unwrap();
    let [(name, value)] = target.headers() else {
        panic!("{target:?}");
    };
    assert_eq!(name, "authorization");
    assert_eq!(value.to_str().unwrap(), "Basic bWU6cEBzcw==");
    assert!(target.tells_secrets());
    for shown in [
        format!("{target} {target:?} {value:?}"),
        target.url(1, 2),
        Target::new(&self::asked("http://me:p@ss@:x"))
            .unwrap_err()
            .to_string(),
    ] {
        assert!(
            !shown.contains("p@ss") && !shown.contains("p%40ss"),
            "{shown}"
        );
        assert!(!shown.contains("bWU6"), "{shown}");
    }
    // A header that is asked for says more than the URL.
    asked.headers = vec![("Authorization".to_owned(), " Bearer x ".to_owned())];
    let target = Target::new(&asked).unwrap();
    assert_eq!(target.headers().len(), 1);
    assert_eq!(target.headers()[0].1.to_str().unwrap(), "Bearer x");
}

#[test]
fn what_stays_on_the_machine_or_is_encrypted_tells_nobody() {
    for url in [
        "https://u:p@h",
        "http://u:p@127.0.0.1:1",
        "http://u:p@[::1]",
        "http://h",
    ] {
        assert!(!Target::new(&asked(url)).unwrap().tells_secrets(), "{url}");
    }
}

#[test]
fn mistakes_are_told() {
    for url in [
        "",
        "h:1",
        "ftp://h",
        "http://",
        "http:///x",
        "/ingest",
        "http://a b",
    ] {
        assert_eq!(Target::new(&asked(url)).unwrap_err(), Mistake::Url, "{url}");
    }
    for url in ["http://h?name=x", "http://h/#x"] {
        assert_eq!(
            Target::new(&asked(url)).unwrap_err(),
            Mistake::Query,
            "{url}"
        );
    }
    let mut wrong = asked("http://h");
    wrong.name = "a{b".to_owned();
    assert_eq!(
        Target::new(&wrong).unwrap_err(),
        Mistake::Name("a{b".to_owned())
    );
    for (key, value) in [
        ("1a", "x"),
        ("a-b", "x"),
        ("", "x"),
        ("a", ""),
        ("a", "x,b=y"),
        ("a", "}"),
    ] {
        let mut wrong = asked("http://h");
        wrong.labels = vec![(key.to_owned(), value.to_owned())];
        let error = Target::new(&wrong).unwrap_err();
        assert_eq!(error, Mistake::Label(key.to_owned()), "{value}");
    }
    for (name, value) in [("a b", "x"), ("a", "x\r\nb: c")] {
        let mut wrong = asked("http://h");
        wrong.headers = vec![(name.to_owned(), value.to_owned())];
        assert_eq!(Target::new(&wrong).unwrap_err(), Mistake::Header);
    }
    let mut wrong = asked("http://h");
    wrong.labels = vec![("a".to_owned(), "b".to_owned()); MAX_PAIRS + 1];
    assert_eq!(Target::new(&wrong).unwrap_err(), Mistake::TooMany);
}

#[test]
fn the_machine_is_named_if_nothing_else_is() {
    let mut unnamed = asked("http://h");
    unnamed.labels.clear();
    let target = Target::new(&unnamed).unwrap();
    assert!(target.url(1, 2).contains("%7Bhostname%3D"), "{target:?}");
    assert!(!target.url(1, 2).contains("%3D%7D"), "{target:?}");
}
