//! The server, asked through sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::*;
use crate::{
    kernel::kallsyms::Kallsyms,
    live::hub::{self, Batch, Counted, Intake, LiveSample, Request, Source, Subject},
    output::folded,
    recording::{
        head::{EventHead, Head},
        reader::Recording,
    },
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::Reason,
    sys::clock::monotonic_ns,
    unwind::StopReason,
};

const TOKEN: &str = "token-of-a-test";

struct Served {
    address: SocketAddr,
    intake: Intake,
    live: Arc<Live>,
}

/// A server of what two functions of one process do.
fn served() -> Served {
    let kallsyms = "ffffffff81000000 T _stext\nffffffff82000000 T _etext\n";
    let (intake, live) = hub::start(Subject {
        head: Head {
            title: "<b>a title</b>".to_owned(),
            events: vec![EventHead::counted("cpu-clock", None)],
            ..Head::default()
        },
        cpus: vec![0],
        kallsyms: Arc::new(Kallsyms::read(kallsyms.as_bytes()).unwrap()),
        addresses: false,
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let access = Access::new(address, TOKEN.to_owned());
    start(listener, access, Arc::clone(&live)).unwrap();
    let code = Code::NoFile(0);
    let frame = |address| RawFrame::User {
        code,
        address,
        lookup: address,
        reliable: true,
    };
    let batch = Batch {
        nodes: vec![(Place::Process(0), frame(1)), (Place::Node(0), frame(2))],
        processes: vec![Process {
            pid: 7,
            name: *b"program\0\0\0\0\0\0\0\0\0",
            comm: *b"program\0\0\0\0\0\0\0\0\0",
        }],
        requests: vec![Request {
            holder: (code, 0),
            addresses: vec![1, 2],
            source: Source::Nowhere("<script>".to_owned(), Reason::Unreadable),
        }],
        ..Batch::default()
    };
    intake.offer(Box::new(batch)).unwrap();
    let served = Served {
        address,
        intake,
        live,
    };
    served.sample(1);
    served
}

impl Served {
    /// Adds samples, of which there are then so many in all.
    fn sample(&self, all: u64) {
        let sample = LiveSample {
            time_ns: monotonic_ns(),
            cpu: 0,
            event: 0,
            place: Place::Node(1),
            stop: StopReason::NoUnwindInfo { ip: 1 },
            weight: 1,
        };
        let batch = Batch {
            samples: vec![sample],
            counted: Counted {
                taken: all,
                delivered: all,
                ..Counted::default()
            },
            ..Batch::default()
        };
        self.intake.offer(Box::new(batch)).unwrap();
    }

    fn connect(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let address = self.address;
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        BufReader::new(connection)
    }

    /// The status and the body of an answer, and its headers.
    fn get(&self, path: &str, headers: &str) -> (u16, Vec<u8>, String) {
        let mut connection = self.connect(path, headers);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            connection.read_line(&mut head).unwrap();
        }
        let mut body = Vec::new();
        connection.read_to_end(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body, head)
    }

    fn ask(&self, path: &str) -> (u16, Vec<u8>, String) {
        self.get(path, &format!("Authorization: Bearer {TOKEN}\r\n"))
    }

    fn listen(&self, more: &str) -> Client {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{more}");
        Client(self.connect("/stream", &headers))
    }
}

/// Somebody who reads the stream.
struct Client(BufReader<TcpStream>);

/// An event of the stream: its name, its ID, and what it says.
struct Received(String, String, Value);

impl Client {
    fn next(&mut self) -> Received {
        let (mut name, mut id, mut line) = (String::new(), String::new(), String::new());
        loop {
            line.clear();
            assert!(
                self.0.read_line(&mut line).unwrap() > 0,
                "the stream has ended"
            );
            let value = |key| line.trim_end().strip_prefix(key).map(str::to_owned);
            if let Some(value) = value("event: ") {
                name = value;
            } else if let Some(value) = value("id: ") {
                id = value;
            } else if let Some(data) = value("data: ") {
                return Received(name, id, serde_json::from_str(&data).unwrap());
            }
        }
    }
}

#[test]
fn a_client_gets_a_snapshot_then_deltas_and_goes_on_after_a_break() {
    let served = served();
    let mut client = served.listen("");
    let Received(name, _, snapshot) = client.next();
    assert_eq!(name, "snapshot");
    assert_eq!(snapshot["title"], "<b>a title</b>");
    let Received(name, id, delta) = client.next();
    assert_eq!(name, "delta");
    assert_eq!(
        delta["seq"].as_u64(),
        snapshot["seq"].as_u64().map(|seq| seq + 1)
    );
    drop(client);
    let mut again = served.listen(&format!("Last-Event-ID: {id}\r\n"));
    let Received(name, _, next) = again.next();
    assert_eq!(name, "delta");
    assert_eq!(
        next["seq"].as_u64(),
        delta["seq"].as_u64().map(|seq| seq + 1)
    );
    // One of another run.
    let mut other = served.listen("Last-Event-ID: 99-1\r\n");
    assert_eq!(other.next().0, "snapshot");
}

#[test]
fn samples_reach_every_client_while_another_does_not_read() {
    let served = served();
    let _idle = served.listen("");
    let mut clients: Vec<Client> = (0..20).map(|_| served.listen("")).collect();
    for client in &mut clients {
        client.next();
    }
    served.sample(2);
    for client in &mut clients {
        while client.next().2["health"]["delivered"] != 2 {}
    }
}

#[test]
fn nothing_is_told_without_the_token() {
    let served = served();
    for path in [
        "/",
        "/stream",
        "/health",
        "/profile.pb.gz",
        "/download/svg",
        "/nothing",
    ] {
        let (status, body, head) = served.get(path, "");
        assert_eq!(status, 401, "{path}");
        assert!(
            String::from_utf8(body).unwrap().contains("Authorization"),
            "{path}"
        );
        assert!(!head.contains(TOKEN));
    }
    let (status, _, head) = served.get(&format!("/?token={TOKEN}"), "");
    assert_eq!(status, 200);
    assert!(head.contains("HttpOnly; SameSite=Strict"), "{head}");
    assert!(head.contains("default-src 'none'"), "{head}");
    let cookie = format!("Cookie: stackwalk-{}={TOKEN}\r\n", served.address.port());
    assert_eq!(served.get("/health", &cookie).0, 200);
    let other_site = format!("{cookie}Origin: http://evil.example\r\n");
    assert_eq!(served.get("/health", &other_site).0, 403);
}

#[test]
fn what_is_seen_can_be_had_as_files() {
    let served = served();
    while served.live.window(crate::live::Window::Start).samples() == 0 {
        std::thread::yield_now();
    }
    let (status, folded, _) = served.ask("/download/folded?window=start");
    assert_eq!(status, 200);
    assert_eq!(
        String::from_utf8(folded).unwrap(),
        "program;<script>+0x1;<script>+0x2 1\n"
    );
    let (_, svg, head) = served.ask("/download/svg?window=start");
    assert!(
        head.contains("image/svg+xml") && head.contains("stackwalk.svg"),
        "{head}"
    );
    let svg = String::from_utf8(svg).unwrap();
    assert!(svg.contains("&lt;script&gt;+0x2") && !svg.contains("<script>+"));
    let (_, page, _) = served.ask("/download/html?window=start");
    assert!(page.starts_with(b"<!DOCTYPE html>"));
    let (_, pprof, _) = served.ask("/download/pb.gz?window=start");
    assert_eq!(pprof[..2], [0x1f, 0x8b]);
    let (_, recording, head) = served.ask("/download/swk?window=start");
    assert!(head.contains("stackwalk.swk"), "{head}");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&recording).unwrap();
    file.rewind().unwrap();
    let (recording, _) = Recording::read(file).unwrap();
    assert!(recording.is_whole());
    let read = recording.timeline();
    assert_eq!(read.profile.meta.title, "<b>a title</b>");
    let mut folded = Vec::new();
    folded::write(
        &read.profile,
        &folded::Options { markers: true },
        &mut folded,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(folded).unwrap(),
        "program;<script>+0x1;<script>+0x2 1\n"
    );
    assert_eq!(served.ask("/download/exe").0, 404);
    assert_eq!(served.ask("/download/svg?from=x").0, 400);
    assert_eq!(served.ask("/profile.pb.gz?seconds=0").0, 400);
    assert_eq!(served.ask("/profile.pb.gz?seconds=301").0, 400);
    assert_eq!(served.ask("/profile.pb.gz?seconds=1").0, 200);
}

#[test]
fn clients_are_limited() {
    let served = served();
    let mut clients: Vec<Client> = (0..MAX_CLIENTS).map(|_| served.listen("")).collect();
    for client in &mut clients {
        client.next();
    }
    let (status, body, _) = served.ask("/stream");
    assert_eq!(status, 503);
    assert!(String::from_utf8(body).unwrap().contains("close one"));
    clients.pop();
    // The server notices when it sends the next delta.
    loop {
        let mut client = served.listen("");
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        if line.contains("200") {
            break;
        }
    }
}

#[test]
fn connections_without_the_token_make_room() {
    let served = served();
    let mut client = served.listen("");
    client.next();
    let half_open = || {
        let mut connection = TcpStream::connect(served.address).unwrap();
        connection.write_all(b"G").unwrap();
        connection
    };
    let waiting: Vec<TcpStream> = (0..700).map(|_| half_open()).collect();
    // The first of them were closed for the others, and who has the token is still served.
    let mut first = &waiting[0];
    first
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(served.ask("/health").0, 200);
    served.sample(2);
    while client.next().2["health"]["delivered"] != 2 {}
}

#[test]
fn a_long_head_is_refused() {
    let served = served();
    let long = format!("X: {}\r\n", "x".repeat(1 << 17));
    let mut connection = TcpStream::connect(served.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answer = String::new();
    let head = format!("GET /health HTTP/1.1\r\nHost: {}\r\n{long}", served.address);
    // It may hang up before it has read all.
    let _written = connection.write_all(head.as_bytes());
    let _read = connection.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.contains(" 431 "), "{answer}");
}

#[test]
fn processes_of_few_samples_share_their_stacks() {
    let served = served();
    let processes = 1..1200u32;
    let frame = RawFrame::User {
        code: Code::NoFile(0),
        address: 1,
        lookup: 1,
        reliable: true,
    };
    let sample = |process: u32| LiveSample {
        time_ns: monotonic_ns(),
        cpu: 0,
        event: 0,
        // Those of `served` are the process 0 and the nodes 0 and 1.
        place: Place::Node(process + 1),
        stop: StopReason::UserMode,
        weight: 1,
    };
    let long = std::iter::repeat_n(sample(17), 100);
    let batch = Batch {
        processes: processes
            .clone()
            .map(|pid| Process {
                pid,
                name: *b"short\0\0\0\0\0\0\0\0\0\0\0",
                comm: *b"short\0\0\0\0\0\0\0\0\0\0\0",
            })
            .collect(),
        nodes: processes
            .clone()
            .map(|process| (Place::Process(process), frame))
            .collect(),
        samples: processes.clone().map(sample).chain(long).collect(),
        ..Batch::default()
    };
    let all = batch.samples.len() as u64 + 1;
    served.intake.offer(Box::new(batch)).unwrap();
    let query = "/download/folded?window=start&processes=id";
    let folded = loop {
        let (_, body, _) = served.ask(query);
        let text = String::from_utf8(body).unwrap();
        let sum: u64 = { text.lines() }
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        if sum == all {
            break text;
        }
    };
    let mut lines: Vec<&str> = folded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3, "{folded}");
    assert!(
        lines[1].starts_with("short (17);") && lines[1].ends_with(" 50"),
        "{folded}"
    );
    assert!(
        lines[2].starts_with("short;") && lines[2].ends_with(" 1249"),
        "{folded}"
    );
}
