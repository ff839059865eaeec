//! T4: tenants' pods reach the platform through `allow-platform`, and nothing else.
//!
//! The local node's bridge network enforces no NetworkPolicy, so there the content alone is proved, and the test says
//! so; where the cluster enforces (kind), the effect is proved too.

use anyhow::{Context as _, Result, ensure};
use contract::baseline::{PlatformPeer, is_allow_platform};
use contract::names;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use serde_json::json;
use tests::Platform;
use tests::api::{self, Wanted};
use tests::deploy::settings;

const IMAGE: &str = "localhost/agent-ready/probe:local";

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_the_settings_say_and_no_more() -> Result<()> {
    let platform = Platform::shared().await?;
    let wanted = Wanted::fresh("t4");
    api::Api::at(platform.provisioner_url())?.create(&wanted, None).await?.expect(201)?;
    let namespace = wanted.namespace()?;

    let peers = settings::provisioner(platform).remove("PLATFORM_PEERS").context("peers are a setting")?;
    let peers: Vec<PlatformPeer> = serde_json::from_str(&peers)?;
    let policies: Api<NetworkPolicy> = Api::namespaced(platform.client().await?, &namespace);
    let policy = policies.get(names::ALLOW_PLATFORM_NAME).await?;
    ensure!(is_allow_platform(&policy, &peers), "the policy is not of the settings: {policy:?}");
    let listed = policies.list(&kube::api::ListParams::default()).await?;
    ensure!(listed.items.len() == 2, "there are other policies beside it");

    if platform.has_node() {
        effect(platform, &namespace).await?;
    } else {
        eprintln!("no node: no pod can show the effect");
    }
    let delete = ["delete", "namespace", &namespace, "--wait=false"];
    platform.kubectl(&delete).await?.success().map(drop)
}

/// A pod's sidecar reaches PostgreSQL and Redis, so that the pod becomes Ready; a neighbour of the same tenant, which
/// no policy lets in, is reached only where the cluster does not enforce.
async fn effect(platform: &Platform, namespace: &str) -> Result<()> {
    for name in ["a", "b"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1,
                "containers": [{"name": "app", "image": IMAGE, "args": ["sleep"], "imagePullPolicy": "IfNotPresent"}]},
        });
        let create = ["create", "--namespace", namespace, "-f", "-"];
        platform.kubectl_command().feed(&create, &pod.to_string()).await?.success()?;
    }
    let wait = ["wait", "--namespace", namespace, "--for=condition=Ready", "pod/a", "pod/b", "--timeout=60s"];
    platform.kubectl(&wait).await?.success().context("a sidecar does not reach the platform")?;

    let address = ["get", "pod", "b", "--namespace", namespace, "--output=jsonpath={.status.podIP}"];
    let address = platform.kubectl(&address).await?.success()?;
    let url = format!("http://{}:{}/healthz", address.trim(), names::PROBE_PORT);
    let ask = ["exec", "a", "--namespace", namespace, "--container=app", "--", "/probe", "get", &url];
    let reached = platform.kubectl(&ask).await?.code == 0;
    if platform.enforces_network_policies() {
        ensure!(!reached, "a pod reached its neighbour against default-deny");
    } else {
        ensure!(reached, "the bridge network is said to enforce nothing, yet the neighbour was not reached");
        eprintln!(
            "this cluster's network enforces no NetworkPolicy: content proved, effect to be proved on kind"
        );
    }
    Ok(())
}
