//! The identity that a linker gave to an object file.

use std::fmt;

use thiserror::Error;

/// The most bytes a build ID has. The kernel ignores longer ones, and so does this program.
const MAX_LEN: usize = 20;

/// Bytes that cannot be a build ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a build ID has 1 to {MAX_LEN} bytes, not {0}")]
pub struct BuildIdError(usize);

/// A build ID of 1 to 20 bytes. Equal ones name the same build of the same file, unless somebody
/// forged one: it is a hint at identity, and nothing that is trusted may depend on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId {
    // Zero behind the end, so that the derived comparisons hold.
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl BuildId {
    /// Takes the bytes.
    ///
    /// # Errors
    /// If there are none or more than 20.
    pub fn new(id: &[u8]) -> Result<Self, BuildIdError> {
        if id.is_empty() || id.len() > MAX_LEN {
            return Err(BuildIdError(id.len()));
        }
        let mut bytes = [0; MAX_LEN];
        bytes[..id.len()].copy_from_slice(id);
        Ok(Self {
            bytes,
            len: id.len() as u8,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_apart_and_bounded() {
        assert_ne!(BuildId::new(&[1]).unwrap(), BuildId::new(&[1, 0]).unwrap());
        assert_eq!(BuildId::new(&[1, 0xab]).unwrap().to_string(), "01ab");
        assert!(BuildId::new(&[]).is_err());
        assert!(BuildId::new(&[7; 20]).is_ok());
        assert!(BuildId::new(&[7; 21]).is_err());
    }
}
