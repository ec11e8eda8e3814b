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

/// Gives up what is not needed any more, and says what is kept.
pub(super) fn give_up(session: &Session, ends_command: bool) -> anyhow::Result<()> {
    let cannot = "cannot give up capabilities that are not needed any more";
    let mut wanted = TO_LOOK.to_vec();
    // Older kernels ask for it whenever a map is read.
    let reads_maps = || session.counters().is_ok();
    if !privileges::works_without(Capability::CAP_BPF, reads_maps).context(cannot)? {
        wanted.push(Capability::CAP_BPF);
    }
    if ends_command {
        // It may run as another user by then.
        wanted.push(Capability::CAP_KILL);
    }
    let kept = privileges::keep(&wanted).context(cannot)?;
    let names: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let names = match names.is_empty() {
        true => "no capability".to_owned(),
        false => names.join(", "),
    };
    complain(&format!(
        "privileges  keeps {names}: to find the programs that others start"
    ));
    Ok(())
}
