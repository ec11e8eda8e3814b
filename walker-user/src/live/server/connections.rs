//! The connections of clients: how many there may be, and for how long without a request.
//!
//! Who has the token is not kept out by those who have not: where there are too many connections,
//! the oldest that has never shown it makes room. What is asked on a connection is the router's
//! business.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::PATIENCE;

/// Most connections at one time: those of the stream, and as many again for all else.
const MAX_CONNECTIONS: usize = 2 * super::MAX_CLIENTS;
/// How long a client may take for the head of a request, and be silent between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long nothing is accepted after an error that may pass, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a request with the token has come on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// One has.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Connections(VecDeque<(AbortHandle, Known)>);

impl Connections {
    /// Makes room for one more; whether there is any.
    fn make_room(&mut self) -> bool {
        self.0.retain(|(task, _)| !task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return true;
        }
        match self.0.iter().position(|(_, known)| !known.get()) {
            Some(oldest) => {
                if let Some((task, _)) = self.0.remove(oldest) {
                    task.abort();
                }
                true
            }
            None => false,
        }
    }

    fn add(&mut self, stream: TcpStream, app: &Router) {
        let known = Known::default();
        let service = TowerToHyperService::new(app.clone().layer(Extension(known.clone())));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // A client that breaks off is nobody's business.
        let task = tokio::spawn(async move { drop(connection.await) });
        self.0.push_back((task.abort_handle(), known));
    }
}

/// Answers on a socket that listens, for ever.
pub(super) async fn serve(listener: TcpListener, app: Router) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let socket = socket2::SockRef::from(&stream);
                // Without it a dead client would be waited for until the kernel gives up.
                let _set = socket.set_tcp_user_timeout(Some(PATIENCE));
                let _set = stream.set_nodelay(true);
                if connections.make_room() {
                    connections.add(stream, &app);
                }
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether only the client that was to be accepted has a problem.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
