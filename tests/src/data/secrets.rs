//! The passwords of a platform's own logins: generated once, kept in its state folder.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::pki::write_secret;

const FILE: &str = "data-secrets.json";

/// One password a login.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    pub superuser: String,
    pub migrator: String,
    pub platform: String,
    pub service: String,
    pub pooler: String,
    pub redis_publisher: String,
    pub redis_acl_admin: String,
    pub redis_observer: String,
}

impl Secrets {
    /// Reads those of the state folder, or generates them.
    pub fn create(state: &Path) -> Result<Self> {
        if state.join(FILE).exists() {
            return Self::read(state);
        }
        let secrets = Self {
            superuser: generate(),
            migrator: generate(),
            platform: generate(),
            service: generate(),
            pooler: generate(),
            redis_publisher: generate(),
            redis_acl_admin: generate(),
            redis_observer: generate(),
        };
        write_secret(&state.join(FILE), &serde_json::to_string_pretty(&secrets)?)?;
        Ok(secrets)
    }

    /// Reads those of the state folder.
    pub fn read(state: &Path) -> Result<Self> {
        let text = fs::read_to_string(state.join(FILE)).context("read the passwords of the data services")?;
        serde_json::from_str(&text).context("read the passwords of the data services")
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}

/// 244 random bits in letters and digits, which URLs, SQL and configuration files take as they are.
fn generate() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
