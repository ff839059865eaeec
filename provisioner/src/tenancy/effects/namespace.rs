//! The Namespace: created and never applied, deleted only if it is ours.

use contract::{baseline, names};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams, Preconditions};
use uuid::Uuid;

use super::World;
use crate::{
    kube::call,
    tenancy::{CauseKind, Failure, Run},
};

/// Whose a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This operation made it.
    Ours {
        /// Its UID.
        uid: String,
        /// Whether it is being deleted.
        terminating: bool,
    },
    /// Somebody else's, and it stays.
    Foreign,
    /// Somebody else's, and it is being deleted; this is what holds it up.
    ForeignTerminating(String),
}

/// Tells whose a namespace is, by the annotation that only the label guard's accounts can set.
pub fn judge(namespace: &Namespace, operation: Uuid) -> Verdict {
    let metadata = &namespace.metadata;
    let made_by = metadata.annotations.as_ref().and_then(|all| all.get(names::OPERATION_ANNOTATION));
    let terminating = metadata.deletion_timestamp.is_some();
    if made_by.is_some_and(|id| *id == operation.to_string()) {
        Verdict::Ours { uid: metadata.uid.clone().unwrap_or_default(), terminating }
    } else if terminating {
        Verdict::ForeignTerminating(what_blocks(namespace))
    } else {
        Verdict::Foreign
    }
}

/// What holds a deletion up, in the namespace controller's own words.
fn what_blocks(namespace: &Namespace) -> String {
    let status = namespace.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut reasons: Vec<String> = conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.clone())
        .filter(|message| !message.is_empty())
        .collect();
    let own = namespace.metadata.finalizers.as_deref().unwrap_or_default();
    let of_spec = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
    let finalizers: Vec<&str> = own.iter().chain(of_spec).map(String::as_str).collect();
    if reasons.is_empty() && !finalizers.is_empty() {
        reasons.push(format!("finalizers: {}", finalizers.join(", ")));
    }
    if reasons.is_empty() { "its contents are being deleted".to_owned() } else { reasons.join("; ") }
}

/// Creates the namespace, or recognises the one that an earlier try made.
pub async fn create(world: &World, run: &Run) -> Result<(), Failure> {
    let api = world.namespaces();
    let tenant = run.operation.tenant();
    let name = tenant.namespace();
    let wanted = baseline::namespace(&tenant);
    let parameters =
        PostParams { field_manager: Some(crate::kube::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let found = match call(world.call_max, api.create(&parameters, &wanted)).await {
        Ok(made) => made,
        Err(error) if error.is_already_exists() => call(world.call_max, api.get_opt(&name))
            .await?
            .ok_or_else(|| Failure::transient("the namespace existed and is gone"))?,
        Err(error) => return Err(error.into()),
    };
    match judge(&found, run.operation.id) {
        Verdict::Ours { uid, terminating: false } => {
            run.remember(|outputs| outputs.namespace_uid = Some(uid));
            Ok(())
        }
        Verdict::Ours { terminating: true, .. } => Err(Failure::permanent(
            CauseKind::Refused,
            format!("namespace {name} was deleted while it was being set up"),
        )),
        Verdict::Foreign => Err(Failure::permanent(
            CauseKind::NamespaceTaken,
            format!("namespace {name} exists and was not made by this request; it was left as it is"),
        )),
        Verdict::ForeignTerminating(reason) => Err(Failure::permanent(
            CauseKind::NamespaceTerminating,
            format!("namespace {name} is still being deleted: {reason}"),
        )),
    }
}

/// Deletes the namespace if this operation made it, and sees it gone.
pub async fn delete(world: &World, run: &Run) -> Result<(), Failure> {
    let api = world.namespaces();
    let name = run.operation.slug.namespace();
    let Some(found) = call(world.call_max, api.get_opt(&name)).await? else { return Ok(()) };
    let (uid, terminating) = match judge(&found, run.operation.id) {
        Verdict::Ours { uid, terminating } => (uid, terminating),
        Verdict::Foreign | Verdict::ForeignTerminating(_) => return Ok(()),
    };
    if !terminating {
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match call(world.call_max, api.delete(&name, &parameters)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::transient("the namespace is being deleted"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{NamespaceCondition, NamespaceStatus},
        apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    fn namespace(operation: Option<Uuid>, terminating: bool) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.uid = Some("u".into());
        namespace.metadata.annotations =
            operation.map(|id| [(names::OPERATION_ANNOTATION.to_owned(), id.to_string())].into());
        namespace.metadata.deletion_timestamp = terminating.then_some(Time(jiff::Timestamp::UNIX_EPOCH));
        namespace
    }

    #[test]
    fn only_the_operations_own_namespace_is_ours() {
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(
            judge(&namespace(Some(ours), false), ours),
            Verdict::Ours { uid: "u".into(), terminating: false }
        );
        assert_eq!(
            judge(&namespace(Some(ours), true), ours),
            Verdict::Ours { uid: "u".into(), terminating: true }
        );
        assert_eq!(judge(&namespace(Some(other), false), ours), Verdict::Foreign);
        assert_eq!(judge(&namespace(None, false), ours), Verdict::Foreign);
    }

    #[test]
    fn what_holds_a_deletion_up_is_told() {
        let mut stuck = namespace(None, true);
        stuck.status = Some(NamespaceStatus {
            conditions: Some(vec![NamespaceCondition {
                status: "True".into(),
                message: Some(
                    "Some content in the namespace has finalizers remaining: x in 1 resource instances"
                        .into(),
                ),
                ..NamespaceCondition::default()
            }]),
            ..NamespaceStatus::default()
        });
        let Verdict::ForeignTerminating(reason) = judge(&stuck, Uuid::nil()) else { panic!("terminating") };
        assert!(reason.contains("finalizers remaining"), "{reason}");
        let mut held = namespace(None, true);
        held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
        assert_eq!(
            judge(&held, Uuid::nil()),
            Verdict::ForeignTerminating("finalizers: example.com/hold".into())
        );
    }
}
