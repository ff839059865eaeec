//! The release of one namespace's held pods.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::ready};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use super::{
    Shared,
    api::{ApiError, Notice},
};
use crate::admission::release::{
    Action, Candidate, Controller, Held, Second, decide, held, kept_message, may_release, recreated_message,
};

/// Pods of one namespace that are worked on at once.
const PODS_AT_ONCE: usize = 32;
/// How long an answer about one candidate stands for others that are the same but for the name.
const ANSWER_LASTS: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is left that could be done now.
    Done,
    /// Something could not be done yet.
    Again,
}

/// An answer about one candidate, shared by those that ask while it stands.
type Answer = (Instant, Arc<OnceCell<Second>>);

#[derive(Deserialize)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
    uid: String,
}

/// The release of one namespace.
pub(super) struct Batch<'a> {
    shared: &'a Shared,
    namespace: &'a str,
    answers: Mutex<HashMap<String, Answer>>,
    told: Mutex<HashSet<Controller>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(shared: &'a Shared, namespace: &'a str) -> Self {
        Self { shared, namespace, answers: Mutex::default(), told: Mutex::default() }
    }

    /// Does with every held pod what is to be done now.
    pub(super) async fn run(self) -> End {
        let mut end = End::Done;
        let mut token = None;
        loop {
            let (mut pods, next) = match self.shared.kubernetes.pending(self.namespace, token).await {
                Ok(page) => page,
                Err(error) => return self.failed("listing its pods", &error),
            };
            // Live, for what the watch says may be old; and after each page, so that whatever is on it was there while the
            // namespace let go: a label taken back holds every pod that comes later.
            match self.shared.kubernetes.namespace(self.namespace).await {
                Ok(Some(found)) if may_release(&self.shared.policy, self.namespace, &found) => {}
                Ok(_) => return End::Done,
                Err(error) => return self.failed("reading the namespace", &error),
            }
            // Each replica in an order of its own, so that they do not all ask the same at the same time.
            pods.sort_by_cached_key(|pod| order(self.shared.replica, pod.get()));
            let this = &self;
            let ends = futures::stream::iter(pods).map(async move |pod| this.pod(&pod).await);
            let again =
                ends.buffer_unordered(PODS_AT_ONCE).filter(|end| ready(*end == End::Again)).count().await;
            if again > 0 {
                end = End::Again;
            }
            match next {
                Some(next) => token = Some(next),
                None => return end,
            }
        }
    }

    fn failed(&self, what: &str, error: &ApiError) -> End {
        tracing::warn!(namespace = self.namespace, %error, "release: {what} failed");
        End::Again
    }

    async fn pod(&self, raw: &RawValue) -> End {
        // Only now, one at a time: a pod in memory is many times its text.
        let Ok(named) = serde_json::from_str::<Named>(raw.get()) else { return End::Done };
        // What another replica has done meanwhile need not be done again; what is not known yet is.
        let known = self.shared.pods.get(self.namespace, &named.metadata.name);
        if known.is_some_and(|known| !known.is_held()) || self.shared.kept.waits(&named.metadata.uid) {
            return End::Done;
        }
        let pod = serde_json::from_str(raw.get()).ok().as_ref().and_then(held);
        let Some(pod) = &pod else { return End::Done };
        let second = self.second(&pod.candidate).await;
        let action = decide(&second, pod.owner.as_ref());
        let done = match &action {
            Action::Release => self.shared.kubernetes.release(self.namespace, pod).await,
            Action::Recreate(why) => self.recreate(pod, why).await,
            Action::Keep(why) => self.keep(pod, why).await,
            Action::Retry(why) => {
                tracing::warn!(namespace = self.namespace, pod = pod.name, why, "release: to be tried again");
                return End::Again;
            }
        };
        match done {
            Ok(()) => {
                self.shared.metrics.did(&action);
                tracing::info!(
                    namespace = self.namespace,
                    pod = pod.name,
                    uid = pod.uid,
                    ?action,
                    "held pod"
                );
                End::Done
            }
            // Somebody else was there first, or the pod has changed: the next look tells.
            Err(error) if error.is_stale() => End::Again,
            Err(error) => self.failed("changing a held pod", &error),
        }
    }

    /// What admission says about this candidate, by a dry run that nobody has asked for longer than [`ANSWER_LASTS`] ago.
    async fn second(&self, candidate: &Candidate) -> Second {
        let cell = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || (Instant::now(), Arc::default());
            let answer = answers.entry(candidate.key()).or_insert_with(fresh);
            if answer.0.elapsed() > ANSWER_LASTS {
                *answer = fresh();
            }
            Arc::clone(&answer.1)
        };
        cell.get_or_init(|| self.shared.kubernetes.admit(self.namespace, candidate)).await.clone()
    }

    async fn recreate(&self, pod: &Held, why: &str) -> Result<(), ApiError> {
        self.shared.kubernetes.delete(self.namespace, pod).await?;
        let Some(owner) = &pod.owner else { return Ok(()) };
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.clone()) {
            let message = recreated_message(&pod.name, why);
            self.tell(&Notice { about: owner, reason: "HeldPodRecreated", message }).await;
        }
        Ok(())
    }

    async fn keep(&self, pod: &Held, why: &str) -> Result<(), ApiError> {
        self.shared.kept.keep(&pod.uid);
        let about = Controller {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        self.tell(&Notice { about: &about, reason: "StaysHeld", message: kept_message(why) }).await;
        Ok(())
    }

    /// What cannot be told is not done any less.
    async fn tell(&self, notice: &Notice<'_>) {
        if let Err(error) = self.shared.kubernetes.tell(self.namespace, notice).await {
            tracing::warn!(namespace = self.namespace, %error, "release: an Event could not be written");
        }
    }
}

fn order(replica: u64, pod: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (replica, pod).hash(&mut hasher);
    hasher.finish()
}
