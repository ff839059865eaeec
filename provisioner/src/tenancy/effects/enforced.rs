//! Ready means enforced: the proof that Kubernetes itself has taken the baseline in.
//!
//! The apiserver ignores a quota until kube-controller-manager has filled its status; pods need the default
//! ServiceAccount; the authorizer learns of a binding a moment after it is written.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use contract::names;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::{ResourceQuota, ServiceAccount},
};
use kube::{Api, api::PostParams};

use super::World;
use crate::{
    kube::call,
    tenancy::{Failure, Run},
};

/// Wait before the second look; later ones are longer.
const LOOK_FIRST: Duration = Duration::from_millis(3);
/// Longest wait between two looks.
const LOOK_LAST: Duration = Duration::from_millis(200);
/// How long one try looks before it counts as failed, so that the deadline is heeded.
const TRY_MAX: Duration = Duration::from_secs(2);

/// Waits for all three.
pub async fn wait(world: &World, run: &Run) -> Result<(), Failure> {
    let quota = until("the quota's status is not filled", || quota_counts(world, run));
    let account = until("the default ServiceAccount does not exist", || default_account_exists(world, run));
    let access = until("the owner's access is not effective", || owner_may_act(world, run));
    futures::try_join!(quota, account, access)?;
    Ok(())
}

async fn until<F: Future<Output = Result<bool, Failure>>>(
    otherwise: &str,
    look: impl Fn() -> F,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut pause = LOOK_FIRST;
    loop {
        if look().await? {
            return Ok(());
        }
        if start.elapsed() > TRY_MAX {
            return Err(Failure::transient(otherwise));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LOOK_LAST);
    }
}

async fn quota_counts(world: &World, run: &Run) -> Result<bool, Failure> {
    let api: Api<ResourceQuota> = world.tenant_api(run);
    let quota = call(world.call_max, api.get(names::QUOTA_NAME)).await?;
    Ok(is_counted(&quota))
}

/// Whether the controller has taken the quota in: `status.hard` says what `spec.hard` says, and usage is counted.
fn is_counted(quota: &ResourceQuota) -> bool {
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let hard = status.and_then(|status| status.hard.as_ref());
    let used = status.and_then(|status| status.used.as_ref());
    wanted.is_some() && wanted == hard && used.is_some()
}

async fn default_account_exists(world: &World, run: &Run) -> Result<bool, Failure> {
    let api: Api<ServiceAccount> = world.tenant_api(run);
    Ok(call(world.call_max, api.get_metadata_opt("default")).await?.is_some())
}

async fn owner_may_act(world: &World, run: &Run) -> Result<bool, Failure> {
    let api: Api<SubjectAccessReview> = Api::all(world.kube.clone());
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(run.operation.owner.name().to_owned()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(run.operation.slug.namespace()),
                verb: Some("create".into()),
                resource: Some("pods".into()),
                version: Some("v1".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = call(world.call_max, api.create(&PostParams::default(), &question)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quota_counts_when_its_status_says_what_its_spec_says() {
        let check = |status: serde_json::Value, expect: bool| {
            let quota: ResourceQuota =
                serde_json::from_value(json!({"spec": {"hard": {"requests.cpu": "10"}}, "status": status}))
                    .unwrap();
            assert_eq!(is_counted(&quota), expect, "{status}");
        };
        check(json!({"hard": {"requests.cpu": "10"}, "used": {"requests.cpu": "0"}}), true);
        check(json!({"hard": {"requests.cpu": "9"}, "used": {"requests.cpu": "0"}}), false);
        check(json!({"hard": {"requests.cpu": "10"}}), false);
        check(json!({}), false);
    }
}
