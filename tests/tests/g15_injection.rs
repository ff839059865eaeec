//! G15: the config sidecar in tenants' pods, as the apiserver would store them.

mod gate;

use anyhow::{Result, ensure};
use contract::names;
use gate::{Gate, INJECTION, eventually, pod};
use serde_json::{Value, json};

struct Journey {
    gate: Gate,
    namespace: String,
}

impl Journey {
    async fn start() -> Result<Self> {
        let gate = Gate::shared().await?;
        let namespace = gate.ready().await?;
        Ok(Self { gate, namespace })
    }

    async fn end(self) -> Result<()> {
        self.gate.delete(&[&self.namespace]).await
    }

    fn command(&self) -> String {
        format!("create -f - --dry-run=server -o json --namespace={}", self.namespace)
    }

    /// The pod as it would be stored, and the warnings.
    async fn stored(&self, pod: &Value) -> Result<(Value, String)> {
        let printed = self.gate.admin.may(&self.command(), &pod.to_string()).await?;
        let mut stream = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
        let stored = stream.next().transpose()?.unwrap_or_default();
        let warnings = printed.get(stream.byte_offset()..).unwrap_or_default().trim().to_owned();
        Ok((stored, warnings))
    }

    async fn refused(&self, pod: &Value) -> Result<String> {
        self.gate.admin.may_not(INJECTION, &self.command(), &pod.to_string()).await
    }
}

fn app() -> Value {
    pod(&json!({"generateName": "app-"}))
}

fn annotated(key: &str, value: &str) -> Value {
    pod(&json!({"generateName": "app-", "annotations": {key: value}}))
}

fn sidecar(pod: &Value) -> &Value {
    let first = &pod["spec"]["initContainers"][0];
    if first["name"] == names::SIDECAR_CONTAINER { first } else { &Value::Null }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_the_sidecar_first_with_its_address_and_no_api_token() -> Result<()> {
    let journey = Journey::start().await?;
    let mut pod = app();
    pod["spec"]["initContainers"] = json!([{"name": "first", "image": "a"}]);
    let (stored, _) = journey.stored(&pod).await?;
    let sidecar = sidecar(&stored);
    ensure!(sidecar["restartPolicy"] == "Always", "{stored}");
    ensure!(sidecar["startupProbe"]["httpGet"]["path"] == "/readyz", "{sidecar}");
    for container in [&stored["spec"]["containers"][0], &stored["spec"]["initContainers"][1]] {
        let variable = json!({"name": names::CONFIG_URL_ENV, "value": names::CONFIG_URL});
        ensure!(container["env"].as_array().is_some_and(|env| env.contains(&variable)), "{container}");
    }
    let token = |container: &Value| {
        container["volumeMounts"].as_array().into_iter().flatten().any(|mount| {
            mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
                && mount["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access"))
        })
    };
    ensure!(token(&stored["spec"]["containers"][0]), "the app keeps its token: {stored}");
    ensure!(!token(sidecar), "the sidecar has an API token: {sidecar}");
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_twice_gives_the_same_pod() -> Result<()> {
    let journey = Journey::start().await?;
    let (once, _) = journey.stored(&app()).await?;
    let again = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": once["spec"]});
    let (twice, _) = journey.stored(&again).await?;
    ensure!(twice["spec"] == once["spec"], "once {once}\ntwice {twice}");
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_restricted_and_fits_a_quota_with_little_left() -> Result<()> {
    let journey = Journey::start().await?;
    let namespace = &journey.namespace;
    let restrict =
        format!("label namespace {namespace} pod-security.kubernetes.io/enforce=restricted --overwrite");
    journey.gate.provisioner.may(&restrict, "").await?;
    let mut strict = app();
    strict["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    strict["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    // All of the quota but what the sidecar asks for.
    let most = json!({"cpu": "9800m", "memory": "20416Mi"});
    strict["spec"]["containers"][0]["resources"] = json!({"requests": most, "limits": most});
    let (stored, warnings) = journey.stored(&strict).await?;
    ensure!(sidecar(&stored).is_object() && warnings.is_empty(), "{warnings}{stored}");
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_choose_start_and_opt_out() -> Result<()> {
    let journey = Journey::start().await?;
    let (go, _) = journey.stored(&annotated(names::START_ANNOTATION, "go")).await?;
    ensure!(sidecar(&go).is_object() && sidecar(&go)["startupProbe"].is_null(), "{go}");
    let (out, warnings) = journey.stored(&annotated(names::INJECT_LABEL, "disabled")).await?;
    ensure!(sidecar(&out).is_null() && !warnings.contains("agent-ready"), "{warnings}{out}");
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_carry_it_are_told_why() -> Result<()> {
    let journey = Journey::start().await?;
    let mut windows = app();
    windows["spec"]["os"] = json!({"name": "windows"});
    let (stored, warnings) = journey.stored(&windows).await?;
    ensure!(
        sidecar(&stored).is_null() && warnings.contains("it runs on Linux, the pod on Windows"),
        "{warnings}"
    );
    // Pod Security refuses the host's network in a tenant's namespace, so that a warning is all that can be seen of it.
    let mut host = app();
    host["spec"]["hostNetwork"] = json!(true);
    let refused = journey.gate.admin.may(&journey.command(), &host.to_string()).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("the host's network")), "host network");
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_of_our_name_is_refused() -> Result<()> {
    let journey = Journey::start().await?;
    let foreign = json!({"name": names::SIDECAR_CONTAINER, "image": "evil", "restartPolicy": "Always"});
    let mut init = app();
    init["spec"]["initContainers"] = json!([foreign]);
    let mut main = app();
    main["spec"]["containers"] = json!([{"name": names::SIDECAR_CONTAINER, "image": "evil"}]);
    for pod in [init, main] {
        let message = journey.refused(&pod).await?;
        ensure!(message.contains("is not the config sidecar") && message.contains("To do:"), "{message}");
    }
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_opts_in_by_its_label() -> Result<()> {
    let journey = Journey::start().await?;
    let label = format!("label namespace {} {}", journey.namespace, names::INJECT_LABEL);
    for (change, injected) in [("-", false), ("=enabled", true)] {
        journey.gate.provisioner.may(&format!("{label}{change}"), "").await?;
        // The apiserver's selector lags behind the label.
        eventually("pods are stored as the label says", async || {
            let (stored, _) = journey.stored(&app()).await?;
            Ok((sidecar(&stored).is_object() == injected).then_some(()))
        })
        .await?;
    }
    journey.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_no_tenants_get_nothing() -> Result<()> {
    let gate = Gate::shared().await?;
    let manifest = app().to_string();
    let printed =
        gate.admin.may("create -f - --dry-run=server -o json --namespace=kube-system", &manifest).await?;
    ensure!(!printed.contains(names::SIDECAR_CONTAINER), "{printed}");
    Ok(())
}
