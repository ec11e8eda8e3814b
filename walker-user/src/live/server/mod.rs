//! The HTTP side of the live view: the page, the stream, profiles and downloads.
//!
//! On a thread and an event loop of its own, so that whatever clients do never holds the capture up.
//! Who may ask is `guard`'s business; what is answered comes from [`Live`].

mod assets;
mod connections;
mod download;
mod guard;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use guard::{Access, TOKEN_BYTES, new_token};

use super::hub::{Live, StreamPlace};
use crate::sys::privileges;
use assets::asset;
use download::{Unmade, Wanted};

/// Most clients of the stream at one time.
const MAX_CLIENTS: usize = 128;
/// Most profiles and downloads that are made at one time.
const MAX_WORK: usize = 2;
/// After so long a client that takes nothing is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long a client should connect again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest profile.
const MAX_SECONDS: u64 = 300;

/// What all requests share.
struct Shared {
    live: Arc<Live>,
    clients: Arc<Semaphore>,
    work: Arc<Semaphore>,
}

/// Starts answering on a socket that listens.
///
/// # Errors
/// If the thread or its event loop cannot be started.
pub fn start(listener: TcpListener, access: Access, live: Arc<Live>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_WORK + 2)
        .thread_name("live work")
        .build()?;
    let app = app(access, live);
    // What comes from the network is read without any privilege.
    privileges::start(
        "live server",
        || privileges::keep(&[]),
        move |_| {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                connections::serve(listener, app).await;
            });
        },
    )?;
    Ok(())
}

fn app(access: Access, live: Arc<Live>) -> Router {
    let shared = Arc::new(Shared {
        live,
        clients: Arc::new(Semaphore::new(MAX_CLIENTS)),
        work: Arc::new(Semaphore::new(MAX_WORK)),
    });
    Router::new()
        .route("/", get(|| async { asset("index.html") }))
        .route("/{file}", get(file))
        .route("/js/{file}", get(script))
        .route("/stream", get(stream_of))
        .route("/health", get(health))
        .route("/profile.pb.gz", get(profile))
        .route("/download/{format}", get(download))
        .with_state(shared)
        .layer(middleware::from_fn_with_state(
            Arc::new(access),
            guard::check,
        ))
}

async fn file(axum::extract::Path(file): axum::extract::Path<String>) -> Response {
    asset(&file)
}

async fn script(axum::extract::Path(file): axum::extract::Path<String>) -> Response {
    asset(&format!("js/{file}"))
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.live.health()).into_response()
}

/// One line that says what is wrong.
fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// Where a client of the stream is.
struct Reader {
    live: Arc<Live>,
    changes: tokio::sync::watch::Receiver<StreamPlace>,
    place: StreamPlace,
    _permit: OwnedSemaphorePermit,
}

async fn stream_of(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Ok(permit) = Arc::clone(&shared.clients).try_acquire_owned() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many clients listen already: close one",
        );
    };
    let reader = Reader {
        live: Arc::clone(&shared.live),
        changes: shared.live.changes(),
        place: headers
            .get("last-event-id")
            .and_then(|id| place(id.to_str().ok()?))
            .unwrap_or_default(),
        _permit: permit,
    };
    Sse::new(events(reader))
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// `GENERATION-SEQ`.
fn place(id: &str) -> Option<StreamPlace> {
    let (generation, seq) = id.split_once('-')?;
    Some(StreamPlace {
        generation: generation.parse().ok()?,
        seq: seq.parse().ok()?,
    })
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, std::convert::Infallible>> {
    stream::unfold(reader, |mut reader| async {
        loop {
            reader.changes.mark_unchanged();
            if let Some((snapshot, place, text)) = reader.live.after(reader.place) {
                reader.place = place;
                let event = Event::default()
                    .event(if snapshot { "snapshot" } else { "delta" })
                    .id(format!("{}-{}", place.generation, place.seq))
                    .retry(RETRY)
                    .data(&*text);
                return Some((Ok(event), reader));
            }
            // The hub has ended.
            reader.changes.changed().await.ok()?;
        }
    })
}

#[derive(Debug, Deserialize)]
struct Seconds {
    seconds: Option<u64>,
}

async fn profile(
    State(shared): State<Arc<Shared>>,
    Query(Seconds { seconds }): Query<Seconds>,
) -> Response {
    let seconds = seconds.unwrap_or(10);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "seconds has to be a number from 1 to 300",
        );
    }
    let Ok(_client) = Arc::clone(&shared.clients).try_acquire_owned() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many clients wait already",
        );
    };
    let from = shared.live.slot();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let wanted = Wanted::slots(from, shared.live.slot());
    made(shared, "pb.gz".to_owned(), wanted).await
}

async fn download(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path(format): axum::extract::Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    made(shared, format, wanted).await
}

async fn made(shared: Arc<Shared>, format: String, wanted: Wanted) -> Response {
    let Some(kind) = download::content_type(&format) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "there is no such format: svg, folded, pb.gz, html and swk can be had",
        );
    };
    let Ok(_permit) = Arc::clone(&shared.work).acquire_owned().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server ends");
    };
    let live = Arc::clone(&shared.live);
    let name = format.clone();
    let made = tokio::task::spawn_blocking(move || download::make(&live, &name, &wanted)).await;
    match made {
        Ok(Ok(bytes)) => {
            let attachment = format!("attachment; filename=\"stackwalk.{format}\"");
            let headers = [
                (header::CONTENT_TYPE, kind.to_owned()),
                (header::CONTENT_DISPOSITION, attachment),
            ];
            (headers, Body::from(bytes)).into_response()
        }
        Ok(Err(unmade @ Unmade::NotSingle(_))) => refuse(StatusCode::CONFLICT, &unmade.to_string()),
        Ok(Err(unmade)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &unmade.to_string()),
        Err(_) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the file could not be made",
        ),
    }
}

/// A header that is the same in every answer.
const fn fixed(name: HeaderName, value: &'static str) -> (HeaderName, HeaderValue) {
    (name, HeaderValue::from_static(value))
}

#[cfg(test)]
#[path = "../server_tests.rs"]
mod tests;
