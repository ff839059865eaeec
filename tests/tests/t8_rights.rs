//! T8: each service account has the rights that it uses and no other, and the provisioner is confined to tenants.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use contract::names;
use tests::{kubectl::Kubectl, platform::Platform};
use uuid::Uuid;

const PROVISIONER: &str = "provisioner";
const WEBHOOK: &str = "webhook";
/// An account without any right of its own: what it may do, everyone may.
const NOBODY: &str = "default";

/// Refused by the account's roles.
const BY_RBAC: &str = "is forbidden: User";
/// Refused by one of the policies `policy.yaml` in `manifests/base`.
const BY_POLICY: &str = "ValidatingAdmissionPolicy 'agent-ready-";
/// Refused by Kubernetes because the account does not hold what it would give away.
const BY_ESCALATION: &str = "attempting to grant RBAC permissions not currently held";
const DENIED: [&str; 3] = [BY_RBAC, BY_POLICY, BY_ESCALATION];

/// kubectl with the token of one of our accounts.
struct Account {
    kubectl: Kubectl,
}

impl Account {
    async fn of(platform: &Platform, name: &str) -> Result<Self> {
        let namespace = format!("--namespace={}", names::SYSTEM_NAMESPACE);
        let token = platform.kubectl(&["create", "token", name, &namespace]).await?.success()?;
        // A file of its own: the tests run side by side.
        let kubeconfig = platform.write_kubeconfig(&fresh(name), token.trim())?;
        Ok(Self { kubectl: platform.kubectl_command().with(kubeconfig) })
    }

    async fn may(&self, attempt: &Attempt) -> Result<()> {
        let output = self.kubectl.feed(&words(&attempt.command), &attempt.input).await?;
        ensure!(output.code == 0, "{}: {}", attempt.command, output.stderr);
        Ok(())
    }

    async fn may_not(&self, attempt: &Attempt) -> Result<()> {
        let output = self.kubectl.feed(&words(&attempt.command), &attempt.input).await?;
        let Attempt { command, input, .. } = attempt;
        ensure!(output.code != 0, "{command} was let through\n{input}");
        let expected = attempt.refusal.unwrap_or(BY_RBAC);
        ensure!(
            output.stderr.contains(expected),
            "{command}: not refused by `{expected}`: {}\n{input}",
            output.stderr
        );
        Ok(())
    }

    /// What `kubectl auth can-i --list` says for a namespace, one right a line.
    async fn rights(&self, namespace: &str) -> Result<BTreeSet<String>> {
        let arguments = ["auth", "can-i", "--list", "--no-headers", "--namespace", namespace];
        let list = self.kubectl.run(&arguments).await?.success()?;
        Ok(list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
    }
}

/// A kubectl command, what it reads, and who must refuse it.
struct Attempt {
    command: String,
    input: String,
    refusal: Option<&'static str>,
}

fn run(command: impl Into<String>) -> Attempt {
    Attempt { command: command.into(), input: String::new(), refusal: None }
}

fn create(manifest: String) -> Attempt {
    Attempt { command: "create --validate=false -f -".into(), input: manifest, refusal: None }
}

fn apply(manifest: String) -> Attempt {
    Attempt { command: "apply --server-side --validate=false -f -".into(), input: manifest, refusal: None }
}

impl Attempt {
    fn refused(self, by: &'static str) -> Self {
        assert!(DENIED.contains(&by));
        Self { refusal: Some(by), ..self }
    }
}

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

fn namespace(name: &str, organization: Option<Uuid>) -> String {
    let label = organization.map(|id| format!("{}: \"{id}\"", names::ORGANIZATION_LABEL)).unwrap_or_default();
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{label}}}}}\n")
}

fn object(api: &str, kind: &str, name: &str, namespace: &str) -> String {
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: \"{name}\", namespace: {namespace}}}\n")
}

fn quota(name: &str, namespace: &str) -> String {
    object("v1", "ResourceQuota", name, namespace) + "spec: {hard: {requests.cpu: \"1\"}}\n"
}

fn binding(namespace: &str, role: &str, kind: &str, subject: &str) -> String {
    let group = "rbac.authorization.k8s.io";
    object("rbac.authorization.k8s.io/v1", "RoleBinding", names::OWNER_BINDING_NAME, namespace)
        + &format!("roleRef: {{apiGroup: {group}, kind: ClusterRole, name: {role}}}\n")
        + &format!("subjects: [{{apiGroup: {group}, kind: {kind}, name: \"{subject}\"}}]\n")
}

/// A pod in an exempt namespace that finds no node.
fn pod(name: &str, metadata: &str) -> String {
    object("v1", "Pod", name, "kube-system").replace("metadata: {", &format!("metadata: {{{metadata}"))
        + "spec: {nodeSelector: {nowhere: a}, containers: [{name: a, image: a}]}\n"
}

/// A namespace name that no other test uses.
fn fresh(prefix: &str) -> String {
    format!("{prefix}t8-{}", &Uuid::new_v4().simple().to_string()[..12])
}

/// A namespace of a tenant, made by the provisioner's account.
async fn tenant(provisioner: &Account) -> Result<(String, Uuid)> {
    let (name, organization) = (fresh(names::NAMESPACE_PREFIX), Uuid::new_v4());
    provisioner.may(&create(namespace(&name, Some(organization)))).await?;
    Ok((name, organization))
}

async fn delete(platform: &Platform, namespaces: &[&str]) -> Result<()> {
    let arguments = [&["delete", "namespace", "--wait=false"], namespaces].concat();
    platform.kubectl(&arguments).await?.success().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_the_committed_lists() -> Result<()> {
    let platform = Platform::shared().await?;
    let nobody = Account::of(platform, NOBODY).await?;
    for name in [PROVISIONER, WEBHOOK] {
        let account = Account::of(platform, name).await?;
        let mut list = String::new();
        for namespace in ["default", names::SYSTEM_NAMESPACE] {
            let everyones = nobody.rights(namespace).await?;
            let rights = account.rights(namespace).await?;
            writeln!(list, "# in namespace {namespace}, beyond what everyone may")?;
            list.extend(rights.difference(&everyones).map(|right| format!("{right}\n")));
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/rights/{name}.txt"));
        let committed = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        assert_eq!(committed, list, "{}", file.display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provisioner_makes_a_tenants_baseline_and_no_more() -> Result<()> {
    let platform = Platform::shared().await?;
    let provisioner = Account::of(platform, PROVISIONER).await?;
    let (org, organization) = tenant(&provisioner).await?;
    let may = [
        apply(quota(names::QUOTA_NAME, &org)),
        apply(object("v1", "LimitRange", names::LIMITS_NAME, &org)),
        apply(object("networking.k8s.io/v1", "NetworkPolicy", names::DEFAULT_DENY_NAME, &org)),
        apply(object("networking.k8s.io/v1", "NetworkPolicy", names::ALLOW_PLATFORM_NAME, &org)),
        apply(binding(&org, names::OWNER_ROLE, "User", "agent-ready:ann@acme.example")),
        apply(object("v1", "Secret", names::SECRET_NAME, &org)),
        run(format!("label namespace {org} note=1")),
    ];
    for attempt in &may {
        provisioner.may(attempt).await?;
    }
    let (label, other) = (names::ORGANIZATION_LABEL, Uuid::new_v4());
    let may_not = [
        // A plain POST carries no name that a role could be limited to.
        create(quota(names::QUOTA_NAME, &org)),
        apply(quota("another", &org)),
        apply(object("v1", "Secret", "another", &org)),
        apply(object("v1", "ConfigMap", names::SECRET_NAME, &org)),
        apply(object("v1", "ServiceAccount", "default", &org)),
        create(object("v1", "Pod", "pod", &org)),
        run(format!("get secret {} -n {org}", names::SECRET_NAME)),
        run(format!("get secrets -n {org}")),
        run(format!("get pods -n {org}")),
        run(format!("create token default -n {org}")),
        run(format!("delete resourcequota {} -n {org}", names::QUOTA_NAME)),
        run(format!("delete networkpolicy {} -n {org}", names::DEFAULT_DENY_NAME)),
        run(format!("patch namespace {org} --subresource=status --type=merge -p {{}}")),
        apply(binding(&org, "cluster-admin", "User", "eve")).refused(BY_ESCALATION),
        apply(binding(&org, "admin", "Group", "system:authenticated")).refused(BY_POLICY),
        apply(binding(&org, "admin", "User", "system:admin")).refused(BY_POLICY),
        run(format!("label namespace {org} --overwrite {label}={other}")).refused(BY_POLICY),
        run(format!("label namespace {org} {label}-")).refused(BY_POLICY),
    ];
    for attempt in &may_not {
        provisioner.may_not(attempt).await?;
    }
    let kept = format!("jsonpath={{.metadata.labels.{}}}", label.replace('.', "\\."));
    let kept = platform.kubectl(&["get", "namespace", &org, "-o", &kept]).await?.success()?;
    assert_eq!(kept, organization.to_string());
    provisioner.may(&run(format!("delete namespace {org} --wait=false"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provisioner_reaches_no_namespace_that_is_not_a_tenants() -> Result<()> {
    let platform = Platform::shared().await?;
    let provisioner = Account::of(platform, PROVISIONER).await?;
    let (plain, other) = (fresh(names::NAMESPACE_PREFIX), fresh("other-"));
    for name in [&plain, &other] {
        platform.kubectl(&["create", "namespace", name]).await?.success()?;
    }
    let label = format!("{}={}", names::ORGANIZATION_LABEL, Uuid::new_v4());
    let id = Some(Uuid::new_v4());
    let mut attempts = vec![
        create(namespace(&fresh("evil-"), id)).refused(BY_POLICY),
        create(namespace(&fresh("org"), id)).refused(BY_POLICY),
        create(namespace(&fresh(names::NAMESPACE_PREFIX), None)).refused(BY_POLICY),
        // kube-system is refused by Kubernetes itself before the policy is asked.
        run("delete namespace kube-node-lease --wait=false").refused(BY_POLICY),
        run("get secrets -A"),
        run("get secrets -n kube-system"),
        run("get configmaps -n kube-system"),
        run("create deployment x --image=x -n kube-system"),
        run("create clusterrolebinding x --clusterrole=admin --user=eve"),
        run("delete validatingadmissionpolicybinding agent-ready-provisioner"),
        run("patch clusterrole agent-ready-provisioner --type=merge -p {}"),
        run("get nodes"),
        run("get pods -n kube-system --as=system:admin").refused(BY_RBAC),
    ];
    for name in [plain.as_str(), &other, "kube-system", "default", names::SYSTEM_NAMESPACE] {
        attempts.push(run(format!("label namespace {name} {label}")).refused(BY_POLICY));
        attempts.push(run(format!("label namespace {name} note=1")).refused(BY_POLICY));
        attempts.push(apply(quota(names::QUOTA_NAME, name)).refused(BY_POLICY));
        attempts.push(apply(object("v1", "Secret", names::SECRET_NAME, name)).refused(BY_POLICY));
        attempts.push(apply(binding(name, "admin", "User", "eve")).refused(BY_POLICY));
    }
    for name in [&plain, &other] {
        attempts.push(run(format!("delete namespace {name} --wait=false")).refused(BY_POLICY));
    }
    for attempt in &attempts {
        provisioner.may_not(attempt).await?;
    }
    delete(platform, &[&plain, &other]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_writes_nothing_but_its_own_objects() -> Result<()> {
    let platform = Platform::shared().await?;
    let webhook = Account::of(platform, WEBHOOK).await?;
    let running = fresh("");
    platform.kubectl_command().feed(&["create", "-f", "-"], &pod(&running, "")).await?.success()?;
    let token = object("v1", "Secret", "token", names::SYSTEM_NAMESPACE)
        .replace("name:", "annotations: {kubernetes.io/service-account.name: provisioner}, name:")
        + "type: kubernetes.io/service-account-token\n";
    let attempts = [
        run("label namespace default note=1"),
        create(namespace(&fresh("evil-"), None)),
        apply(quota(names::QUOTA_NAME, "default")),
        // Kubernetes would fill in the provisioner's token.
        create(token.clone()).refused(BY_POLICY),
        create(token.replace("name: \"token\"", "name: webhook-tls")).refused(BY_POLICY),
        create(object("v1", "Secret", "another", names::SYSTEM_NAMESPACE)).refused(BY_POLICY),
        create(object("v1", "Secret", "webhook-tls", "default")),
        run("get secrets -A"),
        run("get secrets -n agent-ready-system"),
        run("get secret webhook-tls -n default"),
        run("get secret provisioner-keys -n agent-ready-system"),
        run("get secret provisioner-settings -n agent-ready-system"),
        run("delete secret webhook-tls -n agent-ready-system"),
        run("delete validatingwebhookconfiguration agent-ready-gate"),
        apply(object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "another", "\"\"")),
        run("patch validatingwebhookconfiguration another --type=merge -p {}"),
        run("delete validatingadmissionpolicybinding agent-ready-provisioner"),
        run("get pod coredns -n kube-system"),
        run("delete clusterrole agent-ready-webhook"),
        run("patch clusterrole agent-ready-webhook --type=merge -p {}"),
        // Held pods alone are its business, and a pod that it creates is never stored.
        create(pod(&fresh("evil-"), "")).refused(BY_POLICY),
        apply(pod(&running, "labels: {note: a}, ")).refused(BY_POLICY),
        run(format!("delete pod {running} -n kube-system")).refused(BY_POLICY),
        run("create token provisioner -n agent-ready-system"),
    ];
    for attempt in &attempts {
        webhook.may_not(attempt).await?;
    }
    let delete = ["delete", "pod", &running, "--namespace=kube-system", "--wait=false"];
    platform.kubectl(&delete).await?.success().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_is_accepted() -> Result<()> {
    let platform = Platform::shared().await?;
    for overlay in ["local", "kind", "production"] {
        let folder = tests::workspace::root().join("manifests/overlays").join(overlay);
        let folder = folder.to_string_lossy().into_owned();
        let rendered = platform.kubectl(&["kustomize", &folder]).await?.success().context(overlay)?;
        let arguments = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"];
        platform.kubectl_command().feed(&arguments, &rendered).await?.success().context(overlay)?;
    }
    Ok(())
}
