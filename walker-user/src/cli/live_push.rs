//! `--push` of `live`, and the options that go with it: what is asked for becomes what
//! [`crate::live::push`] is told.

use std::{convert::Infallible, env, fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{run::complain, summary::grouped};
use crate::live::push::{self, Asked, Prepared, Pushed, SECONDS, Settings, Spool, Target};

/// The span of one batch, in seconds.
const DEFAULT_SECONDS: u64 = 10;
/// The name of the application.
const DEFAULT_NAME: &str = "stackwalk";
/// How large the spool may get, in MiB.
const DEFAULT_SPOOL_LIMIT: u64 = 64;
/// The folder that systemd makes for a service's state.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sending samples on")]
pub(super) struct PushArgs {
    /// Send the samples to Grafana Pyroscope, or what takes the same, as a profile every few
    /// seconds: http(s)://[USER:PASSWORD@]HOST[:PORT]
    #[arg(long = "push", value_name = "URL")]
    pub(super) url: Option<Secret>,
    /// How many seconds one profile is of [default: 10]
    #[arg(long = "push-every", value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(*SECONDS.start()..=*SECONDS.end()))]
    pub(super) every: Option<u64>,
    /// The name of the application there [default: stackwalk]
    #[arg(long = "push-name", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Add a label; without one of its own, `hostname` is this machine's name
    #[arg(long = "push-label", value_name = "KEY=VALUE")]
    pub(super) labels: Vec<String>,
    /// Add a header, such as `Authorization: Bearer …`. Other users can read command lines
    #[arg(long = "push-header", value_name = "NAME: VALUE")]
    pub(super) headers: Vec<Secret>,
    /// Keep profiles that cannot be sent now in this folder, also over a restart [default: in
    /// memory, no more than 16; as a service of systemd in the service's state folder]
    #[arg(long, value_name = "DIR")]
    pub(super) spool: Option<PathBuf>,
    /// The size from which on the oldest profiles of the folder are dropped, in MiB [default: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(super) spool_limit: Option<u64>,
}

impl PushArgs {
    /// What to send where; `None` if nothing is to be sent.
    pub(super) fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let Some(Secret(url)) = &self.url else {
            ensure!(
                self.is_empty(),
                "there are options for sending samples on, but `--push URL` does not say where to"
            );
            return Ok(None);
        };
        let pairs = |texts: &mut dyn Iterator<Item = &str>, between| {
            texts
                .map(|text| text.split_once(between).unwrap_or((text, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let name = self.name.as_deref().unwrap_or(DEFAULT_NAME);
        let target = Target::new(&Asked {
            url: url.clone(),
            name: name.to_owned(),
            labels: pairs(&mut self.labels.iter().map(String::as_str), '='),
            headers: pairs(&mut self.headers.iter().map(|header| &*header.0), ':'),
        })?;
        let limit = self.spool_limit.unwrap_or(DEFAULT_SPOOL_LIMIT);
        let folder = self.spool.clone().or_else(state_folder);
        Ok(Some(Settings {
            target,
            every: Duration::from_secs(self.every.unwrap_or(DEFAULT_SECONDS)),
            spool: folder.map(|folder| Spool {
                folder,
                limit: limit << 20,
            }),
        }))
    }

    fn is_empty(&self) -> bool {
        self.every.is_none()
            && self.name.is_none()
            && self.labels.is_empty()
            && self.headers.is_empty()
            && self.spool.is_none()
            && self.spool_limit.is_none()
    }
}

/// Where a service of systemd keeps its state.
fn state_folder() -> Option<PathBuf> {
    let folders = env::var_os(STATE_DIRECTORY)?;
    let first = env::split_paths(&folders).next()?;
    first.is_absolute().then(|| first.join("spool"))
}

/// Ready to send; `None` if nothing is to be sent, and that cannot `change`.
pub(super) fn prepared(
    settings: Option<Settings>,
    change: bool,
) -> anyhow::Result<Option<Prepared>> {
    if settings.is_none() && !change {
        return Ok(None);
    }
    settings.iter().for_each(warn);
    let spool = settings
        .as_ref()
        .and_then(|settings| settings.spool.as_ref());
    let folder = spool.map(|spool| spool.folder.clone());
    let prepared = push::prepare(settings, Arc::new(complain)).with_context(|| {
        let folder = folder.unwrap_or_default();
        format!("cannot use the spool `{}`", folder.display())
    })?;
    Ok(Some(prepared))
}

/// Says what is risky.
pub(super) fn warn(settings: &Settings) {
    if settings.target.tells_secrets() {
        complain(&format!(
            "warning  what proves to {} who sends goes there without encryption: https:// is safer",
            settings.target
        ));
    }
}

/// One line for the end.
pub(super) fn totals(pushed: &Pushed) -> String {
    format!(
        "push     {} batches = {} sent + {} waiting + {} dropped",
        grouped(pushed.made),
        grouped(pushed.sent),
        grouped(pushed.waiting),
        grouped(pushed.dropped),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> PushArgs {
        PushArgs {
            url: Some(Secret(url.to_owned())),
            ..PushArgs::default()
        }
    }

    #[test]
    fn what_is_not_said_is_ten_seconds_to_pyroscope() {
        let settings = args("http://h:4040").settings().unwrap().unwrap();
        assert_eq!(settings.every, Duration::from_secs(10));
        assert_eq!(settings.target.to_string(), "http://h:4040/ingest");
        assert_eq!(settings.spool, None);
        assert_eq!(PushArgs::default().settings().unwrap(), None);
    }

    #[test]
    fn options_without_an_url_are_a_mistake() {
        let lost = PushArgs {
            every: Some(3),
            ..PushArgs::default()
        };
        let error = lost.settings().unwrap_err().to_string();
        assert!(error.contains("--push URL"), "{error}");
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut args = args("http://user:hidden@h");
        args.headers = vec![Secret("Authorization Bearer hidden".to_owned())];
        let error = args.settings().unwrap_err();
        let shown = format!("{args:?} {error:?}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
