//! G15: both carriers of the injection, the webhook and the policy of the API server, make the same pods and refuse the same.

mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gate::{Gate, eventually, fresh, manifest, pod};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tests::kubectl::Kubectl;

/// The policies in `manifests/`, as the webhook's program writes them.
const COMPONENT: &str = "manifests/components/injection-policy/policies.yaml";
/// Namespace label that the journey's policies go by, so that they are nobody else's.
const JOURNEY: &str = "journey.example/carrier";

/// Questions asked at once.
const AT_ONCE: usize = 6;

/// Two ready namespaces: one in which the webhook injects, one in which the policies do.
struct Carriers {
    gate: Gate,
    kubectl: Kubectl,
    webhook: String,
    policy: String,
    policies: String,
}

impl Carriers {
    async fn start() -> Result<Self> {
        let gate = Gate::shared().await?;
        let (webhook, policy) = (gate.ready().await?, gate.ready().await?);
        let name = fresh("carrier-");
        let label = format!("label namespace {policy} {}- {JOURNEY}={name}", names::INJECT_LABEL);
        gate.provisioner.may(&label, "").await?;
        let policies = policies(&name)?;
        gate.admin.may("apply -f -", &policies).await?;
        let kubectl = gate.platform.kubectl_command();
        let carriers = Self { gate, kubectl, webhook, policy, policies };
        eventually("the policy acts", async || {
            let stored = carriers.stored(&carriers.policy, &app()).await?;
            Ok((stored.is_ok_and(|pod| sidecars(&pod) == 1)).then_some(()))
        })
        .await?;
        Ok(carriers)
    }

    async fn end(self) -> Result<()> {
        self.gate.admin.may("delete -f -", &self.policies).await?;
        self.gate.delete(&[&self.webhook, &self.policy]).await
    }

    /// The pod as it would be stored, or why not.
    async fn stored(&self, namespace: &str, pod: &Value) -> Result<Result<Value, String>> {
        let namespace = format!("--namespace={namespace}");
        let create = ["create", "-f", "-", "--dry-run=server", "-o", "json", &namespace];
        let output = self.kubectl.feed(&create, &pod.to_string()).await?;
        if output.code != 0 {
            return Ok(Err(output.stderr));
        }
        let mut stored: Value = serde_json::from_str(&output.stdout)?;
        // The API token's volume has a name of chance.
        let volumes = stored["spec"]["volumes"].as_array().into_iter().flatten();
        let token =
            volumes.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with("kube-api-"));
        if let Some(token) = token.map(str::to_owned) {
            stored = serde_json::from_str(&stored.to_string().replace(&token, "token"))?;
        }
        Ok(Ok(stored))
    }

    /// Both carriers store the same, the order of lists included; a second admission changes nothing.
    async fn make_the_same(&self, what: &str, pod: &Value, sidecars: usize) -> Result<Value> {
        let mut specs = Vec::new();
        for namespace in [&self.webhook, &self.policy] {
            let once =
                self.stored(namespace, pod).await?.map_err(anyhow::Error::msg).context(what.to_owned())?;
            let mut again = json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]});
            again["spec"] = once["spec"].clone();
            let twice = self.stored(namespace, &again).await?.map_err(anyhow::Error::msg)?;
            ensure!(once["spec"] == twice["spec"], "{what}: {once}\ntwice: {twice}");
            ensure!(self::sidecars(&once) == sidecars, "{what}: {once}");
            specs.push((once["metadata"]["annotations"].clone(), once["spec"].clone()));
        }
        let (webhook, policy) = (&specs[0], &specs[1]);
        ensure!(webhook == policy, "{what}\nwebhook {}\npolicy  {}", webhook.1, policy.1);
        Ok(webhook.1.clone())
    }

    /// Both refuse, for these reasons.
    async fn refuse(&self, what: &str, pod: &Value, [webhook, policy]: [&str; 2]) -> Result<()> {
        for (namespace, why) in [(&self.webhook, webhook), (&self.policy, policy)] {
            match self.stored(namespace, pod).await? {
                Ok(stored) => anyhow::bail!("{what} was let in: {stored}"),
                Err(message) => ensure!(message.contains(why), "{what}: {message}"),
            }
        }
        Ok(())
    }
}

/// The component, bound to the journey's own label instead of that of all tenants.
fn policies(name: &str) -> Result<String> {
    let text = std::fs::read_to_string(tests::workspace::root().join(COMPONENT))?;
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document)?;
        object["metadata"]["name"] = json!(name);
        if object["spec"]["policyName"].is_string() {
            object["spec"]["policyName"] = json!(name);
        } else {
            let constraints = &mut object["spec"]["matchConstraints"];
            ensure!(constraints["namespaceSelector"].is_object(), "no selector: {object}");
            constraints["namespaceSelector"] = json!({"matchLabels": {JOURNEY: name}});
        }
        documents.push(object.to_string());
    }
    ensure!(documents.len() == 4, "{} documents", documents.len());
    Ok(documents.join("\n---\n"))
}

fn app() -> Value {
    pod(&json!({"generateName": "app-"}))
}

fn with(pointer: &str, value: Value) -> Value {
    let mut pod = app();
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = pod.pointer_mut(parent) {
        parent[key] = value;
    }
    pod
}

fn annotated(key: &str, value: &str) -> Value {
    with("/metadata/annotations", json!({key: value}))
}

fn sidecars(pod: &Value) -> usize {
    let init = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    init.filter(|container| container["name"] == names::SIDECAR_CONTAINER).count()
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "a"})
}

#[tokio::test(flavor = "multi_thread")]
async fn both_make_the_same_pods() -> Result<()> {
    let carriers = Carriers::start().await?;
    let env = json!([{"name": "A", "value": "1"}]);
    let own = json!([{"name": "A", "value": "1"}, {"name": names::CONFIG_URL_ENV, "value": "http://mine"}]);
    let native = json!({"name": "proxy", "image": "a", "restartPolicy": "Always"});
    let mut bare = app();
    bare["spec"]["automountServiceAccountToken"] = json!(false);
    let mut several = app();
    several["spec"]["containers"] = json!([container("a"), {"name": "b", "image": "b", "env": env}, {"name": "c", "image": "c", "env": own}]);
    several["spec"]["initContainers"] =
        json!([container("first"), native, {"name": "second", "image": "a", "env": own}]);
    several["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let cases = [
        ("a plain pod", app(), 1),
        ("a pod without volumes", bare, 1),
        ("a pod with containers, variables and volumes of its own", several, 1),
        ("a pod with variables", with("/spec/containers/0/env", env), 1),
        ("a pod with no init container in its list", with("/spec/initContainers", json!([])), 1),
        ("a pod that runs once", with("/spec/restartPolicy", json!("Never")), 1),
        ("a pod that does not wait", annotated(names::START_ANNOTATION, "go"), 1),
        ("a pod that waits", annotated(names::START_ANNOTATION, "wait"), 1),
        ("a pod with a wish that nobody knows", annotated(names::START_ANNOTATION, "soon"), 1),
        ("a pod that asks for it", annotated(names::INJECT_LABEL, "enabled"), 1),
        ("a pod that opted out", annotated(names::INJECT_LABEL, "disabled"), 0),
        ("a pod for Windows", with("/spec/os", json!({"name": "windows"})), 0),
        ("a pod for Windows nodes", with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})), 0),
        ("a pod for Linux nodes", with("/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})), 1),
    ];
    let all = cases.iter().map(|(what, pod, sidecars)| carriers.make_the_same(what, pod, *sidecars));
    stream::iter(all).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    // Of another release: its image, and whatever that release wrote otherwise.
    let now = carriers.make_the_same("a plain pod", &app(), 1).await?;
    for (what, changes) in [
        ("another version", vec![("/initContainers/0/image", json!("localhost/agent-ready/sidecar:0"))]),
        (
            "an older release",
            vec![
                ("/initContainers/0/image", json!("localhost/agent-ready/sidecar@sha256:00")),
                ("/initContainers/0/args", json!(["as", "it", "was"])),
                ("/initContainers/0/startupProbe", json!({"tcpSocket": {"port": 1}})),
                ("/initContainers/0/resources/limits/memory", json!("128Mi")),
            ],
        ),
        ("another registry", vec![("/initContainers/0/image", json!("mirror.example/sidecar:0"))]),
    ] {
        let mut old = with("/spec", now.clone());
        for (pointer, value) in changes {
            *old["spec"].pointer_mut(pointer).with_context(|| pointer.to_owned())? = value;
        }
        for volume in old["spec"]["volumes"].as_array_mut().into_iter().flatten() {
            if volume["name"] == "agent-ready-credentials" {
                volume["secret"]["defaultMode"] = json!(0o400);
            }
        }
        let updated = carriers.make_the_same(what, &old, 1).await?;
        ensure!(updated == now, "{what}: {updated}\ninstead of {now}");
    }
    carriers.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_refuse_the_same_in_the_same_words() -> Result<()> {
    let carriers = Carriers::start().await?;
    let now = carriers.make_the_same("a plain pod", &app(), 1).await?;
    let changed = |pointer: &str, value: Value| {
        let mut spec = now.clone();
        if let Some(place) = spec.pointer_mut(pointer) {
            *place = value;
        }
        with("/spec", spec)
    };
    let mut twice = now.clone();
    if let Some(init) = twice["initContainers"].as_array_mut() {
        let ours = init[0].clone();
        init.push(ours);
    }
    let container = "has a container named \"agent-ready-config\" that is not the config sidecar";
    let evil = json!({"name": names::SIDECAR_CONTAINER, "image": "evil", "restartPolicy": "Always"});
    for (what, pod) in [
        ("a foreign sidecar", with("/spec/initContainers", json!([evil]))),
        ("our name for the app", with("/spec/containers/0/name", json!(names::SIDECAR_CONTAINER))),
        ("the sidecar with another command", {
            let mut pod = changed("/initContainers/0/image", json!("evil"));
            pod["spec"]["initContainers"][0]["command"] = json!(["sh"]);
            pod
        }),
        ("the sidecar as root", {
            let mut pod = changed("/initContainers/0/securityContext/runAsUser", json!(0));
            pod["spec"]["initContainers"][0]["image"] = json!("evil");
            pod
        }),
    ] {
        carriers.refuse(what, &pod, [container, container]).await?;
    }
    // Policies come after the API server's own validation.
    carriers.refuse("the sidecar twice", &with("/spec", twice), [container, "Duplicate value"]).await?;
    let volume = json!([{"name": "agent-ready-credentials", "emptyDir": {}}]);
    let why = "has a volume named \"agent-ready-credentials\" that is not the config sidecar's";
    carriers.refuse("a foreign volume", &with("/spec/volumes", volume), [why, why]).await?;
    carriers.end().await
}

#[test]
fn the_policies_go_by_the_same_namespaces_as_the_webhook() -> Result<()> {
    use webhook::{admission::policy::Policy, cluster::injection_policy::InjectionPolicy};
    let registration = std::fs::read_to_string(
        tests::workspace::root().join("manifests/components/registration/configurations.yaml"),
    )?;
    let mut selectors = Vec::new();
    for document in serde_norway::Deserializer::from_str(&registration) {
        let object = Value::deserialize(document)?;
        let entries = object["webhooks"].as_array().into_iter().flatten();
        let injection = entries.filter(|entry| entry["name"] == "pods.inject.agent-ready.io");
        selectors.extend(injection.map(|entry| entry["namespaceSelector"].clone()));
    }
    let policies = InjectionPolicy::of(&Policy::new("image"));
    for policy in [manifest(&policies.mutating)?, manifest(&policies.refusing.policy)?] {
        ensure!(
            selectors == [policy["spec"]["matchConstraints"]["namespaceSelector"].clone()],
            "{selectors:?}"
        );
    }
    Ok(())
}
