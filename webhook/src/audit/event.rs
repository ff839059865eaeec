//! Findings as Events: one for each object and kind, under a name that follows from both, so that however often and by
//! however many replicas it is written there is one; many of a kind in a namespace become one on the namespace.

use std::{collections::BTreeMap, fmt::Write as _};

use contract::names;
use serde_json::{Value, json};

use super::finding::{Finding, Kind, Object};

/// Objects of one kind of finding in one namespace that get an Event each; more share one.
const OBJECTS_MAX: usize = 5;
/// Longest message of an Event in bytes; the API server refuses more than 1024.
const MESSAGE_BYTES_MAX: usize = 1000;
/// Where Events about cluster-wide objects are kept.
const CLUSTER_NAMESPACE: &str = "default";
/// Who reports.
const REPORTER: &str = "agent-ready.io/gate";

/// The findings to announce of one namespace: as they are, or joined into one on the namespace.
pub fn announced(namespace: &Object, findings: &[Finding]) -> Vec<Finding> {
    let mut kinds: BTreeMap<Kind, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    let mut announced = Vec::new();
    for (kind, of) in kinds {
        match of.as_slice() {
            [first, ..] if of.len() > OBJECTS_MAX => {
                let mut message =
                    format!("{} {}s of this namespace, for example ", of.len(), first.object.kind);
                for (index, finding) in of.iter().take(3).enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    let _ = write!(message, "{separator}{}", finding.object.name);
                }
                let _ = write!(message, ". Of the first: {}", first.message);
                announced.push(Finding { kind, object: namespace.clone(), message });
            }
            _ => announced.extend(of.into_iter().cloned()),
        }
    }
    announced
}

/// The Event's namespace and name, the same for the same object and kind.
pub fn place(finding: &Finding) -> (&str, String) {
    let object = &finding.object;
    let namespace = if object.namespace.is_empty() { CLUSTER_NAMESPACE } else { object.namespace.as_str() };
    let identity = format!("{}/{}/{}/{}", object.kind, object.namespace, object.name, object.uid);
    (namespace, format!("agent-ready.{}.{:016x}", finding.kind.code(), hash(identity.as_bytes())))
}

/// The Event, as it is applied; times in RFC 3339.
pub fn object(finding: &Finding, first: &str, now: &str) -> Value {
    let (namespace, name) = place(finding);
    let object = &finding.object;
    let mut involved = json!({"apiVersion": object.api_version, "kind": object.kind, "name": object.name});
    if !object.namespace.is_empty() {
        involved["namespace"] = json!(object.namespace);
    }
    if !object.uid.is_empty() {
        involved["uid"] = json!(object.uid);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace, "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}},
        "involvedObject": involved, "type": "Warning", "reason": finding.kind.reason(), "message": message(finding),
        "firstTimestamp": first, "lastTimestamp": now, "count": 1,
        "source": {"component": REPORTER}, "reportingComponent": REPORTER, "reportingInstance": "",
    })
}

/// The message, cut to what an Event may carry.
pub fn message(finding: &Finding) -> &str {
    let mut end = finding.message.len().min(MESSAGE_BYTES_MAX);
    while !finding.message.is_char_boundary(end) {
        end -= 1;
    }
    &finding.message[..end]
}

/// FNV-1a: the name must be the same in every replica and version, and guards against nothing.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str, uid: &str) -> Finding {
        let object = Object {
            api_version: "v1",
            kind: "Pod",
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        Finding { kind: Kind::PodInUnreadyNamespace, object, message: "It runs.".to_owned() }
    }

    #[test]
    fn an_event_has_one_name_for_one_object_and_kind() {
        let (one, again, other) = (finding("a", "1"), finding("a", "1"), finding("a", "2"));
        assert_eq!(place(&one), place(&again));
        assert_ne!(place(&one).1, place(&other).1, "made again, it is another pod");
        let other_kind = Finding { kind: Kind::StaticPod, ..finding("a", "1") };
        assert_ne!(place(&one).1, place(&other_kind).1);
        insta::assert_json_snapshot!(object(&one, "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z"));
    }

    #[test]
    fn many_of_a_kind_become_one() {
        let namespace = Object::namespace("shop", "uid");
        let few: Vec<_> = (0..OBJECTS_MAX).map(|i| finding(&format!("p{i}"), "")).collect();
        assert_eq!(announced(&namespace, &few), few);
        let many: Vec<_> = (0..1000).map(|i| finding(&format!("p{i}"), "")).collect();
        let joined = announced(&namespace, &many);
        assert_eq!(joined.len(), 1);
        insta::assert_snapshot!(joined[0].message, @"1000 Pods of this namespace, for example p0, p1, p2. Of the first: It runs.");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let long = Finding { message: "ä".repeat(MESSAGE_BYTES_MAX), ..finding("a", "1") };
        assert_eq!(message(&long).len(), MESSAGE_BYTES_MAX);
    }
}
