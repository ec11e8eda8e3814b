//! The file of `live --config`: options for a recorder that always runs, which need not be on a
//! command line. What is on the command line counts more.
//!
//! The file may hold secrets: nothing that it says is shown but the names of its keys.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::SocketAddr,
    num::NonZeroU64,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::{
    live_push::{PushArgs, Secret, warn},
    run::complain,
};
use crate::{
    live::push::{Pusher, SECONDS, Settings},
    sys::regular_file,
};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// The largest spool, in MiB.
const SPOOL_LIMITS: std::ops::RangeInclusive<u64> = 1..=1_048_576;

/// What a file says.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) listen: Option<SocketAddr>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) frequency: Option<NonZeroU64>,
    #[serde(default)]
    push: PushConfig,
}

/// What is sent on, and where to.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushConfig {
    url: Option<String>,
    every: Option<u64>,
    name: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    spool: Option<PathBuf>,
    spool_limit: Option<u64>,
}

impl Config {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use `{}`", path.display());
        let file = regular_file::open(path).with_context(cannot)?;
        let mode = file.metadata().with_context(cannot)?.permissions().mode();
        let mut text = String::new();
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .with_context(cannot)?;
        let config = Self::parse(&text).with_context(cannot)?;
        ensure!(
            !config.has_secrets() || mode & 0o077 == 0,
            "`{}` holds a password or a header, and others may read it: `chmod 600` it, and change \
             what it holds",
            path.display()
        );
        Ok(config)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(
            text.len() as u64 <= MAX_BYTES,
            "it has more than {} KiB",
            MAX_BYTES >> 10
        );
        let config: Self = match toml::from_str(text) {
            Ok(config) => config,
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.unwrap_or_default().matches('\n').count() + 1;
                bail!("line {line}: {}", without_values(error.message()));
            }
        };
        let push = &config.push;
        ensure!(
            push.every.is_none_or(|every| SECONDS.contains(&every)),
            "push.every has to be {} to {} seconds",
            SECONDS.start(),
            SECONDS.end()
        );
        ensure!(
            push.spool_limit
                .is_none_or(|limit| SPOOL_LIMITS.contains(&limit)),
            "push.spool_limit has to be {} to {} MiB",
            SPOOL_LIMITS.start(),
            SPOOL_LIMITS.end()
        );
        Ok(config)
    }

    fn has_secrets(&self) -> bool {
        let url = self.push.url.as_deref().unwrap_or_default();
        !self.push.headers.is_empty() || url.contains('@')
    }

    /// What to send where, with the options of the command line first.
    pub(super) fn settings(&self, args: &PushArgs) -> anyhow::Result<Option<Settings>> {
        let PushConfig {
            url,
            every,
            name,
            labels,
            headers,
            spool,
            spool_limit,
        } = self.push.clone();
        let mut merged = args.clone();
        merged.url = merged.url.or(url.map(Secret));
        merged.every = merged.every.or(every);
        merged.name = merged.name.or(name);
        merged.spool = merged.spool.or(spool);
        merged.spool_limit = merged.spool_limit.or(spool_limit);
        let of_command_line = |key: &str| {
            args.labels
                .iter()
                .any(|label| label.split('=').next() == Some(key))
        };
        let labels = labels.iter().filter(|(key, _)| !of_command_line(key));
        merged
            .labels
            .extend(labels.map(|(key, value)| format!("{key}={value}")));
        // The last of equal headers counts.
        let headers = { headers.iter() }.map(|(name, value)| Secret(format!("{name}:{value}")));
        merged.headers = headers.chain(args.headers.iter().cloned()).collect();
        merged.settings()
    }

    /// The names of what differs, and cannot be changed while it runs.
    pub(super) fn fixed_changes(&self, next: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != next.listen),
            ("token_file", self.token_file != next.token_file),
            ("frequency", self.frequency != next.frequency),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// What is done when the file has changed.
pub(super) struct Reload {
    pub(super) path: PathBuf,
    /// What it said at the start.
    pub(super) first: Config,
    /// What the command line says.
    pub(super) args: PushArgs,
}

impl Reload {
    /// Reads the file again, and says what came of it. If it is broken nothing is changed.
    pub(super) fn again(&self, pusher: &Pusher) {
        let read = Config::read(&self.path);
        let read = read.and_then(|config| Ok((config.settings(&self.args)?, config)));
        let (settings, config) = match read {
            Ok(read) => read,
            Err(error) => {
                complain(&format!("config   nothing was changed: {error:#}"));
                return;
            }
        };
        settings.iter().for_each(warn);
        let to = match &settings {
            Some(settings) => format!("samples are sent to {}", settings.target),
            None => "no samples are sent".to_owned(),
        };
        if !pusher.change(settings) {
            complain("config   nothing was changed: changes before this one are still to be made");
            return;
        }
        complain(&format!(
            "config   `{}` was read: {to}",
            self.path.display()
        ));
        let fixed = self.first.fixed_changes(&config);
        if !fixed.is_empty() {
            let fixed = fixed.join(", ");
            complain(&format!("config   needs a restart to take effect: {fixed}"));
        }
    }
}

/// A message of the TOML reader without what it quotes of strings in the file.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
#[path = "live_config_tests.rs"]
mod tests;
