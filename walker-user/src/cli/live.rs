//! `stackwalk live`: sample, and show it while it goes on.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{
    SamplingArgs, SidesArgs, TargetArgs,
    event_args::TimeArgs,
    live_config::{Config, Reload},
    live_feed::{Door, Feed},
    live_push::{self, PushArgs},
    run::{Wanted, complain, sample},
    summary::{self, grouped},
    walker::Walker,
};
use crate::{
    live::{
        hub::Live,
        server::{Access, new_token},
        tui::Screen,
    },
    sys::regular_file,
};

/// Where it listens if that is free and nothing else is asked for.
const DEFAULT_PORT: u16 = 7717;
/// The shortest and the longest token of a file.
const TOKEN_LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

#[derive(Debug, Args)]
pub(super) struct LiveArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    sides: SidesArgs,
    /// Listen on this address; what is not of this machine can be reached by others, without
    /// encryption [default: 127.0.0.1:7717, or another port if that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Take the token that clients need from this file, which nobody else may read, instead of a new
    /// one each time
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Show the heaviest functions and the tree of calls in this terminal, too
    #[arg(long, conflicts_with = "command")]
    tui: bool,
    /// Tell clients the addresses of the kernel, which attackers look for
    #[arg(long)]
    addresses: bool,
    /// Read options from this file; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    push: PushArgs,
}

pub(super) fn live(args: &LiveArgs) -> anyhow::Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let listener = listen(args.listen.or(config.listen))?;
    let address = listener.local_addr().context("cannot ask for the port")?;
    let token = match args.token_file.as_ref().or(config.token_file.as_ref()) {
        Some(path) => read_token(path)?,
        None => new_token().context("cannot make a token")?,
    };
    if !address.ip().is_loopback() {
        complain(&format!(
            "warning  {address} can be reached from other machines. What is sent, also the token, is \
             not encrypted: an SSH tunnel to 127.0.0.1 is safer"
        ));
    }
    let reload = args.config.as_deref().map(|path| Reload {
        path: path.to_owned(),
        first: config.clone(),
        args: args.push.clone(),
    });
    let push = live_push::prepared(config.settings(&args.push)?, reload.is_some())?;
    let frequency = config.frequency.map(std::num::NonZeroU64::get);
    let events = args.sampling.events.or_frequency(frequency);
    let url = format!("http://{}/?token={token}", named(address));
    let sides = args.sides.sides();
    let walker = Walker::new(sides, args.time.bounds()?);
    let facts = (args.target.title("live"), args.addresses);
    let door = Door {
        listener,
        access: Access::new(address, token),
    };
    let screen = match args.tui {
        true => Some(Screen::take().context("cannot show it in this terminal")?),
        false => None,
    };
    let title = facts.0.clone();
    let ready = move |live: &Arc<Live>| {
        if let Some(screen) = screen {
            let shown = screen.show(Arc::clone(live), title, url);
            return shown.context("cannot use this terminal").map(Some);
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{url}").and_then(|()| out.flush())?;
        Ok(None)
    };
    let mut feed = Feed::new(walker, facts, door, Box::new(ready));
    feed.push = push;
    feed.reload = reload;
    feed.ends_command = !args.target.command.is_empty();
    let wanted = Wanted {
        events: &args.time.wanted(&events),
        sides,
        oracle: false,
    };
    let finished = sample(&args.target, &args.sampling, &wanted, &mut feed)?;
    // What is said from here on is for the terminal as it was.
    feed.shown = None;
    if let Some(pusher) = feed.pusher.take() {
        pusher.end();
    }
    let dropped = feed.dropped(finished.ended.malformed);
    let totals = summary::totals(&finished.counters.iter().copied().sum(), &dropped);
    let sum = |missing: &[crate::profile::Missing]| missing.iter().map(|m| m.samples).sum();
    complain(&format!(
        "samples  {} taken = {} delivered + {} lost + {} filtered, in {:.1} s",
        grouped(totals.taken),
        grouped(totals.delivered),
        grouped(sum(&totals.lost)),
        grouped(sum(&totals.filtered)),
        finished.duration.as_secs_f64(),
    ));
    if let Some(pushed) = feed.live.as_ref().and_then(|live| live.pushed()) {
        complain(&live_push::totals(&pushed));
    }
    Ok(finished.exit_code())
}

fn listen(asked: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = asked.unwrap_or(SocketAddr::new(loopback, DEFAULT_PORT));
    let listener = match (TcpListener::bind(address), asked) {
        (Err(error), None) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((loopback, 0))
        }
        (listener, _) => listener,
    };
    listener.with_context(|| {
        format!("cannot listen on {address}; `--listen ADDR:PORT` takes another address")
    })
}

/// The address as it is reached: one that listens on every address is reached on this machine.
fn named(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};
    let cannot = || format!("cannot take the token from `{}`", path.display());
    let file = regular_file::open(path).with_context(cannot)?;
    let mode = file.metadata().with_context(cannot)?.permissions().mode();
    ensure!(
        mode & 0o077 == 0,
        "others may read `{}`: `chmod 600` it, and make a new token",
        path.display()
    );
    let mut text = String::new();
    file.take(4096)
        .read_to_string(&mut text)
        .with_context(cannot)?;
    let token = text.trim();
    ensure!(
        TOKEN_LENGTHS.contains(&token.len())
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)),
        "the token in `{}` has to be {} to {} letters, digits, or of `-_.~`: \
         `head -c 24 /dev/urandom | base64 | tr +/ -_` makes one",
        path.display(),
        TOKEN_LENGTHS.start(),
        TOKEN_LENGTHS.end(),
    );
    Ok(token.to_owned())
}
