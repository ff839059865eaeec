//! Namespaces of tests.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::kubectl::Kubectl;
use crate::platform::Platform;

/// A namespace of a test's own; deleted with the value, without waiting for its end.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    kubectl: Kubectl,
}

impl Namespace {
    /// Makes `<prefix>-<random>` with labels.
    pub async fn create(platform: &Platform, prefix: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{prefix}-{}", &random[..8]);
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
        let kubectl = platform.kubectl_command();
        let output = kubectl.feed(&["create", "-f", "-"], &object.to_string()).await?;
        output.success().with_context(|| format!("create namespace {name}"))?;
        Ok(Self { name, kubectl })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (program, kubeconfig) = self.kubectl.parts();
        let mut command = Command::new(program);
        command.args(["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
        command.env("KUBECONFIG", kubeconfig).stdout(Stdio::null()).stderr(Stdio::null());
        // A namespace that stays disturbs no other test.
        let _ = command.status();
    }
}
