//! Who gets the files that are written: with sudo the user who called it, not root.

use std::{fs::File, os::unix::fs::fchown};

use super::run::complain;
use crate::sys::privileges;

/// Gives a file that this process created to the user who called sudo, if there is one.
pub(super) fn give(file: &File) {
    let Some((user, group)) = sudo_caller() else {
        return;
    };
    if let Err(error) = fchown(file, Some(user), Some(group)) {
        complain(&format!(
            "warning  a file stays root's, as it cannot be given to user {user}: {error}"
        ));
    }
}

/// Whether what belongs to this user is root's, this process's own, or of the user who called sudo.
pub(super) fn is_ours(user: u32) -> bool {
    user == 0
        || user == privileges::effective_user()
        || sudo_caller().is_some_and(|(caller, _)| caller == user)
}

fn sudo_caller() -> Option<(u32, u32)> {
    let variable = |name| std::env::var(name).ok();
    caller(
        privileges::is_root(),
        variable("SUDO_UID").as_deref(),
        variable("SUDO_GID").as_deref(),
    )
}

/// User and group of who called sudo; `None` where that is root, or nobody.
fn caller(root: bool, user: Option<&str>, group: Option<&str>) -> Option<(u32, u32)> {
    let number = |text: Option<&str>| text?.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let (user, group) = (number(user)?, number(group)?);
    (root && user != 0).then_some((user, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_gives_files_away_and_only_to_a_user() {
        assert_eq!(caller(true, Some("1000"), Some("100")), Some((1000, 100)));
        assert_eq!(caller(false, Some("1000"), Some("100")), None);
        assert_eq!(caller(true, Some("0"), Some("0")), None);
        assert_eq!(caller(true, Some("1000"), None), None);
        assert_eq!(caller(true, Some("-1"), Some("0")), None);
        assert_eq!(caller(true, Some("4294967295"), Some("0")), None);
        assert_eq!(caller(true, Some("me"), Some("0")), None);
    }
}
