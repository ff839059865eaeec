//! The objects of `manifests/overlays/local`, of this version and of the one before.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;

use crate::platform::Platform;

/// All of them of the checkout in `root`, the namespace first.
pub fn local(platform: &Platform, root: &Path) -> Result<Vec<Value>> {
    let folder = root.join("manifests/overlays/local");
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

/// Puts the manifests of the commit before this one into `folder`; false in a checkout without history.
pub fn before(folder: &Path) -> Result<bool> {
    let mut command = Command::new("git");
    command.arg("-C").arg(crate::workspace::root()).args(["archive", "--format=tar", "HEAD~1", "manifests"]);
    let Ok(output) = command.output() else { return Ok(false) };
    if output.status.success() {
        tar::Archive::new(output.stdout.as_slice()).unpack(folder).context("unpack the manifests before")?;
    }
    Ok(output.status.success())
}
