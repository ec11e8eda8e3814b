//! Files that are right, wrong, and secret.

use std::{fs, time::Duration};

use super::*;

const WHOLE: &str = r#"
listen = "127.0.0.1:7718"
token_file = "/etc/stackwalk/token"
frequency = 49

[push]
url = "http://h:4040"
name = "fleet"
every = 30
spool = "/var/lib/stackwalk/spool"
spool_limit = 8
labels = { env = "prod", zone = "a" }
headers = { "X-Scope-OrgID" = "7" }
"#;

/// A file with a mode.
fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn a_whole_file_is_what_it_says() {
    let config = Config::read(file(WHOLE, 0o600).path()).unwrap();
    assert_eq!(config.listen, Some("127.0.0.1:7718".parse().unwrap()));
    assert_eq!(config.token_file, Some("/etc/stackwalk/token".into()));
    assert_eq!(config.frequency.unwrap().get(), 49);
    let settings = config.settings(&PushArgs::default()).unwrap().unwrap();
    assert_eq!(settings.target.to_string(), "http://h:4040/ingest");
    assert_eq!(settings.every, Duration::from_secs(30));
    let spool = settings.spool.unwrap();
    assert_eq!(spool.folder, Path::new("/var/lib/stackwalk/spool"));
    assert_eq!(spool.limit, 8 << 20);
}

#[test]
fn the_command_line_counts_more() {
    let config = Config::parse(WHOLE).unwrap();
    let args = PushArgs {
        url: Some(Secret("https://other".to_owned())),
        every: Some(5),
        labels: vec!["env=test".to_owned()],
        headers: vec![Secret("x-scope-orgid: 8".to_owned())],
        spool_limit: Some(1),
        ..PushArgs::default()
    };
    let merged = config.settings(&args).unwrap().unwrap();
    let alone = PushArgs {
        name: Some("fleet".to_owned()),
        labels: vec!["env=test".to_owned(), "zone=a".to_owned()],
        spool: Some("/var/lib/stackwalk/spool".into()),
        ..args
    };
    assert_eq!(Some(merged), alone.settings().unwrap());
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, said) in [
        ("\nfrequenzy = 1", "line 2: unknown field `frequenzy`"),
        (
            "[push]\nurl = \"\"\nretry = 1",
            "line 3: unknown field `retry`",
        ),
        ("frequency = 0", "line 1: "),
        ("listen = \"nowhere\"", "line 1: "),
        ("[push\n", "line 1: "),
        ("[push]\nevery = 0", "push.every has to be 1 to 240"),
        ("[push]\nspool_limit = 0", "push.spool_limit has to be 1 to"),
    ] {
        let Err(error) = Config::parse(text) else {
            panic!("{text}");
        };
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

#[test]
fn what_the_file_holds_is_not_shown() {
    for text in [
        "[push]\nheaders = \"hidden\"",
        "[push]\nurl = [\"hidden\"]",
        "[push]\nevery = \"hidden\"",
        "[push]\nurl = \"http://u:hidden@h\"x",
        "[push]\nurl = \"http://u:hidden@h\nname",
        "[push]\nheaders = { \"A b\" = \"hidden\" }\nurl = \"http://h\"",
        "[push]\nurl = \"u:hidden@h\"",
    ] {
        let error = match Config::parse(text) {
            Ok(config) => config.settings(&PushArgs::default()).unwrap_err(),
            Err(error) => error,
        };
        let shown = format!("{error:?}");
        assert!(!shown.contains("hidden"), "{text}: {shown}");
    }
}

#[test]
fn secrets_are_for_nobody_else() {
    for (secret, text) in [
        (true, WHOLE),
        (true, "[push]\nurl = \"http://me:pass@h\""),
        (false, "[push]\nurl = \"http://h\""),
        (false, ""),
    ] {
        let read = Config::read(file(text, 0o640).path());
        assert_eq!(read.is_err(), secret, "{text}");
        if let Err(error) = read {
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }
}

#[test]
fn what_needs_a_restart_is_named() {
    let before = Config::parse(WHOLE).unwrap();
    let after =
        Config::parse("frequency = 49\nlisten = \"127.0.0.1:1\"\n[push]\nevery = 2").unwrap();
    assert_eq!(before.fixed_changes(&after), ["listen", "token_file"]);
    assert!(before.fixed_changes(&before.clone()).is_empty());
}
