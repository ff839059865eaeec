//! What must change for a present configuration to be the desired one. Pure: both are JSON.

use serde_json::{Map, Value, json};

use super::rank::{ANNOTATION, Rank};

/// Selector terms that managed clusters add to every webhook (AKS); to fight them would be without end.
const TOLERATED: [(&str, &str); 3] = [
    ("control-plane", "DoesNotExist"),
    ("kubernetes.azure.com/managedby", "NotIn"),
    ("kubernetes.azure.com/managedby", "DoesNotExist"),
];

/// What to do about a present configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It is as it should be.
    Same,
    /// A newer registration than ours wrote it.
    Newer,
    /// It is to be replaced by this object.
    Write(Value),
}

/// Judges `present` by what we want.
pub fn judge(desired: &Value, present: &Value, mine: &Rank) -> Judgement {
    let known = present["metadata"]["annotations"][ANNOTATION].as_str().and_then(Rank::parse);
    if known.as_ref().is_some_and(|known| mine.yields_to(known)) {
        return Judgement::Newer;
    }
    let next = next(desired, present, &mine.over(known.as_ref()));
    if next["webhooks"] == present["webhooks"] && next["metadata"] == present["metadata"] {
        Judgement::Same
    } else {
        Judgement::Write(next)
    }
}

/// The present object with our entries and nothing but ours, and our metadata beside that of others.
fn next(desired: &Value, present: &Value, rank: &Rank) -> Value {
    let mut next = present.clone();
    let metadata = &mut next["metadata"];
    for map in ["labels", "annotations"] {
        let ours = desired["metadata"][map].as_object().cloned().unwrap_or_default();
        if !ours.is_empty() {
            merge(&mut metadata[map], ours);
        }
    }
    merge(&mut metadata["annotations"], Map::from_iter([(ANNOTATION.to_owned(), json!(rank.to_string()))]));
    if let Some(owners) = desired["metadata"]["ownerReferences"].as_array() {
        let mut all: Vec<Value> = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
        for owner in owners {
            // An owner of the same name is the one before, and gone.
            all.retain(|other| {
                other == owner || other["kind"] != owner["kind"] || other["name"] != owner["name"]
            });
            if !all.contains(owner) {
                all.push(owner.clone());
            }
        }
        metadata["ownerReferences"] = Value::Array(all);
    }
    let entries = desired["webhooks"].as_array().into_iter().flatten();
    next["webhooks"] =
        entries.map(|entry| with_tolerated(defaulted(entry.clone()), &present["webhooks"])).collect();
    next
}

fn merge(into: &mut Value, ours: Map<String, Value>) {
    match into.as_object_mut() {
        Some(map) => map.extend(ours),
        None => *into = Value::Object(ours),
    }
}

/// The entry with what the API server fills in.
fn defaulted(mut entry: Value) -> Value {
    let defaults = [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("timeoutSeconds", json!(10)),
    ];
    if let Some(entry) = entry.as_object_mut() {
        for (key, value) in defaults {
            entry.entry(key).or_insert(value);
        }
    }
    for rule in entry["rules"].as_array_mut().into_iter().flatten() {
        if let Some(rule) = rule.as_object_mut() {
            rule.entry("scope").or_insert(json!("*"));
        }
    }
    entry
}

/// The entry with the tolerated terms of its present selector.
fn with_tolerated(mut entry: Value, present: &Value) -> Value {
    let mut same = present.as_array().into_iter().flatten().filter(|other| other["name"] == entry["name"]);
    let Some(other) = same.next() else { return entry };
    let present_terms = other["namespaceSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let mut terms: Vec<Value> =
        entry["namespaceSelector"]["matchExpressions"].as_array().cloned().unwrap_or_default();
    // In the order that they have, so that an order alone is no difference: ours first or last as they are.
    let extra: Vec<Value> = present_terms
        .filter(|term| !terms.contains(term))
        .filter(|term| {
            TOLERATED.iter().any(|(key, operator)| term["key"] == *key && term["operator"] == *operator)
        })
        .cloned()
        .collect();
    if extra.is_empty() {
        return entry;
    }
    terms.extend(extra);
    let now = other["namespaceSelector"]["matchExpressions"].as_array().cloned().unwrap_or_default();
    let same_terms = now.len() == terms.len() && now.iter().all(|term| terms.contains(term));
    entry["namespaceSelector"]["matchExpressions"] = Value::Array(if same_terms { now } else { terms });
    entry
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
