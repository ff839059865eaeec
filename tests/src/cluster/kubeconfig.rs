//! Kubeconfig files, complete in themselves and for their owner alone.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::{Issued, write_secret};

/// Writes a kubeconfig for the subject of a client certificate.
pub fn write(path: &Path, server: &str, ca_file: &Path, user: &Issued) -> Result<()> {
    let ca = fs::read(ca_file).with_context(|| format!("read {}", ca_file.display()))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let user = json!({
        "client-certificate-data": STANDARD.encode(&user.certificate),
        "client-key-data": STANDARD.encode(&user.key),
    });
    write_secret(path, &serde_json::to_string_pretty(&content(server, &ca, &user))?)
}

/// Writes a kubeconfig for the same cluster as `other`'s and the bearer of a token.
pub fn with_token(other: &Path, path: &Path, token: &str) -> Result<()> {
    let text = fs::read_to_string(other).with_context(|| format!("read {}", other.display()))?;
    let mut content: Value = serde_json::from_str(&text)?;
    let user = content["users"][0]["user"].as_object_mut().context("a kubeconfig without user")?;
    user.clear();
    user.insert("token".to_owned(), json!(token));
    write_secret(path, &serde_json::to_string_pretty(&content)?)
}

fn content(server: &str, ca: &[u8], user: &Value) -> Value {
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
