//! A lane: one pod after another in one namespace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::names;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::State;
use super::report::{Outcome, Report};

/// Between two pods of a lane.
const PAUSE: Duration = Duration::from_millis(60);
/// How long the apiserver may take; its own limit for a webhook is shorter.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The apiserver's selector may lag behind the label for this long.
const LAG: Duration = Duration::from_secs(1);
/// How long a changing namespace stays as it is.
const STAY: Duration = Duration::from_secs(3);
/// Sends of one request: a client's kept connection may have ended with the apiserver's process.
const TRIES: u32 = 3;
/// Waits before a pod is asked for again because Kubernetes' own count of the quota was changed meanwhile: its controllers
/// wait and ask again too (kubernetes/kubernetes#67761), and at once the same stale count would be met.
const CONFLICT_PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(180),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// What became of a request to create a pod.
enum Fate {
    Created,
    Refused(String),
    /// No answer, and the apiserver was down meanwhile.
    Down,
    /// No answer though it was up.
    Silent(String),
}

/// One pod after another in one namespace.
pub struct Lane {
    pods: Api<Pod>,
    namespace: String,
    state: Arc<State>,
    report: Arc<Report>,
    stop: CancellationToken,
}

impl Lane {
    pub fn new(
        client: &Client,
        namespace: &str,
        state: &Arc<State>,
        report: &Arc<Report>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            pods: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            state: Arc::clone(state),
            report: Arc::clone(report),
            stop: stop.clone(),
        }
    }

    /// Pods in a namespace that is never ready, with or without a whole baseline.
    pub async fn never_ready(self, complete: bool) {
        let right = if complete { "Its baseline is complete" } else { "Missing or wrong in its baseline: " };
        while !self.stop.is_cancelled() {
            let (outcome, detail) = match self.create().await {
                Fate::Created => (Outcome::LetIn, String::new()),
                Fate::Refused(why) => (refusal(&why, right, Outcome::Refused), why),
                Fate::Down => (Outcome::Down, String::new()),
                Fate::Silent(why) => (Outcome::Unreachable, why),
            };
            self.report.count(outcome, &format!("{}: {detail}", self.namespace));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Pods in a namespace that is ready.
    pub async fn ready(self) {
        while !self.stop.is_cancelled() {
            self.ready_once().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ready_once(&self) {
        let (outcome, detail) = match self.create().await {
            Fate::Created => (Outcome::Ready, String::new()),
            Fate::Refused(why) | Fate::Silent(why) => (Outcome::ReadyFailed, why),
            Fate::Down => (Outcome::Down, String::new()),
        };
        self.report.count(outcome, &format!("{}: {detail}", self.namespace));
    }

    /// Pods in a namespace that becomes ready and ceases to be.
    pub async fn changing(self, writer: Client) {
        let namespaces: Api<Namespace> = Api::all(writer);
        while !self.stop.is_cancelled() {
            if self.label(&namespaces, Some("true")).await.is_none() {
                continue;
            }
            // What is refused now was decided before the label was there, or not: see `ready` for what must be let in.
            tokio::time::sleep(LAG).await;
            let until = Instant::now() + STAY;
            while Instant::now() < until && !self.stop.is_cancelled() {
                self.ready_once().await;
                tokio::time::sleep(PAUSE).await;
            }
            let Some(removed) = self.label(&namespaces, None).await else { continue };
            while removed.elapsed() < STAY && !self.stop.is_cancelled() {
                let late = removed.elapsed() > LAG;
                let (outcome, detail) = match self.create().await {
                    Fate::Created if late => (Outcome::LetInLate, format!("{:?}", removed.elapsed())),
                    Fate::Created => (Outcome::LetInAtOnce, String::new()),
                    Fate::Refused(why) => {
                        (refusal(&why, "Its baseline is complete", Outcome::RefusedAfter), why)
                    }
                    Fate::Down => (Outcome::Down, String::new()),
                    Fate::Silent(why) => (Outcome::Unreachable, why),
                };
                self.report.count(outcome, &format!("{} after removal: {detail}", self.namespace));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Sets or removes the label, trying until it is done; when that was. Nothing when the load ends before.
    async fn label(&self, namespaces: &Api<Namespace>, value: Option<&str>) -> Option<Instant> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {names::GATE_LABEL: value}}}));
        let params = PatchParams::default();
        while !self.stop.is_cancelled() {
            let write = namespaces.patch(&self.namespace, &params, &patch);
            if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_MAX, write).await {
                return Some(Instant::now());
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    async fn create(&self) -> Fate {
        let (mut sends, mut pauses) = (0, CONFLICT_PAUSES.iter());
        loop {
            let before = self.state.up();
            let pod = pod();
            let created =
                tokio::time::timeout(ANSWER_MAX, self.pods.create(&PostParams::default(), &pod)).await;
            if let Ok(Ok(pod)) = created {
                let name = pod.metadata.name.unwrap_or_default();
                let at_once = DeleteParams::default().grace_period(0);
                // What stays goes with its namespace.
                let _ = tokio::time::timeout(ANSWER_MAX, self.pods.delete(&name, &at_once)).await;
                return Fate::Created;
            }
            if before.is_none() || before != self.state.up() {
                return Fate::Down;
            }
            let why = match created {
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    let Some(pause) = pauses.next() else { return Fate::Refused(status.message.clone()) };
                    self.report.count(Outcome::QuotaConflict, &self.namespace);
                    tokio::time::sleep(*pause).await;
                    continue;
                }
                Ok(Err(kube::Error::Api(status))) => return Fate::Refused(status.message.clone()),
                Ok(Err(error)) => error.to_string(),
                _ => format!("no answer within {ANSWER_MAX:?}"),
            };
            sends += 1;
            if sends == TRIES {
                return Fate::Silent(why);
            }
        }
    }
}

/// How a refusal counts, if `right` is its reason.
fn refusal(why: &str, right: &str, as_it_should: Outcome) -> Outcome {
    if why.contains("ValidatingAdmissionPolicy") {
        Outcome::SecondLock
    } else if why.contains("failed calling webhook") {
        Outcome::Unreachable
    } else if why.contains("cannot tell whether") || why.contains("could not be read") {
        Outcome::Unknown
    } else if why.contains(right) {
        as_it_should
    } else {
        Outcome::WrongReason
    }
}

/// A pod that no scheduler takes, and that fits into any quota.
fn pod() -> Pod {
    let mut pod = crate::pods::pod("x", &["sleep"]);
    // The injection is asked, and adds nothing: the sidecar's limits would fill the quota whenever Kubernetes is slow to count
    // deleted pods, after a restart of the apiserver say.
    pod["metadata"] = json!({"generateName": "load-", "annotations": {names::INJECT_LABEL: "disabled"}});
    pod["spec"]["schedulerName"] = json!("nobody");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}});
    serde_json::from_value(pod).unwrap_or_default()
}
