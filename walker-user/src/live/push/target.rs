//! Where samples are sent, and under which name: the URL, headers and labels, checked.
//!
//! What proves who sends (a password of the URL, headers) is in here and in no text that is shown.

use std::{fmt, fs};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;
use ureq::http::{HeaderName, HeaderValue, Uri, header};

/// Where Pyroscope takes profiles.
const INGEST: &str = "/ingest";
/// The longest name of an application, and the longest value of a label.
const MAX_TEXT: usize = 128;
/// Most labels, and most headers.
const MAX_PAIRS: usize = 32;

/// What is wrong with what was asked for. The texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mistake {
    /// The URL.
    #[error("the URL to push to is not understood: it has to be http://HOST:PORT or https://HOST")]
    Url,
    /// A query or a fragment in the URL.
    #[error("the URL to push to must not have a query: stackwalk adds its own")]
    Query,
    /// The name.
    #[error(
        "`{0}` cannot be the name of an application: it has to be 1 to 128 letters, digits, or of \
         `_.-/`"
    )]
    Name(String),
    /// A label.
    #[error(
        "the label `{0}` is not understood: it has to be KEY=VALUE, the key of letters, digits and \
         `_`, the value of up to 128 characters without `,`, `{{` and `}}`"
    )]
    Label(String),
    /// A header; its text may be a secret.
    #[error("a header to push with is not understood: it has to be `Name: value`")]
    Header,
    /// Too much of something.
    #[error("there may be no more than {MAX_PAIRS} labels and {MAX_PAIRS} headers")]
    TooMany,
}

/// What is asked for, not checked yet.
#[derive(Default)]
pub struct Asked {
    /// `http(s)://[USER:PASSWORD@]HOST[:PORT][/PATH]`.
    pub url: String,
    /// The name of the application.
    pub name: String,
    /// Keys and values of labels.
    pub labels: Vec<(String, String)>,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("name", &self.name)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Where to send, and under which name.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Without user and password.
    url: String,
    /// As it stands in a query.
    name: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    host: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Target {
    /// Checks what is asked for. A label `hostname` is added if there is none.
    ///
    /// # Errors
    /// With what is wrong first.
    pub fn new(asked: &Asked) -> Result<Self, Mistake> {
        if asked.labels.len() > MAX_PAIRS || asked.headers.len() > MAX_PAIRS {
            return Err(Mistake::TooMany);
        }
        let uri: Uri = asked.url.parse().map_err(|_| Mistake::Url)?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) =
            (uri.scheme_str(), uri.authority())
        else {
            return Err(Mistake::Url);
        };
        if authority.host().is_empty() {
            return Err(Mistake::Url);
        }
        if uri.query().is_some() || asked.url.contains('#') {
            return Err(Mistake::Query);
        }
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        let path = match uri.path() {
            "" | "/" => INGEST,
            path => path,
        };
        let mut headers = Vec::new();
        if let Some(user) = user {
            let plain: Vec<u8> = percent_decode_str(user).collect();
            let value = format!("Basic {}", BASE64_STANDARD.encode(plain));
            headers.push((header::AUTHORIZATION, secret(&value)?));
        }
        for (name, value) in &asked.headers {
            let name = HeaderName::try_from(name.trim()).map_err(|_| Mistake::Header)?;
            headers.retain(|(other, _)| *other != name);
            headers.push((name, secret(value.trim())?));
        }
        Ok(Self {
            url: format!("{scheme}://{place}{path}"),
            name: series(asked)?,
            headers,
            host: authority.host().to_owned(),
        })
    }

    /// The URL to which the samples of a span of time go; the times are in seconds since 1970.
    pub(super) fn url(&self, from: u64, until: u64) -> String {
        let name = utf8_percent_encode(&self.name, NON_ALPHANUMERIC);
        format!(
            "{}?name={name}&from={from}&until={until}&format=pprof&spyName=stackwalk",
            self.url
        )
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether headers, which may be secrets, go over the network as they are.
    #[must_use]
    pub fn tells_secrets(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let here = host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        !self.headers.is_empty() && !self.url.starts_with("https:") && !here
    }
}

fn secret(value: &str) -> Result<HeaderValue, Mistake> {
    let mut value = HeaderValue::try_from(value).map_err(|_| Mistake::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The name of the application with its labels: `name{key=value,…}`.
fn series(asked: &Asked) -> Result<String, Mistake> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if !(1..=MAX_TEXT).contains(&asked.name.len()) || !asked.name.chars().all(of_name) {
        return Err(Mistake::Name(asked.name.clone()));
    }
    let mut labels = Vec::new();
    if !asked.labels.iter().any(|(key, _)| key == "hostname") {
        labels.push(format!("hostname={}", hostname()));
    }
    for (key, value) in &asked.labels {
        let of_key = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_good = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.len() <= MAX_TEXT
            && key.chars().all(of_key)
            && (1..=MAX_TEXT).contains(&value.chars().count())
            && value.chars().all(of_value);
        if !is_good {
            return Err(Mistake::Label(crate::output::printable(key)));
        }
        labels.push(format!("{key}={value}"));
    }
    Ok(format!("{}{{{}}}", asked.name, labels.join(",")))
}

/// What may stand in a value: all but what ends it.
fn of_value(c: char) -> bool {
    !c.is_control() && !",{}".contains(c)
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = { name.trim().chars() }
        .map(|c| if of_value(c) { c } else { '_' })
        .collect();
    match name.is_empty() {
        true => "unknown".to_owned(),
        false => name,
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
