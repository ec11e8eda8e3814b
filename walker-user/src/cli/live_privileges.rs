//! What the thread of the capture may still do once everything is loaded.
//!
//! Programs, maps and events are used by their descriptors from then on. What is left to do is to
//! look at processes that are new, whoever runs them. The other threads of `live` give up what they
//! do not need when they start.

use anyhow::Context as _;

use super::run::complain;
use crate::{
    capture::session::Session,
    sys::privileges::{self, Capability},
};

/// To see what processes have mapped, and to open that.
const TO_LOOK: [Capability; 3] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_CHECKPOINT_RESTORE,
];

/// What a capability is kept for.
const fn reason(capability: Capability) -> &'static str {
    match capability {
        Capability::CAP_SYS_PTRACE => "what other processes have mapped",
        Capability::CAP_DAC_READ_SEARCH => "files of other users",
        Capability::CAP_CHECKPOINT_RESTORE => "mapped files that were replaced",
        Capability::CAP_BPF => "the maps of this kernel",
        Capability::CAP_SYS_ADMIN => "mapped files that were replaced, and maps",
        Capability::CAP_KILL => "the end of the command",
        _ => "other things",
    }
}

/// Gives up what is not needed any more, and says what is kept.
pub(super) fn give_up(session: &Session, ends_command: bool) -> anyhow::Result<()> {
    let cannot = "cannot give up capabilities that are not needed any more";
    let mut wanted = TO_LOOK.to_vec();
    // Older kernels ask for it whenever a map is read.
    let reads_maps = || session.counters().is_ok();
    if !privileges::works_without(Capability::CAP_BPF, reads_maps).context(cannot)? {
        wanted.push(Capability::CAP_BPF);
    }
    // Where there are no finer ones, it stands for them.
    let finer = [Capability::CAP_CHECKPOINT_RESTORE, Capability::CAP_BPF];
    if !finer.iter().all(|capability| privileges::has(*capability)) {
        wanted.push(Capability::CAP_SYS_ADMIN);
    }
    if ends_command {
        // It may run as another user by then.
        wanted.push(Capability::CAP_KILL);
    }
    let kept = privileges::keep(&wanted).context(cannot)?;
    let names: Vec<String> = { kept.iter() }
        .map(|capability| format!("{capability}: {}", reason(*capability)))
        .collect();
    complain(&match names.is_empty() {
        true => "privileges  keeps no capability".to_owned(),
        false => format!("privileges  keeps {}", names.join("; ")),
    });
    Ok(())
}
