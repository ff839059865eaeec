//! How much configuration one organization may have. Each of its pods holds all of it in a sidecar of 64 MiB, and the
//! sidecar's warm load reads all of it at once.
//!
//! What it has is kept in its row and held against the limits by the SQL function that writes, under the row lock: see the
//! migration `0012_config_usage`.

use super::{ConfigError, NO_ROOM, detail, has_code};

/// Limits of one organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most keys that have a value.
    pub keys: i64,
    /// Most bytes: names and values as JSON text, and 256 for each key that was ever used; a deleted key keeps its name.
    pub bytes: i64,
}

impl Capacity {
    /// The error of a write under these limits.
    pub(super) fn refusal(self, error: sqlx::Error) -> ConfigError {
        if !has_code(&error, NO_ROOM) {
            return error.into();
        }
        match detail(&error).and_then(|detail| detail.parse().ok()) {
            Some(needed) => ConfigError::TooManyBytes { most: self.bytes, needed },
            None => ConfigError::TooManyKeys { most: self.keys },
        }
    }
}
