//! What `webhook review` prints.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::read::{Item, Place};
use crate::admission::answer::{self, Verdict};

/// What was decided about one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where the item was.
    pub place: Place,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The verdict; nothing for what the gate has no rule for.
    pub verdict: Option<Verdict>,
    /// Of an AdmissionReview: the uid to answer to.
    pub uid: Option<String>,
}

impl Outcome {
    /// A decided item.
    pub fn new(item: &Item, namespace: String, verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..Self::without_rule(item, namespace) }
    }

    /// An item that the gate has no rule for.
    pub fn without_rule(item: &Item, namespace: String) -> Self {
        let (place, kind, name) = (item.place.clone(), item.kind.clone(), item.name.clone());
        Self { place, kind, namespace, name, verdict: None, uid: None }
    }

    /// Whether the item would not come in.
    pub fn refused(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| !verdict.allowed())
    }
}

/// Whether everything would come in.
pub fn admitted(outcomes: &[Outcome]) -> bool {
    !outcomes.iter().any(Outcome::refused)
}

/// For people: a paragraph an item that was decided, and a line that counts.
pub fn text(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    let mut decided = 0;
    for outcome in outcomes {
        let Some(verdict) = &outcome.verdict else { continue };
        decided += 1;
        let word = if verdict.allowed() { "admitted" } else { "refused " };
        let object = match (outcome.kind.as_str(), outcome.namespace.as_str()) {
            ("Namespace", _) | (_, "") => outcome.name.clone(),
            (_, namespace) => format!("{namespace}/{}", outcome.name),
        };
        let _ = writeln!(out, "{word} {} {object} ({}): {}", outcome.kind, outcome.place, verdict.reason);
        let message = verdict.refusal.iter().map(|refusal| refusal.message.clone());
        let warnings = verdict.warnings.iter().map(|warning| format!("Warning: {warning}"));
        let audit = verdict.audit.iter().map(|(key, value)| format!("Audit: {key}: {value}"));
        for line in message.chain(warnings).chain(audit) {
            let _ = writeln!(out, "         {line}");
        }
    }
    let refused = outcomes.iter().filter(|outcome| outcome.refused()).count();
    let _ =
        writeln!(out, "{decided} decided, {refused} refused; {} without a rule", outcomes.len() - decided);
    out
}

/// For programs: one object.
pub fn json(outcomes: &[Outcome]) -> Value {
    let decisions: Vec<Value> = outcomes.iter().map(decision).collect();
    json!({"admitted": admitted(outcomes), "decisions": decisions})
}

fn decision(outcome: &Outcome) -> Value {
    let mut value = json!({
        "document": outcome.place.document, "path": outcome.place.path,
        "kind": outcome.kind, "namespace": outcome.namespace, "name": outcome.name,
        "decided": outcome.verdict.is_some(),
    });
    if let Some(verdict) = &outcome.verdict {
        value["allowed"] = json!(verdict.allowed());
        value["reason"] = json!(verdict.reason);
        if let Some(refusal) = &verdict.refusal {
            value["message"] = json!(refusal.message);
        }
        value["warnings"] = json!(verdict.warnings);
        value["auditAnnotations"] = verdict.audit.iter().map(|(key, value)| (*key, value.as_str())).collect();
        if let Some(patch) = &verdict.patch {
            value["patch"] = serde_json::from_slice(patch).unwrap_or(Value::Null);
        }
        if let Some(uid) = &outcome.uid {
            value["review"] = serde_json::from_slice(&answer::encode(uid, verdict)).unwrap_or(Value::Null);
        }
    }
    value
}
