//! Who calls and what they may do: passwords, signing keys, access tokens, roles, login.
//!
//! Users are global, memberships are per organization, and a token is for one organization. [`permissions`] and the
//! functions of [`token`] are pure; only [`login`], the loader of [`keys`] and the counters of [`throttle`] touch the outside.

pub mod keys;
pub mod login;
pub mod password;
pub mod permissions;
pub mod throttle;
pub mod token;

use std::{path::Path, sync::Arc};

pub use keys::{KeyError, SigningKeys};
pub use password::Passwords;
pub use permissions::{Permission, Role};
pub use throttle::LoginLimits;
pub use token::{Claims, TokenError, Tokens};

/// What the program knows about identity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Issues and verifies access tokens.
    pub tokens: Tokens,
    /// How many failed logins are too many.
    pub limits: LoginLimits,
}

impl Identity {
    /// Reads the signing keys; `issuer` is the provisioner's public URL.
    pub fn load(signing_keys: &Path, issuer: &str, limits: LoginLimits) -> Result<Self, KeyError> {
        let keys = Arc::new(SigningKeys::load(signing_keys)?);
        Ok(Self { passwords: Passwords::default(), tokens: Tokens::new(keys, issuer), limits })
    }

    /// Follows the keys' directory until `stop`.
    pub async fn follow(&self, stop: tokio_util::sync::CancellationToken) {
        Arc::clone(self.tokens.keys()).follow(stop).await;
    }
}
