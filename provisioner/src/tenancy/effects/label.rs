//! The label that opens the gate. The namespace's UID goes with it: one made again under the name is another.

use contract::names;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    World,
    namespace::{Verdict, judge},
};
use crate::{
    kube::{CallError, call},
    tenancy::{CauseKind, Failure, Run},
};

/// Opens the gate.
pub async fn open_gate(world: &World, run: &Run) -> Result<(), Failure> {
    match patch(world, run, json!(names::GATE_OPEN)).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_conflict() => Err(explain_conflict(world, run).await?),
        Err(error) => Err(error.into()),
    }
}

/// Closes the gate, if it can be closed: the deletion that follows closes it too, and must not wait for a webhook.
pub async fn close_gate(world: &World, run: &Run) -> Result<(), Failure> {
    if run.outputs().namespace_uid.is_some()
        && let Err(error) = patch(world, run, Value::Null).await
        && !error.is_not_found()
    {
        tracing::warn!(operation = %run.operation.id, %error, "the gate is closed by the deletion alone");
    }
    Ok(())
}

async fn patch(world: &World, run: &Run, value: Value) -> Result<(), CallError> {
    let api = world.namespaces();
    let change =
        json!({"metadata": {"uid": run.outputs().namespace_uid, "labels": {names::GATE_LABEL: value}}});
    let parameters =
        PatchParams { field_manager: Some(crate::kube::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    call(
        world.call_max,
        api.patch_metadata(&run.operation.slug.namespace(), &parameters, &Patch::Merge(&change)),
    )
    .await?;
    Ok(())
}

/// A conflict is either a passing one of versions, or the namespace is not the one that we made.
async fn explain_conflict(world: &World, run: &Run) -> Result<Failure, Failure> {
    let name = run.operation.slug.namespace();
    let found = call(world.call_max, world.namespaces().get_opt(&name)).await?;
    let same = found.is_some_and(|found| {
        let verdict = judge(&found, run.operation.id);
        matches!(verdict, Verdict::Ours { uid, terminating: false } if Some(&uid) == run.outputs().namespace_uid.as_ref())
    });
    Ok(if same {
        Failure::transient("the namespace changed in the same moment")
    } else {
        Failure::permanent(
            CauseKind::Refused,
            format!("namespace {name} was replaced while it was being set up"),
        )
    })
}
