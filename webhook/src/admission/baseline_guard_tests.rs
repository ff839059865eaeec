//! The rule on single writes, and against a naive model on any.

use std::collections::BTreeMap;

use contract::Quota;
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

use super::*;
use crate::admission::{
    policy::OpenBeside,
    review::{GroupVersionResource, UserInfo},
};

const OWNER: &str = "agent-ready:ann@acme.example";
const BREAK_GLASS: &str = "agent-ready:break-glass";

/// What objects of the four kinds can be, as far as the rule can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    DenyBoth,
    DenyIngress,
    DenyEgress,
    /// Denies both, and the garbage collector is to delete it.
    DenyOwned,
    NarrowPolicy,
    OpenPolicy,
    Quota,
    LargerQuota,
    ScopedQuota,
    OwnerBinding,
    OtherBinding,
    EverybodyBinding,
    Limits,
    LimitsWithoutLeast,
}

use Content::*;

const POLICIES: [Content; 6] = [DenyBoth, DenyIngress, DenyEgress, DenyOwned, NarrowPolicy, OpenPolicy];
const QUOTAS: [Content; 3] = [Quota, LargerQuota, ScopedQuota];
const BINDINGS: [Content; 3] = [OwnerBinding, OtherBinding, EverybodyBinding];
const LIMITS: [Content; 2] = [Limits, LimitsWithoutLeast];

fn hard(cpu: &str) -> Value {
    let mut hard: Value = serde_json::from_str(&Quota::default().to_annotation()).unwrap();
    hard["requests.cpu"] = json!(cpu);
    hard
}

fn binding(role: &str, kind: &str, name: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": kind, "name": name}]})
}

fn quota(cpu: &str, scopes: &[&str]) -> Value {
    let used = Quota::default().hard().into_keys().map(|key| (key, "0")).collect::<BTreeMap<_, _>>();
    json!({"spec": {"hard": hard(cpu), "scopes": scopes}, "status": {"hard": hard(cpu), "used": used}})
}

fn limits(least: &Value) -> Value {
    let amounts = json!({"cpu": "1", "memory": "1Gi"});
    json!({"spec": {"limits": [{"type": "Container", "default": amounts, "defaultRequest": amounts, "min": least}]}})
}

impl Content {
    fn object(self, name: &str) -> Value {
        let policy = |types: &[&str], ingress: Value| json!({"spec": {"podSelector": {}, "policyTypes": types, "ingress": ingress}});
        let mut object = match self {
            DenyBoth | DenyOwned => policy(&["Ingress", "Egress"], json!([])),
            DenyIngress => policy(&["Ingress"], json!([])),
            DenyEgress => policy(&["Egress"], json!([])),
            NarrowPolicy => policy(&["Ingress"], json!([{"from": [{"podSelector": {}}]}])),
            OpenPolicy => policy(&["Ingress"], json!([{}])),
            Quota => quota("10", &[]),
            LargerQuota => quota("1000", &[]),
            ScopedQuota => quota("10", &["NotTerminating"]),
            OwnerBinding => binding("admin", "User", OWNER),
            OtherBinding => binding("view", "User", OWNER),
            EverybodyBinding => binding("view", "Group", "system:authenticated"),
            Limits => limits(&json!({"cpu": "1m", "memory": "1Mi"})),
            LimitsWithoutLeast => limits(&json!(null)),
        };
        object["metadata"] = json!({"name": name});
        if self == DenyOwned {
            object["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "none"}]);
        }
        object
    }

    fn resource(self) -> (&'static str, &'static str) {
        match self {
            Quota | LargerQuota | ScopedQuota => ("", "resourcequotas"),
            OwnerBinding | OtherBinding | EverybodyBinding => ("rbac.authorization.k8s.io", "rolebindings"),
            Limits | LimitsWithoutLeast => ("", "limitranges"),
            _ => ("networking.k8s.io", "networkpolicies"),
        }
    }

    fn read(self, name: &str) -> Object {
        let (group, resource) = self.resource();
        let raw = RawValue::from_string(self.object(name).to_string()).unwrap();
        Object::read(group, resource, &raw).unwrap().unwrap()
    }
}

/// A namespace with these objects.
fn tenant(ready: bool, objects: &[(Content, String)]) -> Tenant {
    let mut labels = BTreeMap::from([
        (names::ORGANIZATION_LABEL.to_owned(), "0198b1f2-0000-7000-8000-000000000001".to_owned()),
        ("pod-security.kubernetes.io/enforce".to_owned(), "baseline".to_owned()),
    ]);
    if ready {
        labels.insert(names::GATE_LABEL.to_owned(), names::GATE_OPEN.to_owned());
    }
    let annotations = BTreeMap::from([
        (names::OWNER_ANNOTATION.to_owned(), format!("User:{OWNER}")),
        (names::QUOTA_ANNOTATION.to_owned(), Quota::default().to_annotation()),
    ]);
    let baseline =
        objects.iter().fold(super::super::baseline::Baseline::default(), |baseline, (content, name)| {
            baseline.after(Write::Put(content.read(name)))
        });
    Tenant { labels, annotations, terminating: false, baseline }
}

fn whole(ready: bool) -> Tenant {
    tenant(ready, &[DenyBoth, Quota, OwnerBinding, Limits].map(|content| (content, "a".to_owned())))
}

/// The verdict on a write by this user, who is in this group.
fn ask(
    policy: &Policy,
    (user, group): (&'static str, &'static str),
    operation: Operation,
    (content, name): (Content, &str),
    tenant: &Tenant,
) -> Verdict {
    let (api_group, resource) = content.resource();
    let raw = RawValue::from_string(content.object(name).to_string()).unwrap();
    let deletes = operation == Operation::Delete;
    let request = Request {
        uid: "u".into(),
        resource: GroupVersionResource {
            group: api_group.into(),
            version: "v1".into(),
            resource: resource.into(),
        },
        sub_resource: None,
        name: None,
        namespace: Some("org-acme".into()),
        operation,
        user_info: UserInfo { username: user.into(), groups: vec![group.into()] },
        object: (!deletes).then_some(&*raw),
        old_object: deletes.then_some(&*raw),
        dry_run: None,
    };
    assert!(is_for(&request));
    match decide(policy, &request) {
        GuardVerdict::Decided(verdict) => verdict,
        GuardVerdict::Compare(write) => compare(policy, &request, *write, tenant),
    }
}

const ADMIN: (&str, &str) = ("kubernetes-admin", "system:masters");

fn by_admin(operation: Operation, content: Content, name: &str, tenant: &Tenant) -> Verdict {
    ask(&Policy::new("image"), ADMIN, operation, (content, name), tenant)
}

#[test]
fn a_whole_baseline_cannot_be_deleted_weakened_or_opened() {
    for ready in [true, false] {
        let tenant = whole(ready);
        for content in [DenyBoth, Quota, OwnerBinding, Limits] {
            assert_eq!(by_admin(Operation::Delete, content, "a", &tenant).reason, "baseline");
            assert_eq!(by_admin(Operation::Update, content, "a", &tenant).reason, "kept");
        }
        for weaker in [DenyIngress, DenyOwned, LargerQuota, ScopedQuota, OtherBinding, LimitsWithoutLeast] {
            assert_eq!(by_admin(Operation::Update, weaker, "a", &tenant).reason, "baseline", "{weaker:?}");
            assert_eq!(by_admin(Operation::Create, weaker, "b", &tenant).reason, "kept", "{weaker:?}");
        }
        for opening in [OpenPolicy, EverybodyBinding] {
            assert_eq!(by_admin(Operation::Create, opening, "b", &tenant).reason, "baseline");
        }
    }
}

#[test]
fn what_is_not_proved_is_free_until_it_is_called_ready() {
    let objects = [(DenyBoth, "a".to_owned()), (Quota, "a".to_owned())];
    let (fresh, broken) = (tenant(false, &objects), tenant(true, &objects));
    assert_eq!(by_admin(Operation::Delete, DenyBoth, "a", &fresh).reason, "unproved");
    // Called ready, it gets no worse: the proof fails for a moment whenever a quota changes.
    assert_eq!(by_admin(Operation::Delete, DenyBoth, "a", &broken).reason, "baseline");
    assert_eq!(by_admin(Operation::Create, Limits, "b", &broken).reason, "kept");
}

#[test]
fn writers_break_glass_and_kubernetes_are_never_hindered() {
    let (tenant, policy) = (whole(true), Policy::new("image"));
    let delete = |user| ask(&policy, user, Operation::Delete, (DenyBoth, "a"), &tenant).reason;
    assert_eq!(delete(("system:serviceaccount:agent-ready-system:provisioner", "")), "writer");
    assert_eq!(delete(("ops", BREAK_GLASS)), "break-glass");
    for user in KUBERNETES {
        assert_eq!(delete((user, "")), "kubernetes");
    }
    for user in ["system:serviceaccount:kube-system:default", "system:node:a", "system:kube-scheduler", ""] {
        assert_eq!(delete((user, "system:serviceaccounts")), "baseline", "{user}");
    }
    let ending = Tenant { terminating: true, ..tenant.clone() };
    assert!(by_admin(Operation::Delete, DenyBoth, "a", &ending).allowed());
}

#[test]
fn openings_are_reported_where_that_is_asked_for() {
    let policy = Policy { open_beside: OpenBeside::Report, ..Policy::new("image") };
    let tenant = whole(true);
    let told = ask(&policy, ADMIN, Operation::Create, (OpenPolicy, "b"), &tenant);
    assert!(told.allowed());
    assert_eq!(told.audit[0], ("open-beside", "NetworkPolicy b allows everything to everyone".to_owned()));
    insta::assert_snapshot!(told.warnings[0], @r#"NetworkPolicy b allows everything to everyone; the isolation of namespace "org-acme" is weakened"#);
    assert!(!ask(&policy, ADMIN, Operation::Update, (OpenPolicy, "a"), &tenant).allowed());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let broken = RawValue::from_string(r#"{"metadata":{"name":"a"},"spec":{"hard":1}}"#.to_owned()).unwrap();
    let nameless = RawValue::from_string(r#"{"metadata":{}}"#.to_owned()).unwrap();
    for (operation, object, old) in [
        (Operation::Update, Some(&*broken), None),
        (Operation::Update, None, Some(&*broken)),
        (Operation::Delete, Some(&*nameless), None),
        (Operation::Delete, None, Some(&*nameless)),
    ] {
        let request = Request {
            uid: "u".into(),
            resource: GroupVersionResource {
                group: "".into(),
                version: "v1".into(),
                resource: "resourcequotas".into(),
            },
            sub_resource: None,
            name: None,
            namespace: Some("org-acme".into()),
            operation,
            user_info: UserInfo::default(),
            object,
            old_object: old,
            dry_run: None,
        };
        let GuardVerdict::Decided(verdict) = decide(&Policy::new("image"), &request) else { panic!() };
        assert_eq!(verdict.reason, "unreadable");
    }
}

#[test]
fn messages_say_what_happened_why_and_what_to_do() {
    let message =
        |operation, content, name| by_admin(operation, content, name, &whole(true)).refusal.unwrap().message;
    insta::assert_snapshot!("deleted", message(Operation::Delete, DenyBoth, "a"));
    insta::assert_snapshot!("weakened", message(Operation::Update, LargerQuota, "a"));
    insta::assert_snapshot!("owned", message(Operation::Update, DenyOwned, "a"));
    insta::assert_snapshot!("opened", message(Operation::Create, OpenPolicy, "b"));
}

/// The model: which parts of the baseline are in order, said as plainly as can be; an opening of each name is a part.
fn parts(objects: &[(Content, String)]) -> Vec<bool> {
    let any = |contents: &[Content]| objects.iter().any(|(content, _)| contents.contains(content));
    let mut parts = vec![
        any(&[DenyBoth, DenyIngress]),
        any(&[DenyBoth, DenyEgress]),
        any(&[Quota]),
        any(&[OwnerBinding]),
        any(&[Limits]),
    ];
    for opening in [OpenPolicy, EverybodyBinding] {
        parts.extend(["a", "b", "c", "d"].map(|name| !objects.contains(&(opening, name.to_owned()))));
    }
    parts
}

fn admits(ready: bool, before: &[(Content, String)], after: &[(Content, String)]) -> bool {
    let (before, after) = (parts(before), parts(after));
    let unproved = !ready && before.contains(&false);
    unproved || before.iter().zip(after).all(|(before, after)| !before || after)
}

fn named(contents: &'static [Content]) -> impl Strategy<Value = Vec<(Content, String)>> + Clone {
    prop::collection::btree_map("[a-c]", prop::sample::select(contents), 0..3)
        .prop_map(|objects| objects.into_iter().map(|(name, content)| (content, name)).collect())
}

fn namespaces() -> impl Strategy<Value = Vec<(Content, String)>> + Clone {
    let any = (named(&POLICIES), named(&QUOTAS), named(&BINDINGS), named(&LIMITS))
        .prop_map(|(policies, quotas, bindings, limits)| [policies, quotas, bindings, limits].concat());
    // Random objects are seldom a whole baseline: begin with one half of the time.
    let whole = any.clone().prop_map(|beside| {
        let baseline = [DenyBoth, Quota, OwnerBinding, Limits].map(|content| (content, "a".to_owned()));
        let beside = beside
            .into_iter()
            .filter(|(content, name)| name != "a" && ![OpenPolicy, EverybodyBinding].contains(content));
        baseline.into_iter().chain(beside).collect()
    });
    prop_oneof![any, whole]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_guard_and_the_model_never_differ(
        before in namespaces(),
        ready: bool,
        deletes: bool,
        content in prop::sample::select([&POLICIES[..], &QUOTAS, &BINDINGS, &LIMITS].concat()),
        name in "[a-d]",
    ) {
        let same = |(other, other_name): &(Content, String)| {
            other.resource() == content.resource() && *other_name == name
        };
        let present = before.iter().find(|object| same(object)).map(|(content, _)| *content);
        let mut after: Vec<_> = before.iter().filter(|object| !same(object)).cloned().collect();
        let (operation, written) = if deletes {
            let Some(present) = present else { return Ok(()) };
            (Operation::Delete, present)
        } else {
            after.push((content, name.clone()));
            (if present.is_some() { Operation::Update } else { Operation::Create }, content)
        };
        let verdict = by_admin(operation, written, &name, &tenant(ready, &before));
        prop_assert_eq!(verdict.allowed(), admits(ready, &before, &after), "{:?}", verdict);
    }
}
