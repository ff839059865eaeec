//! Faults that strike the webhook's pods, its certificates, its registration and the apiserver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::{Load, Outcome};
use crate::cluster::node;
use crate::platform::Platform;
use crate::process::Ready;

const NAMESPACE: &str = "--namespace=agent-ready-system";
const PODS: &str = "--selector=app.kubernetes.io/name=webhook";
const GATE: &str = "validatingwebhookconfiguration/agent-ready-gate";
/// How long a replica is stopped.
const FREEZE: Duration = Duration::from_secs(5);
/// So often a replica is killed alone; after that it goes with its pod.
const RESTARTS_MAX: u64 = 2;
/// How long anything may take to be right again.
const PATIENCE: Duration = Duration::from_mins(2);

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to one replica.
    Kill,
    /// SIGSTOP to one replica for 5 s.
    Freeze,
    /// A rolling update of all.
    RollingUpdate,
    /// A new serving certificate.
    Leaf,
    /// A new authority, with overlap.
    Authority,
    /// The gate's registration is deleted.
    Deleted,
    /// The gate's registration is edited so that it lets everything in.
    Edited,
    /// The apiserver ends and starts again.
    Apiserver,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Kill,
        Self::Freeze,
        Self::RollingUpdate,
        Self::Leaf,
        Self::Authority,
        Self::Deleted,
        Self::Edited,
        Self::Apiserver,
    ];
}

/// A replica that runs.
struct Replica {
    pod: String,
    container: String,
    restarts: u64,
}

/// The webhook's Deployment on a platform with a node.
pub struct Webhook<'a> {
    platform: &'a Platform,
}

impl<'a> Webhook<'a> {
    /// On this platform.
    pub fn on(platform: &'a Platform) -> Self {
        Self { platform }
    }

    /// Runs kubectl; words are separated by spaces.
    async fn kubectl(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.platform.kubectl(&words).await?.success().with_context(|| format!("kubectl {command}"))
    }

    async fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&format!("get {what} --output=json")).await?)?)
    }

    /// Changes the number of replicas and the environment (`KEY=value`, or `KEY-` to remove), and waits for the rollout.
    pub async fn set(&self, replicas: u32, environment: &str) -> Result<()> {
        self.kubectl(&format!("set env deployment/webhook {NAMESPACE} {environment}")).await?;
        self.kubectl(&format!("scale deployment/webhook {NAMESPACE} --replicas={replicas}")).await?;
        self.rolled_out().await?;
        self.settled(replicas).await
    }

    /// Waits until there are so many replicas and none that leaves: those look after certificates and registration with
    /// their settings, and answer, until they are told.
    pub async fn settled(&self, replicas: u32) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.get(&format!("pods {NAMESPACE} {PODS}")).await?["items"].as_array().map(Vec::len)
            != Some(replicas as usize)
        {
            if Instant::now() > end {
                bail!("the replicas before do not go")
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Replaces every replica, one after another.
    pub async fn roll(&self) -> Result<()> {
        self.kubectl(&format!("rollout restart deployment/webhook {NAMESPACE}")).await?;
        self.rolled_out().await
    }

    /// SIGKILL to one replica. One that was killed before goes with its pod: the kubelet would have it wait for longer each
    /// time, for minutes at last, and what is tested is the gate and not that wait.
    pub async fn kill_one(&self, random: &mut StdRng) -> Result<()> {
        let running = self.running().await?;
        let Some(replica) = running.choose(random) else { return Ok(()) };
        // It may have ended by itself, in a rolling update.
        let _ = self.signal_container(&replica.container, "SIGKILL").await;
        if replica.restarts >= RESTARTS_MAX {
            let delete =
                format!("delete pod/{} {NAMESPACE} --force --grace-period=0 --ignore-not-found", replica.pod);
            self.kubectl(&delete).await?;
        }
        Ok(())
    }

    /// Waits until every replica is there and ready.
    pub async fn rolled_out(&self) -> Result<()> {
        self.kubectl(&format!("rollout status deployment/webhook {NAMESPACE} --timeout=180s")).await.map(drop)
    }

    /// Strikes, and returns when the fault itself is over.
    pub async fn strike(&self, fault: Fault, load: &Load, random: &mut StdRng) -> Result<()> {
        match fault {
            Fault::Kill => self.kill_one(random).await,
            Fault::Freeze => {
                let Some(container) = self.signal("SIGSTOP", random).await? else { return Ok(()) };
                tokio::time::sleep(FREEZE).await;
                // It may have been replaced meanwhile.
                let _ = self.signal_container(&container, "SIGCONT").await;
                Ok(())
            }
            Fault::RollingUpdate => self.roll().await,
            Fault::Leaf => self.empty("tls.crt").await,
            Fault::Authority => self.empty("ca.key").await,
            Fault::Deleted | Fault::Edited => self.unregister(fault, load, random).await,
            Fault::Apiserver => self.restart_apiserver(load, random).await,
        }
    }

    /// Empties a key of the certificates' Secret, which makes a replica replace what belongs to it.
    pub async fn empty(&self, key: &str) -> Result<()> {
        let patch = json!({"data": {key: ""}});
        self.kubectl(&format!("patch secret/webhook-tls {NAMESPACE} --patch={patch}")).await.map(drop)
    }

    async fn running(&self) -> Result<Vec<Replica>> {
        let pods = self.get(&format!("pods {NAMESPACE} {PODS}")).await?;
        let running = pods["items"].as_array().into_iter().flatten().filter_map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let container = status["containerID"].as_str()?.strip_prefix("containerd://")?.to_owned();
            let pod = pod["metadata"]["name"].as_str()?.to_owned();
            let restarts = status["restartCount"].as_u64().unwrap_or_default();
            status["state"]["running"].is_object().then_some(Replica { pod, container, restarts })
        });
        Ok(running.collect())
    }

    async fn signal(&self, signal: &str, random: &mut StdRng) -> Result<Option<String>> {
        let running = self.running().await?;
        let Some(replica) = running.choose(random) else { return Ok(None) };
        // It may have ended by itself, in a rolling update.
        let hit = self.signal_container(&replica.container, signal).await.is_ok();
        Ok(hit.then(|| replica.container.clone()))
    }

    async fn signal_container(&self, container: &str, signal: &str) -> Result<()> {
        let arguments = ["tasks", "kill", "--signal", signal, container];
        node::ctr(self.platform.host(), &arguments).await.map(drop)
    }

    /// Installs the policies that lock without the webhook, or removes them, and waits until the apiserver does so.
    ///
    /// They stand only while the registration is struck: a policy refuses before the webhook is asked, and the load on the
    /// webhook would be none.
    async fn second_lock(&self, load: &Load, install: bool) -> Result<()> {
        let file = crate::workspace::root().join("manifests/components/second-lock/policies.yaml");
        let file = file.to_string_lossy();
        let command =
            if install { "apply --server-side --force-conflicts" } else { "delete --ignore-not-found" };
        self.kubectl(&format!("{command} -f {file}")).await?;
        let counted = || load.report.of(Outcome::SecondLock);
        let (end, mut before) = (Instant::now() + PATIENCE, counted());
        loop {
            // Longer than a lane's turn: what is refused now says what holds now.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let now = counted();
            if (now > before) == install {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the second lock does not follow its manifest (install: {install})")
            }
            before = now;
        }
    }

    async fn unregister(&self, fault: Fault, load: &Load, random: &mut StdRng) -> Result<()> {
        let edits = [
            json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
            json!([{"op": "add", "path": "/webhooks/0/matchConditions", "value": [{"name": "no", "expression": "false"}]}]),
            json!([{"op": "remove", "path": "/webhooks"}]),
            json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": null}]),
        ];
        let edit = &edits[random.random_range(0..edits.len())];
        self.second_lock(load, true).await?;
        let outcome = async {
            let before = entries(&self.get(GATE).await?);
            if fault == Fault::Deleted {
                self.kubectl(&format!("delete {GATE}")).await?;
            } else {
                self.kubectl(&format!("patch {GATE} --type=json --patch={edit}")).await?;
            }
            let end = Instant::now() + PATIENCE;
            while self.get(GATE).await.map_or(Value::Null, |object| entries(&object)) != before {
                if Instant::now() > end {
                    bail!("the registration was not put right within {PATIENCE:?}")
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // The apiserver has seen it a moment later.
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
        .await;
        outcome.and(self.second_lock(load, false).await)
    }

    async fn restart_apiserver(&self, load: &Load, random: &mut StdRng) -> Result<()> {
        let apiserver = self.platform.component("kube-apiserver");
        load.state.set_down(true);
        let stop = if random.random() { apiserver.stop().await } else { apiserver.kill().await };
        let ready =
            Ready::Http(format!("{}/readyz", crate::cluster::control_plane::server(self.platform.host())));
        let start = apiserver.start_ready(&ready, PATIENCE).await;
        load.state.set_down(false);
        stop.and(start)
    }
}

/// A configuration's entries. Of the caBundle only that there is one: an authority may be being replaced meanwhile.
fn entries(configuration: &Value) -> Value {
    let mut entries = configuration["webhooks"].clone();
    for entry in entries.as_array_mut().into_iter().flatten() {
        let bundle = &mut entry["clientConfig"]["caBundle"];
        *bundle = bundle.is_string().into();
    }
    entries
}
