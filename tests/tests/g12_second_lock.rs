//! G12: the same cases decided by the webhook without the second lock, and by the lock without the webhook. Alone in its binary,
//! because it takes the webhook away from everyone.

mod change;
mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gate::{Actor, Gate, POD_GATE, eventually, fresh, pod};
use serde_json::{Value, json};

const CONFIGURATIONS: &str =
    "validatingwebhookconfiguration/agent-ready-gate mutatingwebhookconfiguration/agent-ready-inject";
/// Questions asked at once.
const AT_ONCE: usize = 6;
/// What a refusal by the lock begins with.
const LOCK: &str = "ValidatingAdmissionPolicy 'agent-ready-lock-";
/// What a refusal by the webhook begins with.
const WEBHOOK: &str = "admission webhook \"";
/// What is said in both locks' refusals of pods and of guarded keys.
const NOT_ISOLATED: &str = "is not proved isolated";
const NOT_A_WRITER: &str = "written only by";
const AT_CREATION: &str = "cannot be set at creation";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Admitted,
    Warned,
    Refused,
}
use Decision::{Admitted, Refused, Warned};

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum By {
    Admin,
    BreakGlass,
    Provisioner,
    Releaser,
}
use By::{Admin, BreakGlass, Provisioner, Releaser};

/// A question to both locks. Nothing that is admitted is stored.
struct Case {
    by: By,
    command: String,
    input: String,
    webhook: Decision,
    /// Another decision where CEL cannot decide as the webhook does, and why.
    lock: Option<(Decision, &'static str)>,
    /// What a refusal says, whoever refuses.
    says: &'static str,
}

impl Case {
    fn new(by: By, command: String, input: &Value, decision: Decision, says: &'static str) -> Self {
        let input = if input.is_null() { String::new() } else { input.to_string() };
        Self { by, command, input, webhook: decision, lock: None, says }
    }

    fn but_lock(self, decision: Decision, why: &'static str) -> Self {
        Self { lock: Some((decision, why)), ..self }
    }
}

/// Namespaces of every kind that decisions tell apart.
struct Namespaces {
    bare: String,
    wrong: String,
    modes: Vec<(&'static str, String)>,
    baseline: String,
    ready: String,
}

impl Namespaces {
    async fn make(gate: &Gate) -> Result<Self> {
        let labelled = async |label: &str| {
            let name = gate.namespace().await?;
            gate.break_glass.may(&format!("label namespace {name} {label}"), "").await?;
            Ok::<_, anyhow::Error>(name)
        };
        let mut modes = Vec::new();
        for mode in ["deny", "warn", "audit", "exempt", "hold", "typo"] {
            modes.push((mode, labelled(&format!("{}={mode}", names::MODE_LABEL)).await?));
        }
        Ok(Self {
            bare: gate.namespace().await?,
            wrong: labelled(&format!("{}=false", names::GATE_LABEL)).await?,
            modes,
            baseline: gate.baseline().await?,
            ready: gate.ready().await?,
        })
    }

    fn all(&self) -> Vec<&str> {
        let modes = self.modes.iter().map(|(_, name)| name);
        modes.chain([&self.bare, &self.wrong, &self.baseline, &self.ready]).map(String::as_str).collect()
    }

    fn pods(&self) -> Vec<Case> {
        let (named, generated) = (pod(&json!({"name": "a"})), pod(&json!({"generateName": "a-"})));
        let case = |by, command: &str, namespace: &str, pod: &Value, decision| {
            let command = format!("{command} --dry-run=server -f - --namespace={namespace}");
            Case::new(by, command, pod, decision, NOT_ISOLATED)
        };
        let mut cases = Vec::new();
        for (by, command, pod) in [
            (Admin, "create", &named),
            (Admin, "create", &generated),
            (Admin, "apply --server-side", &named),
            (BreakGlass, "create", &named),
        ] {
            for namespace in [&self.bare, &self.wrong, &self.baseline] {
                cases.push(case(by, command, namespace, pod, Refused));
            }
            for namespace in [self.ready.as_str(), "kube-system", "kube-public"] {
                cases.push(case(by, command, namespace, pod, Admitted));
            }
        }
        for (mode, namespace) in &self.modes {
            let decision = match *mode {
                "warn" => Warned,
                "audit" | "exempt" | "hold" => Admitted,
                _ => Refused,
            };
            let by_name = case(Admin, "create", namespace, &named, decision);
            cases.push(match *mode {
                "hold" => by_name.but_lock(Refused, "only the webhook adds the scheduling gate (G2)"),
                _ => by_name,
            });
        }
        cases
    }

    async fn guarded_keys(&self, gate: &Gate) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for (number, (namespace, change)) in change::guarded(&self.bare, &self.ready).into_iter().enumerate()
        {
            // Each change in one way of asking, and every way of asking with some change: they are independent.
            let ways = change.ways(&gate.admin, namespace).await?;
            let ways: Vec<_> = match number {
                0 | 5 | 10 => ways,
                _ => ways.into_iter().take(1).collect(),
            };
            for (command, input) in ways {
                let case = Case::new(Admin, command, &Value::Null, Refused, NOT_A_WRITER);
                cases.push(Case { input, ..case });
            }
        }
        let label = |by, namespace: &str, label: &str, decision| {
            let command = format!("label namespace {namespace} {label} --overwrite --dry-run=server");
            Case::new(by, command, &Value::Null, decision, NOT_A_WRITER)
        };
        cases.extend([
            label(Admin, &self.bare, "team=a", Admitted),
            label(Admin, &self.bare, "pod-security.kubernetes.io/enforce=baseline", Admitted),
            label(Admin, &self.ready, "app.kubernetes.io/managed-by=Helm", Admitted),
            label(BreakGlass, &self.bare, "agent-ready.io/gate=exempt", Admitted),
            label(BreakGlass, &self.ready, "isolation-ready-", Admitted),
            label(Provisioner, &self.ready, "isolation-ready-", Admitted),
            label(Provisioner, &self.baseline, "isolation-ready=true", Admitted),
        ]);
        let unproved = "the proof of a baseline reads other objects, which CEL cannot (G5)";
        let says = "A read of its baseline just now";
        for (by, namespace, change) in [
            (BreakGlass, &self.bare, "isolation-ready=true"),
            (BreakGlass, &self.ready, "pod-security.kubernetes.io/enforce=privileged"),
        ] {
            let case = label(by, namespace, change, Refused).but_lock(Admitted, unproved);
            cases.push(Case { says, ..case });
        }
        Ok(cases)
    }

    /// A pod that comes in held, and who may let it go.
    async fn held(&self, gate: &Gate) -> Result<Vec<Case>> {
        let (_, namespace) = self.modes.iter().find(|(mode, _)| *mode == "hold").context("mode hold")?;
        let mut held = pod(&json!({"name": "new"}));
        held["spec"]["schedulingGates"] = json!([{"name": names::HOLD_GATE}]);
        let create = format!("create --dry-run=server -f - --namespace={namespace}");
        let mut cases = vec![Case::new(Admin, create, &held, Admitted, "")];
        held["metadata"]["name"] = json!("held");
        gate.admin.may(&format!("create -f - --namespace={namespace}"), &held.to_string()).await?;
        let patch = json!([{"op": "remove", "path": "/spec/schedulingGates"}]);
        let release =
            format!("patch pod held --namespace={namespace} --dry-run=server --type=json --patch={patch}");
        let note = format!("annotate pod held note=a --namespace={namespace} --dry-run=server");
        cases.extend([
            Case::new(Admin, release.clone(), &Value::Null, Refused, names::HOLD_GATE),
            Case::new(BreakGlass, release.clone(), &Value::Null, Refused, names::HOLD_GATE),
            Case::new(Releaser, release, &Value::Null, Admitted, ""),
            Case::new(Admin, note, &Value::Null, Admitted, ""),
        ]);
        Ok(cases)
    }

    fn creations() -> Vec<Case> {
        let organization = "0198b1f2-0000-7000-8000-000000000001";
        let tenant = json!({"agent-ready.io/organization": organization});
        let ready = json!({"isolation-ready": "true", "agent-ready.io/organization": organization});
        let case = |by, labels: &Value, annotations: &Value, decision, says| {
            let name = fresh("org-gate-");
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": labels, "annotations": annotations}});
            Case::new(by, "create --dry-run=server -f -".to_owned(), &namespace, decision, says)
        };
        let (none, owner) = (json!({}), json!({"agent-ready.io/owner": "User:eve"}));
        let mut cases = vec![
            case(Admin, &none, &none, Admitted, ""),
            case(Admin, &tenant, &none, Refused, NOT_A_WRITER),
            case(Admin, &none, &owner, Refused, NOT_A_WRITER),
            case(BreakGlass, &tenant, &owner, Admitted, ""),
            case(Provisioner, &tenant, &owner, Admitted, ""),
        ];
        cases
            .extend([Admin, BreakGlass, Provisioner].map(|by| case(by, &ready, &none, Refused, AT_CREATION)));
        cases
    }

    async fn cases(&self, gate: &Gate) -> Result<Vec<Case>> {
        let mut cases = self.pods();
        cases.extend(self.guarded_keys(gate).await?);
        cases.extend(self.held(gate).await?);
        cases.extend(Self::creations());
        Ok(cases)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_decides_as_the_webhook_does_and_both_together_break_nothing() -> Result<()> {
    let gate = Gate::shared().await?;
    remove_lock(&gate).await?;
    let namespaces = Namespaces::make(&gate).await?;
    let cases = namespaces.cases(&gate).await?;
    decide_all(&gate, &cases, WEBHOOK, |case| case.webhook).await?;
    let outcome = async {
        install_lock(&gate, &namespaces).await?;
        both_together(&gate).await?;
        let replicas = gate.replicas().await?;
        let outcome = async {
            remove_webhook(&gate, &namespaces).await?;
            decide_all(&gate, &cases, LOCK, |case| case.lock.map_or(case.webhook, |(decision, _)| decision))
                .await
        }
        .await;
        start_again(&gate, replicas).await?;
        outcome
    }
    .await;
    remove_lock(&gate).await?;
    outcome?;
    eventually("the webhook decides alone again", async || {
        let create = format!("create --dry-run=server -f - --namespace={}", namespaces.bare);
        Ok(gate.admin.may_not(POD_GATE, &create, &pod(&json!({"name": "a"})).to_string()).await.ok())
    })
    .await?;
    let differences = cases.iter().filter_map(|case| case.lock).count();
    println!("{} cases decided alike, {differences} that CEL cannot decide", cases.len() - differences);
    gate.delete(&namespaces.all()).await
}

/// Asks several at once: nothing is stored.
async fn decide_all(
    gate: &Gate,
    cases: &[Case],
    refuser: &str,
    expected: impl Fn(&Case) -> Decision,
) -> Result<()> {
    stream::iter(cases.iter().map(|case| decide(gate, case, expected(case), refuser)))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Asks and compares.
async fn decide(gate: &Gate, case: &Case, expected: Decision, refuser: &str) -> Result<()> {
    let actor: &Actor = match case.by {
        Admin => &gate.admin,
        BreakGlass => &gate.break_glass,
        Provisioner => &gate.provisioner,
        Releaser => &gate.admin.named("system:serviceaccount:agent-ready-system:webhook"),
    };
    let output = actor.ask(&case.command, &case.input).await?;
    let decision = match output.code {
        0 if output.stderr.contains("Would be refused: ") => Warned,
        0 => Admitted,
        _ => Refused,
    };
    let asked = format!("{:?}: {} {}\n{}{}", case.by, case.command, case.input, output.stdout, output.stderr);
    ensure!(decision == expected, "{decision:?} instead of {expected:?}: {asked}");
    if decision == Refused {
        for part in [refuser, case.says, "To do:"] {
            ensure!(output.stderr.contains(part), "it does not say {part:?}: {asked}");
        }
    }
    Ok(())
}

async fn install_lock(gate: &Gate, namespaces: &Namespaces) -> Result<()> {
    let folder = tests::workspace::root().join("manifests/components/second-lock");
    gate.admin.may(&format!("apply -f {}/policies.yaml", folder.display()), "").await?;
    // Each policy is looked at once a second.
    let pod = pod(&json!({"name": "a"})).to_string();
    let (create, label) = (
        format!("create --dry-run=server -f - --namespace={}", namespaces.bare),
        format!("label namespace {} isolation-ready=true", namespaces.bare),
    );
    for (command, input) in [(&create, pod.as_str()), (&label, "")] {
        eventually("the lock acts", async || Ok(gate.admin.may_not(LOCK, command, input).await.ok())).await?;
    }
    Ok(())
}

async fn remove_lock(gate: &Gate) -> Result<()> {
    let folder = tests::workspace::root().join("manifests/components/second-lock");
    let delete = format!("delete --ignore-not-found -f {}/policies.yaml", folder.display());
    gate.admin.may(&delete, "").await.map(drop)
}

/// Ready tenants, controllers, the control plane and the end of namespaces, with both locks shut.
async fn both_together(gate: &Gate) -> Result<()> {
    let made = gate.ready().await?;
    let image = "localhost/agent-ready/probe:local";
    gate.admin
        .may(&format!("create deployment web --image={image} --namespace={made} -- /probe sleep"), "")
        .await?;
    eventually("the Deployment's pod", async || {
        let set = gate.admin.get(&format!("pods --namespace={made} --selector=app=web")).await?;
        Ok((set["items"] != json!([])).then_some(()))
    })
    .await?;
    let generated = pod(&json!({"generateName": "a-"})).to_string();
    gate.admin.may("create -f - --dry-run=server --namespace=kube-system", &generated).await?;
    gate.admin.may(&format!("annotate namespace {made} note=b"), "").await?;
    let gone = gate.namespace().await?;
    gate.admin.may(&format!("delete namespace {gone} {made} --timeout=60s"), "").await.map(drop)
}

/// Ends every replica, and then the registration, which nobody is left to heal.
async fn remove_webhook(gate: &Gate, namespaces: &Namespaces) -> Result<()> {
    if gate.platform.has_node() {
        // Not by force: a replica whose pod is gone before its process would heal the registration.
        gate.end_replicas("--grace-period=1").await?;
    } else {
        gate.platform.component("webhook").kill().await?;
    }
    gate.admin.may(&format!("delete {CONFIGURATIONS}"), "").await?;
    // While it is registered and dead, every change of a guarded key fails, and every pod that is to be held. The API server
    // hears of the two configurations apart.
    let exempt = format!("label namespace {} agent-ready.io/gate=exempt --dry-run=server", namespaces.bare);
    eventually("the webhook is registered no more", async || {
        Ok(gate.break_glass.may(&exempt, "").await.ok())
    })
    .await?;
    let (_, hold) = namespaces.modes.iter().find(|(mode, _)| *mode == "hold").context("mode hold")?;
    let create = format!("create --dry-run=server -f - --namespace={hold}");
    let unheld = pod(&json!({"name": "a"})).to_string();
    eventually("nothing is added to pods", async || Ok(gate.admin.may_not(LOCK, &create, &unheld).await.ok()))
        .await
        .map(drop)
}

/// It registers itself.
async fn start_again(gate: &Gate, replicas: Option<i64>) -> Result<()> {
    let Some(replicas) = replicas else {
        return gate.platform.component("webhook").start().await;
    };
    gate.start_replicas(replicas).await
}
