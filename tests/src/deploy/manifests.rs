//! The objects of `manifests/overlays/local`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;

use crate::platform::Platform;

/// All of them, the namespace first.
pub fn local(platform: &Platform) -> Result<Vec<Value>> {
    let folder = crate::workspace::root().join("manifests/overlays/local");
    let output =
        Command::new(platform.host().state().join("bin/kubectl")).arg("kustomize").arg(&folder).output();
    let output = output.context("run kubectl kustomize")?;
    if !output.status.success() {
        bail!("kubectl kustomize {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr))
    }
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_slice(&output.stdout) {
        objects.push(Value::deserialize(document).context("read the output of kustomize")?);
    }
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    Ok(objects)
}
