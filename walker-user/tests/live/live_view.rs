//! `stackwalk live`: what its server says while a process that is known runs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{
    Test,
    recorded::{Program, build, interrupt, named, text},
    support::Place,
    test,
};

pub(crate) const TESTS_OF_PROGRAMS: &[Test] = &[
    test!(what_runs_is_seen_with_its_names_while_it_runs),
    test!(a_command_is_seen_from_its_start_and_its_status_passed_on),
    test!(a_terminal_shows_it_and_is_given_back),
    test!(mistakes_are_told_before_anything_is_sampled),
];

/// A live view that runs.
pub(crate) struct View {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
    authority: String,
    token: String,
}

impl View {
    pub(crate) fn start(place: &Place, arguments: &[&str]) -> Self {
        let arguments = [&["live", "--listen", "127.0.0.1:0"], arguments].concat();
        Self::of(&mut place.stackwalk(&arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        // A command can have said something before.
        while !url.starts_with("http://") {
            url.clear();
            assert!(output.read_line(&mut url).unwrap() > 0);
        }
        let rest = url.trim().strip_prefix("http://");
        let (authority, token) = rest.and_then(|rest| rest.split_once("/?token=")).unwrap();
        Self {
            child,
            output,
            authority: authority.to_owned(),
            token: token.to_owned(),
        }
    }

    fn connect(&self, path: &str) -> BufReader<TcpStream> {
        let mut connection = TcpStream::connect(&self.authority).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        write!(
            connection,
            "GET {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.authority, self.token
        )
        .unwrap();
        BufReader::new(connection)
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let mut connection = self.connect(path);
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{path}: {line}");
        while line.trim() != "" {
            line.clear();
            connection.read_line(&mut line).unwrap();
        }
        let mut body = Vec::new();
        connection.read_to_end(&mut body).unwrap();
        body
    }

    pub(crate) fn folded(&self) -> String {
        String::from_utf8(self.get("/download/folded?window=start")).unwrap()
    }

    fn health(&self) -> serde_json::Value {
        serde_json::from_slice(&self.get("/health")).unwrap()
    }

    /// What else it writes until it ends, and its exit status.
    pub(crate) fn rest(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }

    /// Ends it as Ctrl-C does; returns its exit status.
    pub(crate) fn end(self) -> Option<i32> {
        interrupt(&self.child);
        let (rest, status) = self.rest();
        assert_eq!(rest, "");
        status
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn what_runs_is_seen_with_its_names_while_it_runs() {
    let place = Place::new();
    let [outer, inner] = named("live");
    let path = build(&place, "steady.c", "swlive", &[&outer, &inner]);
    let program = Program::start(&path);
    let view = View::start(&place, &["-p", &program.pid(), "-F", "1999"]);
    let mut stream = view.connect("/stream");
    // Names come while it goes on.
    let mut line = String::new();
    while !(line.starts_with("data: ") && line.contains("live_inner")) {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0);
    }
    let pprof = view.get("/profile.pb.gz?seconds=1");
    assert_eq!(pprof[..2], [0x1f, 0x8b]);
    // All of 500 samples have names.
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0);
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let health = &serde_json::from_str::<serde_json::Value>(data).unwrap()["health"];
        if health["delivered"].as_u64() >= Some(500) && health["unnamed"] == 0 {
            break;
        }
    }
    assert_is_right(&view.folded());
    // And so have those of a recording, which other commands can read.
    let recording = place.path("seen.swk");
    fs::write(&recording, view.get("/download/swk?window=start")).unwrap();
    let run = place.run(&["export", text(&recording), "--format", "folded"]);
    assert_eq!(run.stderr, "");
    assert_is_right(&run.stdout);
    let health = view.health();
    let count = |name: &str| health[name].as_u64().unwrap();
    assert_eq!(count("dropped"), 0);
    assert!(
        count("taken") >= count("delivered") + count("lost"),
        "{health}"
    );
    assert_eq!(view.end(), Some(0));
    program.end();
}

/// Nearly all samples of folded stacks are of the program, with its names.
fn assert_is_right(folded: &str) {
    let (mut all, mut right) = (0, 0);
    for line in folded.lines() {
        let (stack, samples) = line.rsplit_once(' ').unwrap();
        let samples: u64 = samples.parse().unwrap();
        assert!(stack.starts_with("swlive;"), "{line}");
        all += samples;
        right += match stack.contains(";main;live_outer;live_inner") {
            true => samples,
            false => 0,
        };
    }
    assert!(right * 100 >= all * 95, "{right} of {all}:\n{folded}");
}

fn a_command_is_seen_from_its_start_and_its_status_passed_on() {
    let place = Place::new();
    let view = View::start(&place, &["--", "sh", "-c", "exit 3"]);
    assert_eq!(view.rest().1, Some(3));
}

fn a_terminal_shows_it_and_is_given_back() {
    let place = Place::new();
    let [outer, inner] = named("live");
    let path = build(&place, "steady.c", "swlive", &[&outer, &inner]);
    let program = Program::start(&path);
    let pid = program.pid();
    let view = place.stackwalk(&["live", "--tui", "--listen", "127.0.0.1:0", "-p", &pid]);
    let arguments = view.get_args().map(|argument| argument.to_str().unwrap());
    let arguments: Vec<&str> = arguments.collect();
    // `script` makes the terminal, which has no size at first.
    let line = format!(
        "stty rows 24 cols 80; exec {} {}",
        view.get_program().display(),
        arguments.join(" ")
    );
    let mut terminal = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let mut screen = Vec::new();
    let mut until_shown = |text: &str| {
        let mut more = [0; 4096];
        while !String::from_utf8_lossy(&screen).contains(text) {
            let length = output.read(&mut more).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&screen));
            screen.extend(&more[..length]);
        }
    };
    until_shown("live_inner");
    terminal.stdin.take().unwrap().write_all(b"q").unwrap();
    // The screen from before, and then what is said at the end.
    until_shown("\u{1b}[?1049l");
    until_shown("taken = ");
    assert_eq!(terminal.wait().unwrap().code(), Some(0));
    program.end();
}

fn mistakes_are_told_before_anything_is_sampled() {
    let place = Place::new();
    let file = place.path("token");
    for (content, mode, said) in [
        ("long-enough-for-a-token", 0o644, "others may read"),
        ("short", 0o600, "16 to 512"),
        ("with a space in the token", 0o600, "16 to 512"),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let run = place.run(&["live", "-a", "--token-file", text(&file)]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(said), "{run:?}");
    }
    let run = place.run(&["live", "-a", "--tui", "--listen", "127.0.0.1:0"]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("have to be a terminal"), "{run:?}");
    let run = place.run(&["live", "-a", "--listen", "192.0.2.1:1"]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("--listen"), "{run:?}");
}
