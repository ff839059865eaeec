//! Kubeconfig files, complete in themselves and for their owner alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::{Issued, write_secret};

/// Who a kubeconfig makes its user.
pub enum Credential<'a> {
    /// A client certificate's subject.
    Certificate(&'a Issued),
    /// The account of a bearer token.
    Token(&'a str),
}

/// Writes a kubeconfig.
pub fn write(path: &Path, server: &str, ca_file: &Path, credential: &Credential) -> Result<PathBuf> {
    let ca = fs::read(ca_file).with_context(|| format!("read {}", ca_file.display()))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write_secret(path, &serde_json::to_string_pretty(&content(server, &ca, credential))?)?;
    Ok(path.to_owned())
}

fn content(server: &str, ca: &[u8], credential: &Credential) -> Value {
    let user = match credential {
        Credential::Certificate(issued) => json!({
            "client-certificate-data": STANDARD.encode(&issued.certificate),
            "client-key-data": STANDARD.encode(&issued.key),
        }),
        Credential::Token(token) => json!({ "token": token }),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "agent-ready",
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(ca) },
        }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "agent-ready", "context": { "cluster": "agent-ready", "user": "user" } }],
        "current-context": "agent-ready",
    })
}
