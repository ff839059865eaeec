//! A tenant made by the provisioner's API, and its pods on a real node.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::api::{Api, Owned};
use crate::configured::{SERVICE, View};
use crate::kubectl::Kubectl;
use crate::platform::Platform;

/// The image of the apps.
const IMAGE: &str = "localhost/agent-ready/probe:local";
/// How long a pod may take for what is waited for.
const LIMIT: &str = "--timeout=120s";

/// A tenant whose pods run.
pub struct Inhabited {
    kubectl: Kubectl,
    owned: Owned,
    /// Its namespace.
    pub namespace: String,
}

/// The way to a pod's localhost; it ends with the value.
pub struct Forwarded {
    /// What the pod's app sees of its sidecar.
    pub view: View,
    _forward: Child,
}

impl Inhabited {
    /// Makes a tenant as a stranger does, and logs its owner in.
    pub async fn create(platform: &Platform) -> Result<Self> {
        let owned = Owned::create(&Api::at(platform.provisioner_url())?, "Pods").await?;
        Ok(Self { kubectl: platform.kubectl_command(), namespace: owned.namespace.clone(), owned })
    }

    /// Sets a value of [`SERVICE`] through the API; its new version.
    pub async fn put(&self, key: &str, value: Value) -> Result<u64> {
        self.owned.put(SERVICE, key, &value).await
    }

    /// Runs kubectl as administrator in the namespace; words are separated by spaces.
    pub async fn kubectl(&self, command: &str) -> Result<String> {
        self.feed(command, "").await
    }

    async fn feed(&self, command: &str, input: &str) -> Result<String> {
        let words: Vec<&str> =
            ["--namespace", &self.namespace].into_iter().chain(command.split(' ')).collect();
        self.kubectl.feed(&words, input).await?.success().with_context(|| format!("kubectl {command}"))
    }

    /// Creates an object.
    pub async fn make(&self, manifest: &Value) -> Result<()> {
        self.feed("create -f -", &manifest.to_string()).await.map(drop)
    }

    /// Creates a pod and waits until it is ready.
    pub async fn run(&self, pod: &Value) -> Result<()> {
        self.make(pod).await?;
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        self.wait(&format!("pod/{name} --for=condition=Ready")).await
    }

    /// Waits for what `kubectl wait` is told; says how the pods are when it does not come.
    pub async fn wait(&self, what: &str) -> Result<()> {
        if let Err(error) = self.kubectl(&format!("wait {what} {LIMIT}")).await {
            return Err(error.context(self.kubectl("describe pods").await?));
        }
        Ok(())
    }

    /// Reads a pod.
    pub async fn pod(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&format!("get pod {name} -o json")).await?)?)
    }

    /// What the pod's app reads at a path of its sidecar, from inside its container.
    pub async fn read(&self, pod: &str, path: &str) -> Result<Value> {
        let command = format!("exec {pod} -c app -- /probe get http://127.0.0.1:7070{path}");
        Ok(serde_json::from_str(&self.kubectl(&command).await?)?)
    }

    /// The value and the version of a key of [`SERVICE`] that the pod's app reads.
    pub async fn value(&self, pod: &str, key: &str) -> Result<(Value, u64)> {
        let mut read = self.read(pod, &format!("/v1/config/{SERVICE}/{key}")).await?;
        let version = read["version"].as_u64().context("a version")?;
        Ok((read["value"].take(), version))
    }

    /// Opens a way to the pod's localhost: an `exec` for each read would be too slow to time anything with.
    pub async fn forward(&self, pod: &str) -> Result<Forwarded> {
        let (program, kubeconfig) = self.kubectl.parts();
        let mut command = Command::new(program);
        command.args(["--namespace", &self.namespace, "port-forward", "--address=127.0.0.1"]);
        command.arg(format!("pod/{pod}")).arg(":7070").env("KUBECONFIG", kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().context("forward a port")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let line = lines.next_line().await?.context("kubectl port-forward ended")?;
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
        let view = View::at(format!("http://{}", address.with_context(|| format!("no address in {line}"))?))?;
        // A line for every connection, and a pipe that nobody reads would fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Forwarded { view, _forward: child })
    }

    /// Removes the namespace, without waiting for its end.
    pub async fn end(&self) -> Result<()> {
        self.kubectl(&format!("delete namespace {} --wait=false", self.namespace)).await.map(drop)
    }
}

/// A pod as a tenant writes it: it knows nothing of the sidecar.
pub fn pod(name: &str, arguments: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                { "name": "app", "image": IMAGE, "imagePullPolicy": "Never", "args": arguments },
            ],
        },
    })
}

/// Runs a test with a tenant whose pods run, and removes the tenant whatever the test came to; where no pods run the
/// reason is printed and nothing is proved.
pub async fn with_pods(platform: &Platform, test: impl AsyncFnOnce(&Inhabited) -> Result<()>) -> Result<()> {
    if !platform.has_node() {
        eprintln!("NOT PROVED: no pods run here ({})", platform.no_node());
        return Ok(());
    }
    let tenant = Inhabited::create(platform).await?;
    let result = test(&tenant).await;
    tenant.end().await?;
    result
}
