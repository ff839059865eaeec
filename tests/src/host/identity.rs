//! What a platform is called in the kernel.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Names derived from the state folder's path: a lost folder's things are still found, and a copy of a folder
/// never claims those of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Eight hexadecimal digits.
    pub id: String,
}

impl Identity {
    /// The identity of the platform in `state`, an absolute path without links.
    pub fn of(state: &Path) -> Self {
        let digest = Sha256::digest(state.as_os_str().as_bytes());
        let id = digest.iter().take(4).fold(String::new(), |id, byte| format!("{id}{byte:02x}"));
        Self { id }
    }

    /// The machine's end of the veth pair (at most 15 bytes).
    pub fn link(&self) -> String {
        format!("ar-{}", self.id)
    }

    /// The cgroup below which the kubelet keeps its pods.
    pub fn cgroup(&self) -> String {
        format!("agent-ready-{}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_have_two_names_that_fit_the_kernel() {
        let (one, two) = (Identity::of(Path::new("/a/.local/up")), Identity::of(Path::new("/a/.local/test")));
        assert_ne!(one, two);
        assert_eq!(one, Identity::of(Path::new("/a/.local/up")));
        assert_eq!(one.link().len(), 11);
    }
}
