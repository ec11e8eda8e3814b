//! A small HTTP server that says what a test wants it to say, and tells what it was sent.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use super::target::{Asked, Target};

/// What came.
#[derive(Debug)]
pub(super) struct Request {
    /// Request line and headers.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A parameter of the query, as it stands there.
    pub(super) fn parameter(&self, name: &str) -> &str {
        let uri = self.head.split(' ').nth(1).unwrap();
        let (_, query) = uri.split_once('?').unwrap();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).unwrap().1
    }
}

pub(super) struct Store {
    pub(super) address: SocketAddr,
    requests: Receiver<Request>,
    answers: Sender<String>,
}

impl Store {
    /// Answers each request with the next that is told by [`Store::answer`], and waits for that.
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let (answers, told) = channel::<String>();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if connection.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    let is_length = name.eq_ignore_ascii_case("content-length");
                    is_length.then(|| value.parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                let read = connection.read_exact(&mut body);
                if read.is_err() || sender.send(Request { head, body }).is_err() {
                    return;
                }
                let Ok(answer) = told.recv() else { return };
                // Who asked may have gone.
                let _written = connection.get_mut().write_all(answer.as_bytes());
            }
        });
        Self {
            address,
            requests,
            answers,
        }
    }

    pub(super) fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        );
        self.answers.send(answer).unwrap();
    }

    pub(super) fn ok(&self) {
        self.answer("200 OK", "", "");
    }

    pub(super) fn request(&self) -> Request {
        let request = self.requests.recv_timeout(Duration::from_secs(30));
        request.expect("a request comes in half a minute")
    }

    /// What came, if something did.
    pub(super) fn next(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// What came and was not looked at.
    pub(super) fn more(&self) -> usize {
        self.requests.try_iter().count()
    }

    pub(super) fn target(&self) -> Target {
        target(self.address)
    }
}

pub(super) fn target(address: SocketAddr) -> Target {
    let asked = Asked {
        url: format!("http://{address}"),
        name: "stackwalk".to_owned(),
        ..Asked::default()
    };
    Target::new(&asked).unwrap()
}
