//! Changes of a namespace's labels and annotations, and every way of asking for one.
#![allow(dead_code, reason = "each journey uses its part")]

use anyhow::Result;
use serde_json::{Value, json};

use crate::gate::Actor;

/// A change of a namespace's metadata: labels and annotations to set, or with null to remove.
pub struct Change {
    labels: Value,
    annotations: Value,
}

/// A label to set, or with null to remove.
pub fn label(key: &str, value: impl Into<Value>) -> Change {
    Change { labels: json!({key: value.into()}), annotations: json!({}) }
}

/// An annotation to set, or with null to remove.
pub fn annotation(key: &str, value: impl Into<Value>) -> Change {
    Change { labels: json!({}), annotations: json!({key: value.into()}) }
}

impl Change {
    fn merge(&self) -> Value {
        json!({"metadata": {"labels": self.labels, "annotations": self.annotations}})
    }

    fn applied_to(&self, namespace: &Value) -> Value {
        let mut changed = namespace.clone();
        for (map, keys) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            for (key, value) in keys.as_object().into_iter().flatten() {
                if value.is_null() {
                    if let Some(present) = changed["metadata"][map].as_object_mut() {
                        present.remove(key);
                    }
                } else {
                    changed["metadata"][map][key] = value.clone();
                }
            }
        }
        changed
    }

    /// Every verb and subresource through which the change can be asked for: command and input.
    pub async fn ways(&self, by: &Actor, name: &str) -> Result<Vec<(String, String)>> {
        let present = by.get(&format!("namespace {name}")).await?;
        let changed = self.applied_to(&present);
        let merge = self.merge().to_string();
        let operations: Vec<Value> = [("labels", &self.labels), ("annotations", &self.annotations)]
            .iter()
            .flat_map(|(map, keys)| {
                keys.as_object().into_iter().flatten().map(move |(key, value)| (map, key, value))
            })
            .map(|(map, key, value)| {
                let path = format!("/metadata/{map}/{}", key.replace('/', "~1"));
                if value.is_null() {
                    json!({"op": "remove", "path": path})
                } else {
                    json!({"op": "add", "path": path, "value": value})
                }
            })
            .collect();
        let mut ways = vec![
            (format!("patch namespace {name} --type=merge --patch={merge}"), String::new()),
            (format!("patch namespace {name} --type=strategic --patch={merge}"), String::new()),
            (
                format!("patch namespace {name} --subresource=status --type=merge --patch={merge}"),
                String::new(),
            ),
            ("replace -f -".to_owned(), changed.to_string()),
            (format!("replace --raw /api/v1/namespaces/{name}/status -f -"), changed.to_string()),
            (format!("replace --raw /api/v1/namespaces/{name}/finalize -f -"), changed.to_string()),
        ];
        if present["metadata"]["annotations"].is_object() || self.annotations == json!({}) {
            let patch = json!(operations);
            ways.push((format!("patch namespace {name} --type=json --patch={patch}"), String::new()));
        }
        let sets =
            |keys: &Value| keys.as_object().is_some_and(|keys| keys.values().all(|value| !value.is_null()));
        if sets(&self.labels) && sets(&self.annotations) {
            let apply = json!({"apiVersion": "v1", "kind": "Namespace", "metadata":
                {"name": name, "labels": self.labels, "annotations": self.annotations}});
            ways.push(("apply --server-side --force-conflicts -f -".to_owned(), apply.to_string()));
            ways.push((
                "apply --server-side --force-conflicts --dry-run=server -f -".to_owned(),
                apply.to_string(),
            ));
        }
        Ok(ways)
    }
}

/// Changes of guarded keys, of a namespace that is nobody's and of a ready tenant's.
pub fn guarded<'n>(bare: &'n str, ready: &'n str) -> Vec<(&'n str, Change)> {
    vec![
        (bare, label("isolation-ready", "true")),
        (bare, label("isolation-ready", "false")),
        (bare, label("agent-ready.io/gate", "exempt")),
        (bare, label("agent-ready.io/organization", "0198b1f2-0000-7000-8000-000000000001")),
        (bare, annotation("agent-ready.io/owner", "User:eve")),
        (ready, label("isolation-ready", Value::Null)),
        (ready, label("agent-ready.io/organization", Value::Null)),
        (ready, label("agent-ready.io/inject", "disabled")),
        (ready, label("pod-security.kubernetes.io/enforce", "privileged")),
        (ready, label("pod-security.kubernetes.io/enforce", Value::Null)),
        (ready, annotation("agent-ready.io/quota", "{}")),
        (ready, annotation("agent-ready.io/owner", Value::Null)),
    ]
}
