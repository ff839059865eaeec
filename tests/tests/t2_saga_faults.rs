//! T2: whatever crashes or fails in the middle, an operation ends whole or without a trace.
//!
//! Steps and moments are enumerated from the code, calls of the Kubernetes API from a run without faults: a new step is
//! covered by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api as KubeApi,
    api::{DeleteParams, PostParams},
};
use provisioner::tenancy::{FaultPoint, Moment, Step};
use serde_json::json;
use tests::api::{Api, Wanted};
use tests::tenants::{Fault, FaultProxy, Plan, Replica, Rig};
use uuid::Uuid;

/// Cases that are tried at once: most of their time they wait for leases and deletions.
const TOGETHER: usize = 8;
/// How long a crashing program may take to end.
const CRASH_LIMIT: Duration = Duration::from_secs(30);

/// Runs cases side by side; the names and causes of those that failed.
async fn defects<F>(cases: impl IntoIterator<Item = (String, F)>) -> Vec<String>
where
    F: Future<Output = Result<()>>,
{
    stream::iter(cases)
        .map(|(name, case)| async move { case.await.err().map(|error| format!("{name}: {error:#}")) })
        .buffer_unordered(TOGETHER)
        .filter_map(async |defect| defect)
        .collect()
        .await
}

/// An owner who is logged in needs no password, so nothing of the request is lost in a crash.
struct Owner {
    wanted: Wanted,
    token: String,
}

impl Owner {
    async fn create(api: &Api) -> Result<Self> {
        let wanted = Wanted::fresh("Owner");
        api.create(&wanted, None).await?.expect(201)?;
        let token = api.login_owner(&wanted).await?.token().to_owned();
        Ok(Self { wanted, token })
    }

    /// Another organization of the same owner.
    fn another(&self) -> Wanted {
        Wanted { email: self.wanted.email.clone(), password: None, ..Wanted::fresh("Crash") }
    }
}

/// Crashes a provisioner at `point` while it makes an organization, and lets another go on; how it ended.
async fn crash(
    rig: &Rig,
    rescuer: &Api,
    point: FaultPoint,
    owner: Option<&Owner>,
    wanted: &Wanted,
) -> Result<String> {
    let Replica { mut program, api } = rig.replica(&[("FAULT_POINT", &point.to_string())]).await?;
    let by_owner = |api: Api| owner.map_or(api.clone(), |owner| api.with_token(&owner.token));
    let key = Uuid::new_v4().to_string();
    let answer = by_owner(api).create(wanted, Some(&key)).await;
    ensure!(answer.is_err(), "it did not crash: {answer:?}");
    let status = program.wait(CRASH_LIMIT).await?;
    ensure!(!status.success(), "it did not crash");
    let outcome = rig.judge(&key, &wanted.namespace()?).await.with_context(|| program.log())?;
    let again = by_owner(rescuer.clone()).create(wanted, Some(&key)).await?;
    match outcome.state.as_str() {
        "COMMITTED" => {
            ensure!(again.body["id"] == json!(outcome.organization), "not the first answer: {again:?}");
        }
        _ => ensure!(again.status.as_u16() >= 400, "not the first answer: {again:?}"),
    }
    Ok(outcome.state)
}

/// All points at which a creation can crash on its way forward.
fn forward_points() -> impl Iterator<Item = FaultPoint> {
    let moments = [Moment::Before, Moment::During, Moment::After];
    Step::ALL.into_iter().flat_map(move |step| moments.map(|moment| FaultPoint { moment, step }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_leaves_a_whole_tenant_or_nothing() -> Result<()> {
    let rig = Rig::create().await?;
    let rescuer = rig.replica(&[]).await?;
    let cases = forward_points().map(|point| {
        let (rig, rescuer) = (&rig, &rescuer.api);
        let case = async move { crash(rig, rescuer, point, None, &Wanted::fresh("Crash")).await.map(drop) };
        (point.to_string(), case)
    });
    let defects = Box::pin(defects(cases)).await;
    assert!(defects.is_empty(), "{defects:#?}");
    drop(rescuer);
    rig.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_loses_nothing_is_always_resumed() -> Result<()> {
    let rig = Rig::create().await?;
    let rescuer = rig.replica(&[]).await?;
    let owner = Owner::create(&rescuer.api).await?;
    let cases = forward_points().map(|point| {
        let (rig, rescuer, owner) = (&rig, &rescuer.api, &owner);
        let case = async move {
            let state = crash(rig, rescuer, point, Some(owner), &owner.another()).await?;
            ensure!(state == "COMMITTED", "it ended {state}");
            Ok(())
        };
        (point.to_string(), case)
    });
    let defects = Box::pin(defects(cases)).await;
    assert!(defects.is_empty(), "{defects:#?}");
    drop(rescuer);
    rig.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_undoing_is_undone_to_the_end() -> Result<()> {
    let rig = Rig::create().await?;
    let rescuer = rig.replica(&[]).await?;
    let client = rig.platform().client().await?;
    let namespaces: KubeApi<Namespace> = KubeApi::all(client);
    let cases = Step::ALL.map(|step| {
        let (rig, rescuer, namespaces) = (&rig, &rescuer.api, &namespaces);
        let point = FaultPoint { moment: Moment::Undo, step };
        let case = async move {
            let wanted = Wanted::fresh("Undo");
            let name = wanted.namespace()?;
            // Somebody else's namespace of that name makes the creation fail for good.
            let foreign: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
            let before = namespaces.create(&PostParams::default(), &foreign).await?;
            let state = crash(rig, rescuer, point, None, &wanted).await?;
            ensure!(state == "FAILED", "it ended {state}");
            let after = namespaces.get(&name).await?;
            ensure!(
                after.metadata.resource_version == before.metadata.resource_version,
                "it was touched: {after:?}"
            );
            namespaces.delete(&name, &DeleteParams::background()).await?;
            Ok(())
        };
        (point.to_string(), case)
    });
    let defects = Box::pin(defects(cases)).await;
    assert!(defects.is_empty(), "{defects:#?}");
    drop(rescuer);
    rig.remove().await
}

/// Faults of the apiserver that pass.
const PASSING: [Fault; 5] = [
    Fault::Status(500, "InternalError"),
    Fault::Status(409, "Conflict"),
    Fault::Status(429, "TooManyRequests"),
    Fault::Status(503, "ServiceUnavailable"),
    Fault::Silence,
];

/// The rig with a replica whose way to the apiserver goes through a proxy, and the calls that one creation makes.
async fn proxied(changes: &[(&str, &str)]) -> Result<(Rig, FaultProxy, Replica, Vec<String>)> {
    let rig = Rig::create().await?;
    let proxy = FaultProxy::start(rig.platform(), rig.kubeconfig()).await?;
    let kubeconfig = proxy.kubeconfig(rig.kubeconfig())?;
    let kubeconfig = kubeconfig.to_str().context("a path in UTF-8")?;
    let mut settings = vec![("KUBECONFIG", kubeconfig), ("CALL_MILLISECONDS_MAX", "1000")];
    settings.extend(changes);
    let replica = rig.replica(&settings).await?;
    let wanted = Wanted::fresh("Calls");
    replica.api.create(&wanted, None).await?.expect(201)?;
    let calls: Vec<String> = proxy.seen(&wanted.namespace()?).into_iter().collect();
    ensure!(calls.len() >= 8, "calls of a creation: {calls:?}");
    Ok((rig, proxy, replica, calls))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_fault_of_any_call_is_overcome() -> Result<()> {
    let (rig, proxy, replica, calls) = proxied(&[("WAIT_MILLISECONDS_MAX", "80000")]).await?;
    let cases = calls.iter().flat_map(|call| PASSING.map(|fault| (call, fault))).flat_map(|(call, fault)| {
        [false, true].map(|takes_effect| {
            let (rig, proxy, api) = (&rig, &proxy, &replica.api);
            let case = async move {
                let (wanted, key) = (Wanted::fresh("Passing"), Uuid::new_v4().to_string());
                let namespace = wanted.namespace()?;
                proxy.plan(&namespace, Plan { call: call.clone(), fault, takes_effect, times: 2 });
                let answer = api.create(&wanted, Some(&key)).await?.expect(201)?;
                ensure!(proxy.left(&namespace) < 2, "no such call was made: {answer:?}");
                rig.judge(&key, &namespace).await.map(drop)
            };
            (format!("{call} {fault:?}, takes effect: {takes_effect}"), case)
        })
    });
    let defects = Box::pin(defects(cases)).await;
    assert!(defects.is_empty(), "{defects:#?}");
    drop(replica);
    rig.remove().await
}

/// A fault that stays: the creation fails for good, or is given up.
async fn fails_without_a_trace(settings: &[(&str, &str)], fault: Fault, takes_effect: bool) -> Result<()> {
    let (rig, proxy, replica, calls) = proxied(settings).await?;
    let cases = calls.iter().map(|call| {
        let (rig, proxy, api) = (&rig, &proxy, &replica.api);
        let case = async move {
            let (wanted, key) = (Wanted::fresh("Staying"), Uuid::new_v4().to_string());
            let namespace = wanted.namespace()?;
            proxy.plan(&namespace, Plan { call: call.clone(), fault, takes_effect, times: u32::MAX });
            let answer = api.create(&wanted, Some(&key)).await?;
            let outcome = rig.judge(&key, &namespace).await?;
            if outcome.state != "FAILED" || answer.status.as_u16() < 400 {
                bail!("it ended {}, with {answer:?}", outcome.state);
            }
            Ok(())
        };
        (format!("{call} {fault:?}"), case)
    });
    let defects = Box::pin(defects(cases)).await;
    assert!(defects.is_empty(), "{defects:#?}");
    drop(replica);
    rig.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_any_call_is_undone() -> Result<()> {
    let settings = [("WAIT_MILLISECONDS_MAX", "80000")];
    fails_without_a_trace(&settings, Fault::Status(403, "Forbidden"), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_stays_is_given_up_and_undone() -> Result<()> {
    let settings = [("WAIT_MILLISECONDS_MAX", "80000"), ("OPERATION_MILLISECONDS_MAX", "2500")];
    fails_without_a_trace(&settings, Fault::Status(500, "InternalError"), true).await
}
