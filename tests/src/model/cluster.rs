//! What the operations are on the real API server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contract::baseline::{self, PodSecurity, Tenant};
use contract::{OrganizationId, Owner, Quota, Slug, names};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Actor, How, Operation, Part, Verdict};
use crate::platform::{Platform, client_of};

/// How long a controller may take to do its part.
const PATIENCE: Duration = Duration::from_mins(1);
/// After this long a controller is given another reason to look at a namespace.
const HEARS_AGAIN: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// The policy that lies beside the baseline and opens everything.
const BESIDE: &str = "open";

/// Everyone who asks.
#[derive(Clone)]
pub struct Clients {
    admin: Client,
    break_glass: Client,
    provisioner: Client,
}

impl Clients {
    /// The actors of this platform.
    pub async fn of(platform: &Platform) -> Result<Self> {
        let mut kubeconfig = kube::config::Kubeconfig::read_from(platform.kubeconfig())?;
        for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
            user.impersonate = Some("ops".to_owned());
            user.impersonate_groups =
                Some(["agent-ready:break-glass", "system:masters"].map(str::to_owned).to_vec());
        }
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Self {
            admin: platform.client().await?,
            break_glass: Client::try_from(config)?,
            provisioner: client_of(&platform.service_account_kubeconfig("provisioner").await?).await?,
        })
    }

    fn actor(&self, actor: Actor) -> &Client {
        match actor {
            Actor::Admin => &self.admin,
            Actor::BreakGlass => &self.break_glass,
            Actor::Provisioner => &self.provisioner,
        }
    }
}

/// What the API server said to a write: nothing, or why it refused.
pub type Refusal = Option<String>;

/// One namespace, which operations are done to.
pub struct Place {
    clients: Clients,
    tenant: Tenant,
    name: String,
}

impl Place {
    pub fn new(clients: &Clients) -> Result<Self> {
        let name = format!("model {}", &Uuid::new_v4().simple().to_string()[..12]);
        let tenant = Tenant {
            organization: OrganizationId(Uuid::new_v4()),
            slug: Slug::from_name(&name)?,
            owner: Owner::from_email("agent-ready:", "model@tests.example")?,
            quota: Quota::default(),
            operation: Uuid::new_v4(),
            pod_security: PodSecurity::default(),
        };
        Ok(Self { clients: clients.clone(), name: tenant.namespace(), tenant })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn api<K>(&self, actor: Actor) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.clients.actor(actor).clone(), &self.name)
    }

    fn namespaces(&self, actor: Actor) -> Api<Namespace> {
        Api::all(self.clients.actor(actor).clone())
    }

    /// Does a write.
    pub async fn write(&self, operation: Operation) -> Result<Refusal> {
        match operation {
            Operation::CreateNamespace => self.create_namespace().await,
            Operation::DeleteNamespace => self.delete_namespace().await,
            Operation::Make(part) => self.make(part).await,
            Operation::Break(part, actor) => self.break_part(part, actor).await,
            Operation::Delete(part, actor) => self.delete(part, actor).await,
            Operation::Ready(ready, actor) => {
                self.label(names::GATE_LABEL, ready.then_some(names::GATE_OPEN), actor).await
            }
            Operation::SetMode(mode, actor) => self.label(names::MODE_LABEL, mode.label(), actor).await,
            Operation::Pod(_) | Operation::Settle => Ok(None),
        }
    }

    /// Makes the namespace, however long one of the same name takes to go.
    async fn create_namespace(&self) -> Result<Refusal> {
        let (api, wanted) = (self.namespaces(Actor::Provisioner), baseline::namespace(&self.tenant));
        let end = Instant::now() + PATIENCE;
        loop {
            match api.create(&PostParams::default(), &wanted).await {
                Err(kube::Error::Api(status)) if status.code == 409 && Instant::now() < end => {
                    tokio::time::sleep(PAUSE * 10).await;
                }
                made => {
                    let refusal = refusal(made)?;
                    if refusal.is_none() {
                        self.default_service_account().await?;
                    }
                    return Ok(refusal);
                }
            }
        }
    }

    /// Waits for what a controller makes in every namespace.
    ///
    /// Where the API server still takes a namespace made again for the one that was terminating, it refuses the account, and
    /// the controller makes no second try before it hears of the namespace again.
    async fn default_service_account(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = self.api(Actor::Admin);
        let (mut heard, mut told) = (Instant::now(), 0);
        until("the default ServiceAccount", async || {
            if heard.elapsed() > HEARS_AGAIN {
                (heard, told) = (Instant::now(), told + 1);
                let patch = Patch::Merge(
                    json!({"metadata": {"annotations": {"tests.example/told": told.to_string()}}}),
                );
                let namespaces = self.namespaces(Actor::Admin);
                namespaces.patch(&self.name, &PatchParams::default(), &patch).await?;
            }
            Ok(accounts.get_opt("default").await?.is_some())
        })
        .await
    }

    pub async fn delete_namespace(&self) -> Result<Refusal> {
        refusal(self.namespaces(Actor::Admin).delete(&self.name, &DeleteParams::background()).await)
    }

    async fn label(&self, key: &str, value: Option<&str>, actor: Actor) -> Result<Refusal> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
        refusal(self.namespaces(actor).patch(&self.name, &PatchParams::default(), &patch).await)
    }

    async fn make(&self, part: Part) -> Result<Refusal> {
        let maker = Actor::Provisioner;
        match part {
            Part::Quota => {
                let refused = self.apply(maker, &baseline::resource_quota(&self.tenant)).await?;
                if refused.is_none() {
                    let quotas: Api<ResourceQuota> = self.api(Actor::Admin);
                    until("the quota's status", async || {
                        let quota = quotas.get(names::QUOTA_NAME).await?;
                        let wanted = quota.spec.and_then(|spec| spec.hard);
                        Ok(quota.status.is_some_and(|status| status.used.is_some() && status.hard == wanted))
                    })
                    .await?;
                }
                Ok(refused)
            }
            Part::Limits => self.apply(maker, &baseline::limit_range(&self.name)).await,
            Part::DefaultDeny => self.apply(maker, &baseline::default_deny(&self.name)).await,
            Part::Binding => self.apply(maker, &baseline::owner_binding(&self.tenant)).await,
            Part::Beside => self.delete(part, Actor::BreakGlass).await,
        }
    }

    async fn break_part(&self, part: Part, actor: Actor) -> Result<Refusal> {
        match part {
            Part::Quota => {
                let change = json!({"spec": {"hard": {"requests.storage": null}}});
                self.change::<ResourceQuota>(actor, names::QUOTA_NAME, &change).await
            }
            Part::Limits => {
                let change = json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "4"}}]}});
                self.change::<LimitRange>(actor, names::LIMITS_NAME, &change).await
            }
            Part::DefaultDeny => {
                let change = json!({"spec": {"policyTypes": ["Ingress"]}});
                self.change::<NetworkPolicy>(actor, names::DEFAULT_DENY_NAME, &change).await
            }
            Part::Binding => {
                let change = json!({"subjects": []});
                self.change::<RoleBinding>(actor, names::OWNER_BINDING_NAME, &change).await
            }
            Part::Beside => {
                let everything = json!({"podSelector": {}, "ingress": [{}]});
                let policy = json!({"metadata": {"name": BESIDE}, "spec": everything});
                self.apply(actor, &serde_json::from_value::<NetworkPolicy>(policy)?).await
            }
        }
    }

    async fn delete(&self, part: Part, actor: Actor) -> Result<Refusal> {
        let at_once = DeleteParams::default();
        let deleted = match part {
            Part::Quota => {
                self.api::<ResourceQuota>(actor).delete(names::QUOTA_NAME, &at_once).await.map(drop)
            }
            Part::Limits => {
                self.api::<LimitRange>(actor).delete(names::LIMITS_NAME, &at_once).await.map(drop)
            }
            Part::DefaultDeny => {
                self.api::<NetworkPolicy>(actor).delete(names::DEFAULT_DENY_NAME, &at_once).await.map(drop)
            }
            Part::Binding => {
                self.api::<RoleBinding>(actor).delete(names::OWNER_BINDING_NAME, &at_once).await.map(drop)
            }
            Part::Beside => self.api::<NetworkPolicy>(actor).delete(BESIDE, &at_once).await.map(drop),
        };
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            deleted => refusal(deleted),
        }
    }

    async fn apply<K>(&self, actor: Actor, object: &K) -> Result<Refusal>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let name = object.meta().name.clone().context("a name")?;
        let params = PatchParams::apply("model").force();
        refusal(self.api::<K>(actor).patch(&name, &params, &Patch::Apply(object)).await)
    }

    async fn change<K>(&self, actor: Actor, name: &str, change: &Value) -> Result<Refusal>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let patched = self.api::<K>(actor).patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        refusal(patched)
    }

    /// Asks for a pod, as the administrator; what became of it, its name, and why if it was refused.
    pub async fn pod(&self, how: How) -> Result<(Verdict, String)> {
        let (name, pods) = (fresh(), self.api::<Pod>(Actor::Admin));
        let mut pod = template();
        let created = match how {
            How::ReplicaSet | How::Job => return self.by_a_controller(how, &name).await,
            How::GenerateName => {
                pod["metadata"] = json!({"generateName": format!("{name}-")});
                pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await
            }
            How::Named | How::DryRun => {
                pod["metadata"] = json!({"name": name});
                let params = PostParams { dry_run: how == How::DryRun, ..PostParams::default() };
                pods.create(&params, &serde_json::from_value(pod)?).await
            }
            How::Apply => {
                pod["metadata"] = json!({"name": name});
                pods.patch(&name, &PatchParams::apply("model"), &Patch::Apply(&pod)).await
            }
        };
        match created {
            Ok(pod) => Ok((verdict(&pod), pod.metadata.name.unwrap_or_default())),
            Err(kube::Error::Api(status)) => Ok((Verdict::Refused, status.message.clone())),
            Err(error) => Err(error.into()),
        }
    }

    async fn by_a_controller(&self, how: How, name: &str) -> Result<(Verdict, String)> {
        let mut template = json!({"spec": template()["spec"], "metadata": {"labels": {"made-by": name}}});
        let object = |template: Value| {
            let selector = json!({"matchLabels": {"made-by": name}});
            match how {
                How::Job => json!({"metadata": {"name": name}, "spec": {"template": template}}),
                _ => json!({"metadata": {"name": name},
                    "spec": {"replicas": 1, "selector": selector, "template": template}}),
            }
        };
        let params = PostParams::default();
        if how == How::Job {
            template["spec"]["restartPolicy"] = json!("Never");
            let job: Job = serde_json::from_value(object(template))?;
            self.api(Actor::Admin).create(&params, &job).await?;
        } else {
            let set: ReplicaSet = serde_json::from_value(object(template))?;
            self.api(Actor::Admin).create(&params, &set).await?;
        }
        let pods = ListParams::default().labels(&format!("made-by={name}"));
        let failed = ListParams::default().fields(&format!("involvedObject.name={name},reason=FailedCreate"));
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(pod) = self.api::<Pod>(Actor::Admin).list(&pods).await?.items.pop() {
                return Ok((verdict(&pod), pod.metadata.name.unwrap_or_default()));
            }
            if let Some(event) = self.api::<Event>(Actor::Admin).list(&failed).await?.items.pop() {
                return Ok((Verdict::Refused, event.message.unwrap_or_default()));
            }
            tokio::time::sleep(PAUSE * 5).await;
        }
        bail!("{how:?} {name} neither made a pod nor said why not within {PATIENCE:?}")
    }

    /// Whether a pod that was held still is; nothing when it is gone.
    pub async fn is_held(&self, pod: &str) -> Result<Option<bool>> {
        let found = self.api::<Pod>(Actor::Admin).get_opt(pod).await?;
        Ok(found.map(|pod| verdict(&pod) == Verdict::Held))
    }
}

fn verdict(pod: &Pod) -> Verdict {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
    if gates.iter().any(|gate| gate.name == names::HOLD_GATE) { Verdict::Held } else { Verdict::Admitted }
}

/// A pod that no scheduler takes, and that fits into the quota.
fn template() -> Value {
    let mut pod = crate::pods::pod("x", &["sleep"]);
    pod["spec"]["schedulerName"] = json!("nobody");
    let amount = json!({"cpu": "10m", "memory": "8Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
    pod
}

fn fresh() -> String {
    format!("m-{}", &Uuid::new_v4().simple().to_string()[..10])
}

/// A refusal is an answer; what is not one ends the sequence.
fn refusal<T>(result: Result<T, kube::Error>) -> Result<Refusal> {
    match result {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

async fn until(what: &str, mut seen: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if seen().await? {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("{what} did not come within {PATIENCE:?}")
}
