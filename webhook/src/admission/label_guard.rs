//! The label guard: who may write the labels and annotations of a namespace that decide what may run in it.

use std::fmt;

use contract::{names, proof::Defect};

use super::{
    answer::Verdict,
    metadata::{self, Metadata},
    policy::{Policy, Standing},
    refusal::{Refusal, listed},
    review::{Operation, Request},
};

/// The longest list of keys in one message.
const KEYS_MAX: usize = 5;
/// The longest value in a message.
const VALUE_CHARS_MAX: usize = 60;

/// What the guard says to a change of a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum GuardVerdict {
    /// Decided.
    Decided(Verdict),
    /// The namespace would be ready: its baseline must be proved by a live read first.
    Prove,
}

/// A guarded key that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    place: &'static str,
    key: String,
    from: Option<String>,
    to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, .. } = self;
        match (self.from.as_deref().map(shortened), self.to.as_deref().map(shortened)) {
            (None, Some(to)) => write!(formatter, "{place} {key} would be set to {to:?}"),
            (Some(from), None) => write!(formatter, "{place} {key} ({from:?}) would be removed"),
            (Some(from), Some(to)) => write!(formatter, "{place} {key} would change from {from:?} to {to:?}"),
            (None, None) => write!(formatter, "{place} {key}"),
        }
    }
}

/// The beginning of a value: an annotation may have 256 KiB, a message should not.
fn shortened(value: &str) -> String {
    let mut short: String = value.chars().take(VALUE_CHARS_MAX).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    short
}

/// Decides about the creation or change of a namespace, its subresources included.
pub fn decide(policy: &Policy, request: &Request<'_>) -> GuardVerdict {
    let read = |object: Option<_>, what| match object {
        None => Ok(Metadata::default()),
        Some(raw) => metadata::read(raw).map_err(|error| Refusal::unreadable(what, &error.to_string())),
    };
    let Some(object) = request.object else {
        return refused(Refusal::unreadable("namespace", "the request has no object"));
    };
    match (read(request.old_object, "old namespace"), read(Some(object), "namespace")) {
        (Ok(old), Ok(new)) => decide_change(policy, request, &old, &new),
        (Err(refusal), _) | (_, Err(refusal)) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> GuardVerdict {
    GuardVerdict::Decided(Verdict::refuse(refusal))
}

fn decide_change(
    policy: &Policy,
    request: &Request<'_>,
    old: &Metadata<'_>,
    new: &Metadata<'_>,
) -> GuardVerdict {
    let changes = guarded_changes(old, new);
    if changes.is_empty() {
        return GuardVerdict::Decided(Verdict::allow("unguarded"));
    }
    let name = new.name.as_deref().unwrap_or_else(|| request.name());
    if request.operation == Operation::Create && new.label(names::GATE_LABEL).is_some() {
        return refused(ready_at_creation(name));
    }
    let standing = policy.standing(&request.user_info);
    if standing == Standing::Other {
        return refused(not_a_writer(policy, request, name, &changes));
    }
    if is_ready(new) {
        // A writer too must not leave a ready namespace with less than its proof: owner, quota and Pod Security are part
        // of it, so that any guarded change of a ready namespace is proved anew.
        return GuardVerdict::Prove;
    }
    GuardVerdict::Decided(admitted(standing, request))
}

/// The verdict after the proof, from the defects that it found.
pub fn after_proof(policy: &Policy, request: &Request<'_>, defects: Vec<Defect>) -> Verdict {
    let defects = policy.divide(defects);
    if defects.refused.is_empty() {
        let admitted = admitted(policy.standing(&request.user_info), request);
        return defects.reported.iter().fold(admitted, |verdict, defect| {
            verdict
                .warn(format!("{defect}; the namespace is less isolated than it says"))
                .annotate("open-beside", defect.to_string())
        });
    }
    let missing: Vec<String> = defects.refused.iter().map(ToString::to_string).collect();
    Verdict::refuse(Refusal::new(
        "not-proved",
        format!(
            "Namespace {:?} cannot be {}={}. A read of its baseline just now found missing or wrong: {}. To do: make or \
             repair these parts, then try again. No identity can set the label without them.",
            request.name(),
            names::GATE_LABEL,
            names::GATE_OPEN,
            listed(&missing),
        ),
    ))
}

fn admitted(standing: Standing, request: &Request<'_>) -> Verdict {
    match standing {
        Standing::BreakGlass => Verdict::allow("break-glass")
            .annotate("break-glass", request.user_info.username.as_str())
            .warn("break-glass was used to change guarded labels or annotations; it is in the audit log"),
        Standing::Writer | Standing::Other => Verdict::allow("writer"),
    }
}

fn is_ready(metadata: &Metadata<'_>) -> bool {
    metadata.label(names::GATE_LABEL) == Some(names::GATE_OPEN)
}

/// The guarded keys that differ, labels first.
pub fn guarded_changes(old: &Metadata<'_>, new: &Metadata<'_>) -> Vec<Change> {
    // A namespace that is called ready was proved with its Pod Security level, whoever's it is.
    let tenant =
        |metadata: &Metadata<'_>| metadata.label(names::ORGANIZATION_LABEL).is_some() || is_ready(metadata);
    let tenant = tenant(old) || tenant(new);
    let label = move |key: &str| {
        key == names::GATE_LABEL
            || key.starts_with(names::PREFIX)
            || (tenant && key.starts_with(names::POD_SECURITY_PREFIX))
    };
    let annotation = |key: &str| key.starts_with(names::PREFIX);
    let mut changes =
        differing("label", old.labels(), new.labels(), |key| old.label(key), |key| new.label(key), label);
    changes.extend(differing(
        "annotation",
        old.annotations(),
        new.annotations(),
        |key| old.annotation(key),
        |key| new.annotation(key),
        annotation,
    ));
    changes
}

fn differing<'m>(
    place: &'static str,
    old: impl Iterator<Item = (&'m str, &'m str)>,
    new: impl Iterator<Item = (&'m str, &'m str)>,
    old_value: impl Fn(&str) -> Option<&'m str>,
    new_value: impl Fn(&str) -> Option<&'m str>,
    guarded: impl Fn(&str) -> bool,
) -> Vec<Change> {
    let change = |key: &str, from: Option<&str>, to: Option<&str>| Change {
        place,
        key: key.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let mut changes: Vec<Change> = new
        .filter(|(key, value)| guarded(key) && old_value(key) != Some(value))
        .map(|(key, value)| change(key, old_value(key), Some(value)))
        .collect();
    changes.extend(
        old.filter(|(key, _)| guarded(key) && new_value(key).is_none())
            .map(|(key, value)| change(key, Some(value), None)),
    );
    changes
}

fn ready_at_creation(name: &str) -> Refusal {
    Refusal::new(
        "ready-at-creation",
        format!(
            "Namespace {name:?} was not created: label {} cannot be set at creation, by anyone, because nothing in a new \
             namespace can be isolated yet. To do: create it without the label; the provisioner sets it when the baseline \
             is proved.",
            names::GATE_LABEL,
        ),
    )
}

fn not_a_writer(policy: &Policy, request: &Request<'_>, name: &str, changes: &[Change]) -> Refusal {
    let verb = if request.operation == Operation::Create { "created" } else { "changed" };
    let mut parts: Vec<String> = changes.iter().take(KEYS_MAX).map(ToString::to_string).collect();
    if changes.len() > KEYS_MAX {
        parts.push(format!("{} more keys", changes.len() - KEYS_MAX));
    }
    Refusal::new(
        "not-a-writer",
        format!(
            "Namespace {name:?} was not {verb}: {}. These keys decide what may run there and are written only by {} or by \
             members of group {}; you are {:?}. To do: leave these keys out; to make a tenant, ask the provisioner (POST \
             /api/organizations); in an emergency act as a member of that group (kubectl --as=NAME --as-group=GROUP).",
            listed(&parts),
            policy.label_writers.join(", "),
            policy.break_glass_group,
            request.user_info.username.as_str(),
        ),
    )
}

#[cfg(test)]
#[path = "label_guard_tests.rs"]
mod tests;
