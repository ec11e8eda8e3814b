//! One request: a batch goes out, and what the store says to it comes back.
//!
//! When to try again is the business of `sender`.

use std::{io::Read as _, sync::Arc, time::Duration};

use ureq::{
    Agent,
    http::{StatusCode, header},
    tls::{RootCerts, TlsConfig},
};

use super::{queue::Batch, target::Target};
use crate::output::printable;

/// How much of an answer is read, in bytes; it is shown when it says what is wrong.
const MAX_ANSWER: u64 = 256;
/// The longest wait that a store may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The store has it.
    Sent,
    /// It may be taken later, at the earliest after so long.
    Later(String, Option<Duration>),
    /// It will never be taken.
    Refused(String),
}

/// Talks to stores.
#[derive(Debug)]
pub(super) struct Client(Agent);

impl Client {
    pub(super) fn new() -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // What proves who sends must not go to others.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("stackwalk/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self(config.new_agent())
    }

    /// Sends a batch; takes no longer than `limit`.
    pub(super) fn send(&self, target: &Target, batch: &Batch, limit: Duration) -> Outcome {
        let (from, until) = (batch.from_ms / 1000, batch.until_ms / 1000);
        let mut request = self
            .0
            .post(target.url(from, until.max(from + 1)))
            .header(header::CONTENT_TYPE, "application/octet-stream");
        for (name, value) in target.headers() {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(limit)).build();
        let mut response = match request.send(&batch.body[..]) {
            Ok(response) => response,
            Err(error) => return Outcome::Later(printable(&error.to_string()), None),
        };
        let status = response.status();
        let after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
        let mut answer = Vec::new();
        // An answer that ends half way says what it says.
        let reader = response.body_mut().as_reader();
        let _read = reader.take(MAX_ANSWER).read_to_end(&mut answer);
        if status.is_success() {
            return Outcome::Sent;
        }
        let answer = String::from_utf8_lossy(&answer);
        let said = match answer.lines().next().map(str::trim) {
            None | Some("") => format!("it answered {status}"),
            Some(line) => format!("it answered {status}: {}", printable(line)),
        };
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Outcome::Later(said, after)
            }
            status if status.is_server_error() => Outcome::Later(said, after),
            _ => Outcome::Refused(said),
        }
    }
}
