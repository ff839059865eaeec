//! From objects to verdicts: each object becomes the review that the API server would send for it, and goes through the
//! same code as that one.

use std::sync::Arc;

use contract::names;
use serde_json::{Value, json};

use super::{
    known::Known,
    read::{Content, Item},
    report::Outcome,
};
use crate::{
    admission::{
        answer::Verdict,
        policy::Policy,
        refusal::Refusal,
        review::{API_VERSION, KIND, decode},
    },
    facts::NamespaceKeys,
    serve::decide::{Decider, Endpoint},
};

/// Who writes, and where objects go that do not say.
#[derive(Debug, Clone)]
pub struct Asker {
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Namespace of objects that say none.
    pub namespace: String,
    /// Where AdmissionReviews of the input are decided.
    pub endpoint: Endpoint,
}

/// One request that the input stands for.
struct Ask<'a> {
    resource: &'static str,
    namespace: &'a str,
    name: &'a str,
    object: &'a Value,
    old: Option<Value>,
}

/// Decides every item, in the order of the input.
pub async fn decide(items: Vec<Item>, mut known: Known, policy: &Policy, asker: &Asker) -> Vec<Outcome> {
    let namespace_of = |item: &Item| item.namespace.clone().unwrap_or_else(|| asker.namespace.clone());
    for item in &items {
        if let Content::Baseline(part) = &item.content {
            known.add(&namespace_of(item), part.clone());
        }
    }
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(items.len());
    outcomes.resize_with(items.len(), || None);
    // Namespaces first, wherever they stand: kubectl too needs them before what lies in them.
    let mut known = Arc::new(known);
    for (item, outcome) in items.iter().zip(&mut outcomes) {
        if let Content::Namespace(object) = &item.content {
            let (verdict, keys) = namespace(item, object, &known, policy, asker).await;
            if let Some(known) = Arc::get_mut(&mut known) {
                match keys.filter(|_| verdict.allowed()) {
                    Some(keys) => drop(known.accepted.insert(item.name.clone(), keys)),
                    None => known.refused.push(item.name.clone()),
                }
            }
            *outcome = Some(Outcome::new(item, item.name.clone(), verdict));
        }
    }
    for (item, outcome) in items.iter().zip(&mut outcomes) {
        let namespace = namespace_of(item);
        *outcome = match &item.content {
            Content::Namespace(_) => continue,
            Content::Pod(object) => {
                let verdict = pod(object, &namespace, &known, policy, asker).await;
                Some(Outcome::new(item, namespace, verdict))
            }
            Content::Review(body) => Some(review(item, body, &known, policy, asker).await),
            Content::Baseline(_) | Content::Other => Some(Outcome::without_rule(item, namespace)),
        };
    }
    outcomes.into_iter().flatten().collect()
}

async fn review(item: &Item, body: &[u8], known: &Arc<Known>, policy: &Policy, asker: &Asker) -> Outcome {
    let (uid, verdict) = ask(body, asker.endpoint, known, policy).await;
    let namespace = item.namespace.clone().unwrap_or_default();
    Outcome { uid: Some(uid), ..Outcome::new(item, namespace, verdict) }
}

/// A namespace of the input: an update where one is known, as `kubectl apply` merges, else a creation.
async fn namespace(
    item: &Item,
    object: &Value,
    known: &Arc<Known>,
    policy: &Policy,
    asker: &Asker,
) -> (Verdict, Option<NamespaceKeys>) {
    let existing = match known.existing(&item.name).await {
        Ok(existing) => existing,
        Err(why) => {
            let refusal = Refusal::unknown_state(&item.name, &why);
            return (Verdict::refuse(refusal), None);
        }
    };
    let mut object = object.clone();
    let old = existing.map(|keys| {
        let mut old = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": item.name}});
        for (map, values) in [("labels", keys.labels), ("annotations", keys.annotations)] {
            for (key, value) in values {
                old["metadata"][map][&key] = json!(value);
                let written = &mut object["metadata"][map];
                if written.get(&key).is_none() && (written.is_object() || written.is_null()) {
                    written[&key] = json!(value);
                }
            }
        }
        old
    });
    let ask = Ask { resource: "namespaces", namespace: &item.name, name: &item.name, object: &object, old };
    let verdict = ask.decide(Endpoint::Validate, known, policy, asker).await;
    (verdict, keys(&object))
}

fn keys(object: &Value) -> Option<NamespaceKeys> {
    let read = |map: &str| match &object["metadata"][map] {
        Value::Null => Some(std::collections::BTreeMap::new()),
        map => serde_json::from_value(map.clone()).ok(),
    };
    Some(NamespaceKeys { labels: read("labels")?, annotations: read("annotations")? })
}

/// A pod goes through injection, where its namespace asks for it, through the hold and through the gate, as in the API
/// server: each sees what the one before made of it, and all must admit it.
async fn pod(object: &Value, namespace: &str, known: &Arc<Known>, policy: &Policy, asker: &Asker) -> Verdict {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let injects = known.labels(namespace).await.is_some_and(|labels| {
        labels.get(names::INJECT_LABEL).is_some_and(|value| value == "enabled") && !policy.exempts(namespace)
    });
    let mut object = object.clone();
    let mut so_far = Verdict::default();
    let mut operations = Vec::new();
    for endpoint in [Endpoint::Mutate, Endpoint::Hold, Endpoint::Validate] {
        if endpoint == Endpoint::Mutate && !injects {
            continue;
        }
        let ask = Ask { resource: "pods", namespace, name, object: &object, old: None };
        let verdict = ask.decide(endpoint, known, policy, asker).await;
        if !verdict.allowed() {
            return verdict;
        }
        if let Some(patch) = &verdict.patch
            && let Err(why) = apply(patch, &mut object, &mut operations)
        {
            return Verdict::refuse(Refusal::unreadable("pod", &why));
        }
        so_far.warnings.extend(verdict.warnings);
        so_far.audit.extend(verdict.audit);
        so_far.reason = verdict.reason;
    }
    so_far.patch = (!operations.is_empty()).then(|| Value::Array(operations).to_string().into_bytes());
    so_far
}

/// Applies a verdict's patch, and notes its operations.
fn apply(patch: &[u8], object: &mut Value, operations: &mut Vec<Value>) -> Result<(), String> {
    let read = |error: serde_json::Error| error.to_string();
    operations.extend(serde_json::from_slice::<Vec<Value>>(patch).map_err(read)?);
    let patch: json_patch::Patch = serde_json::from_slice(patch).map_err(read)?;
    json_patch::patch(object, &patch).map_err(|error| error.to_string())
}

impl Ask<'_> {
    async fn decide(
        &self,
        endpoint: Endpoint,
        known: &Arc<Known>,
        policy: &Policy,
        asker: &Asker,
    ) -> Verdict {
        let body = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "request": {
                "uid": "offline", "dryRun": true,
                "resource": {"group": "", "version": "v1", "resource": self.resource},
                "namespace": self.namespace, "name": self.name,
                "operation": if self.old.is_some() { "UPDATE" } else { "CREATE" },
                "userInfo": {"username": asker.user, "groups": asker.groups},
                "object": self.object, "oldObject": self.old,
            },
        });
        ask(body.to_string().as_bytes(), endpoint, known, policy).await.1
    }
}

async fn ask(body: &[u8], endpoint: Endpoint, known: &Arc<Known>, policy: &Policy) -> (String, Verdict) {
    match decode(body) {
        Ok(request) => {
            let facts: Arc<Known> = Arc::clone(known);
            let verdict = Decider::new(policy.clone(), facts).decide(endpoint, &request).await;
            (request.uid.to_string(), verdict)
        }
        // The reader has decoded it already; unknown is never allowed all the same.
        Err(error) => {
            let refusal = Refusal::unreadable("review", &error.to_string());
            (String::new(), Verdict::refuse(refusal))
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
