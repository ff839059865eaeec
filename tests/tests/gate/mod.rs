//! Verbs of the gate's journeys: who asks for what, and what the gate says.
#![allow(dead_code, reason = "each journey uses its part of the verbs")]

mod removal;
pub mod replicas;
mod setting;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use contract::{
    OrganizationId, Owner, Quota, Slug,
    baseline::{self, PlatformPeer, PodSecurity, Tenant},
    names,
};
use serde::Serialize;
use serde_json::{Value, json};
use tests::{kubectl::Kubectl, platform::Platform};
use uuid::Uuid;

/// What the gate's entries are called in refusals.
pub const POD_GATE: &str = "admission webhook \"pods.gate.agent-ready.io\" denied the request";
/// The label guard's entry.
pub const LABEL_GUARD: &str = "admission webhook \"namespaces.guard.agent-ready.io\" denied the request";
/// The baseline guard's entry.
pub const BASELINE_GUARD: &str = "admission webhook \"baseline.guard.agent-ready.io\" denied the request";
/// The injection's entry.
pub const INJECTION: &str = "admission webhook \"pods.inject.agent-ready.io\" denied the request";
/// The webhook where pods run.
pub const DEPLOYMENT: &str = "deployment/webhook --namespace=agent-ready-system";
/// How long a controller may take to do its part.
const PATIENCE: Duration = Duration::from_secs(30);

/// The platform with the gate on it.
pub struct Gate {
    pub platform: &'static Platform,
    pub admin: Actor,
    pub break_glass: Actor,
    pub provisioner: Actor,
    /// Whom the tenants' namespaces belong to, by Kubernetes' own role `admin`.
    pub owner: Actor,
}

/// The owner of every tenant here.
pub const OWNER: &str = "ann@acme.example";

/// Someone with a kubectl.
pub struct Actor {
    kubectl: Kubectl,
    extra: Vec<String>,
}

impl Gate {
    pub async fn shared() -> Result<Self> {
        let platform = Platform::shared().await?;
        let admin = platform.kubectl_command();
        let groups = ["--as=ops", "--as-group=agent-ready:break-glass", "--as-group=system:masters"];
        let owner = format!("--as=agent-ready:{OWNER}");
        Ok(Self {
            platform,
            owner: Actor { kubectl: admin.clone(), extra: vec![owner] },
            break_glass: Actor { kubectl: admin.clone(), extra: groups.map(str::to_owned).to_vec() },
            admin: Actor { kubectl: admin, extra: Vec::new() },
            provisioner: Actor::account(platform, "provisioner").await?,
        })
    }

    /// A fresh namespace, made by the administrator.
    pub async fn namespace(&self) -> Result<String> {
        let name = fresh("gate-");
        self.admin.may(&format!("create namespace {name}"), "").await?;
        Ok(name)
    }

    /// A tenant's namespace with its whole baseline in force, not labelled ready.
    pub async fn baseline(&self) -> Result<String> {
        let (name, manifest) = Self::tenant()?;
        let (namespace, children) = manifest;
        self.provisioner.may("create -f -", &namespace).await?;
        self.provisioner.may("apply --server-side -f -", &children).await?;
        self.quota_is_enforced(&name).await?;
        Ok(name)
    }

    /// A tenant's namespace that is ready.
    pub async fn ready(&self) -> Result<String> {
        let name = self.baseline().await?;
        self.provisioner.may(&format!("label namespace {name} {}=true", names::GATE_LABEL), "").await?;
        // The apiserver's selector lags behind the label.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(name)
    }

    /// Name, and manifests of the namespace and of what lies in it.
    pub fn tenant() -> Result<(String, (String, String))> {
        let tenant = Tenant {
            organization: OrganizationId(Uuid::new_v4()),
            slug: Slug::from_name(&fresh("gate-"))?,
            owner: Owner::from_email("agent-ready:", OWNER)?,
            quota: Quota::default(),
            operation: Uuid::new_v4(),
            pod_security: PodSecurity::default(),
        };
        let name = tenant.namespace();
        let children = [
            manifest(&baseline::resource_quota(&tenant))?,
            manifest(&baseline::limit_range(&name))?,
            manifest(&baseline::default_deny(&name))?,
            manifest(&baseline::allow_platform(&name, &[PlatformPeer::egress("10.0.0.1/32", &[6432])?]))?,
            manifest(&baseline::owner_binding(&tenant))?,
        ];
        let children = children.map(|child| child.to_string()).join("\n---\n");
        Ok((name, (manifest(&baseline::namespace(&tenant))?.to_string(), children)))
    }

    /// Waits until the controller manager has filled the quota's status, and the default ServiceAccount is there.
    pub async fn quota_is_enforced(&self, namespace: &str) -> Result<()> {
        let wait = format!("--timeout={}s", PATIENCE.as_secs());
        for what in [
            "wait resourcequota/tenant-quota --for=jsonpath={.status.used.limits\\.cpu}",
            "wait serviceaccount/default --for=create",
        ] {
            self.admin.may(&format!("{what} --namespace={namespace} {wait}"), "").await?;
        }
        Ok(())
    }

    /// Removes a journey's namespaces, without waiting for their end.
    pub async fn delete(&self, namespaces: &[&str]) -> Result<()> {
        self.admin.may(&format!("delete namespace --wait=false {}", namespaces.join(" ")), "").await.map(drop)
    }
}

impl Actor {
    /// Someone with every right whom the apiserver knows by this name.
    pub fn named(&self, user: &str) -> Self {
        let extra = vec![format!("--as={user}"), "--as-group=system:masters".to_owned()];
        Self { kubectl: self.kubectl.clone(), extra }
    }

    /// One of our service accounts, with its own token and rights.
    pub async fn account(platform: &Platform, name: &str) -> Result<Self> {
        let namespace = format!("--namespace={}", names::SYSTEM_NAMESPACE);
        let token = platform.kubectl(&["create", "token", name, &namespace]).await?.success()?;
        let kubeconfig = platform.write_kubeconfig(&fresh(name), token.trim())?;
        Ok(Self { kubectl: platform.kubectl_command().with(kubeconfig), extra: Vec::new() })
    }

    /// Asks, whatever the answer.
    pub async fn ask(&self, command: &str, input: &str) -> Result<tests::process::Output> {
        let extra = self.extra.iter().map(String::as_str);
        let words: Vec<&str> = command.split(' ').chain(extra).collect();
        self.kubectl.feed(&words, input).await
    }

    /// Asks, is let, and says what kubectl printed, warnings included.
    pub async fn may(&self, command: &str, input: &str) -> Result<String> {
        let output = self.ask(command, input).await?;
        ensure!(output.code == 0, "{command} was refused: {}\n{input}", output.stderr);
        Ok(output.stdout + &output.stderr)
    }

    /// Asks, is refused by this entry, and says what kubectl printed.
    pub async fn may_not(&self, entry: &str, command: &str, input: &str) -> Result<String> {
        let output = self.ask(command, input).await?;
        ensure!(output.code != 0, "{command} was let through\n{input}");
        ensure!(
            output.stderr.contains(entry),
            "{command} was not refused by the gate: {}\n{input}",
            output.stderr
        );
        Ok(output.stderr)
    }

    /// Reads an object.
    pub async fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.may(&format!("get {what} -o json"), "").await?)?)
    }
}

/// Waits until `seen` says something.
pub async fn eventually<T>(what: &str, mut seen: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = seen().await? {
            return Ok(value);
        }
        if started.elapsed() > PATIENCE {
            bail!("{what} did not happen within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A name that no other journey uses.
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", &Uuid::new_v4().simple().to_string()[..12])
}

/// The object as a manifest.
pub fn manifest(object: &impl Serialize) -> Result<Value> {
    serde_json::to_value(object).context("a manifest")
}

/// A pod that any cluster could run, if its image were there.
pub fn pod(metadata: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "localhost/agent-ready/probe:local", "args": ["sleep"],
            "imagePullPolicy": "Never"}]},
    })
}
