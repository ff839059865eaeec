//! Findings about the guards themselves: the webhook configurations and the policies in the API server.

use serde_json::Value;

use super::finding::{Finding, Kind, Object};

/// Terms that managed clusters add to namespace selectors, and that let nothing of a tenant's through.
const TOLERATED_TERMS: [&str; 3] =
    ["admissions.enforcer/disabled", "control-plane", "kubernetes.azure.com/managedby"];

/// The policies of the second lock, each with the binding that makes it refuse.
pub const SECOND_LOCK: [(&str, &str); 3] = [
    ("agent-ready-lock-pods", "agent-ready-lock-pods-deny"),
    ("agent-ready-lock-namespaces", "agent-ready-lock-namespaces"),
    ("agent-ready-lock-held", "agent-ready-lock-held"),
];

/// A webhook configuration as it should be, and as it is.
pub struct Configuration<'a> {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// As the program writes it; `caBundle` is not looked at.
    pub expected: Value,
    /// As it is; nothing if there is none.
    pub found: Option<Value>,
}

/// What is wrong with a webhook configuration: at most one finding, which names every difference.
pub fn configuration(configuration: &Configuration<'_>) -> Option<Finding> {
    let Some(found) = &configuration.found else {
        return Some(guard(
            configuration.kind,
            configuration.name,
            "is not there: its requests come in unseen",
        ));
    };
    let mut differences = Vec::new();
    for expected in entries(&configuration.expected) {
        let name = expected["name"].as_str().unwrap_or_default();
        match entries(found).find(|entry| entry["name"] == expected["name"]) {
            None => differences.push(format!("entry {name} is not there")),
            Some(entry) => {
                differences
                    .extend(differing(expected, entry).into_iter().map(|what| format!("{name}: {what}")));
            }
        }
    }
    (!differences.is_empty()).then(|| {
        let what = format!("is not as the gate writes it: {}", differences.join("; "));
        guard(configuration.kind, configuration.name, &what)
    })
}

/// Policies of the second lock, or their bindings, that are not there.
pub fn second_lock(absent: &[&str]) -> Option<Finding> {
    let first = absent.first()?;
    let object = Object {
        api_version: "admissionregistration.k8s.io/v1",
        kind: "ValidatingAdmissionPolicy",
        namespace: String::new(),
        name: (*first).to_owned(),
        uid: String::new(),
    };
    let message = format!(
        "The second lock is not, or not wholly, installed (absent: {}): without it the gate stands open for as long as \
         its webhook configuration is gone. To do: apply the component second-lock of the manifests.",
        absent.join(", ")
    );
    Some(Finding { kind: Kind::SecondLock, object, message })
}

fn guard(kind: &'static str, name: &str, what: &str) -> Finding {
    let object = Object {
        api_version: "admissionregistration.k8s.io/v1",
        kind,
        namespace: String::new(),
        name: name.to_owned(),
        uid: String::new(),
    };
    let message = format!(
        "{kind} {name} {what}. To do: see that a replica of the gate runs and may write it (it puts it right by itself), or \
         apply the manifests again."
    );
    Finding { kind: Kind::Guard, object, message }
}

fn entries(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration["webhooks"].as_array().into_iter().flatten()
}

/// What differs in an entry, in words.
fn differing(expected: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    for field in ["failurePolicy", "matchPolicy", "rules", "matchConditions", "timeoutSeconds"] {
        if !is_null_or(&expected[field], |expected| within(expected, &found[field])) {
            differences.push(format!("{field} is {}", shortened(&found[field])));
        }
    }
    if expected["matchConditions"].is_null() && entries_of(&found["matchConditions"]).next().is_some() {
        differences.push("matchConditions were added".to_owned());
    }
    if found["objectSelector"].as_object().is_some_and(|selector| !selector.is_empty()) {
        differences.push("an objectSelector was added".to_owned());
    }
    let terms = |entry: &Value| -> Vec<Value> {
        entries_of(&entry["namespaceSelector"]["matchExpressions"]).cloned().collect()
    };
    let (wanted, present) = (terms(expected), terms(found));
    if wanted.iter().any(|term| !present.iter().any(|other| same_term(term, other))) {
        differences.push("its namespaceSelector lacks a term".to_owned());
    }
    for term in present.iter().filter(|term| !wanted.iter().any(|other| same_term(term, other))) {
        let key = term["key"].as_str().unwrap_or_default();
        if !TOLERATED_TERMS.contains(&key) {
            differences.push(format!("its namespaceSelector has a term more, on {key}"));
        }
    }
    if found["namespaceSelector"]["matchLabels"].as_object().is_some_and(|labels| !labels.is_empty()) {
        differences.push("its namespaceSelector has matchLabels".to_owned());
    }
    let (client, wanted) = (&found["clientConfig"], &expected["clientConfig"]);
    if client["url"] != wanted["url"]
        || !is_null_or(&wanted["service"], |wanted| within(wanted, &client["service"]))
    {
        differences.push("it is sent somewhere else".to_owned());
    }
    if client["caBundle"].as_str().is_none_or(str::is_empty) {
        differences.push("it has no caBundle".to_owned());
    }
    differences
}

fn entries_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_null_or(value: &Value, holds: impl FnOnce(&Value) -> bool) -> bool {
    value.is_null() || holds(value)
}

/// Whether everything of `expected` is in `found`, which may have fields that the API server fills in.
fn within(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(key, value)| value.is_null() || found.get(key).is_some_and(|other| within(value, other))),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| within(expected, found))
        }
        _ => expected == found,
    }
}

/// Whether two terms of a selector say the same, whatever the order of their values.
fn same_term(one: &Value, other: &Value) -> bool {
    let values = |term: &Value| {
        let mut values: Vec<String> = entries_of(&term["values"]).map(ToString::to_string).collect();
        values.sort();
        values
    };
    one["key"] == other["key"] && one["operator"] == other["operator"] && values(one) == values(other)
}

fn shortened(value: &Value) -> String {
    const CHARS_MAX: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
