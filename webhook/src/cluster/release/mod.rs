//! The release controller: takes our scheduling gate off held pods once their namespace is ready.
//!
//! Every replica runs it, and none leads: what is done is decided from the API server's own state, and done only to the
//! version of the pod that was read. It is driven by level: changes make it look at once, and a sweep looks at every held
//! pod, so that nothing depends on a message that was lost.

mod api;
mod batch;
mod kept;
mod metrics;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use api::Kubernetes;
use batch::{Batch, End};
use kept::Kept;
pub use metrics::Metrics;
use runtime::backoff::Backoff;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
};

use super::store::{Change, Pod, Store, Stores};
use crate::{
    admission::{gate::Namespace, policy::Policy, release::may_release},
    jitter::jitter,
};

/// How often every held pod is looked at, whatever has been heard of.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Namespaces that are released at once; others wait for the next sweep.
const NAMESPACES_AT_ONCE: usize = 16;
/// First and longest wait before a namespace is looked at again in which something could not be done.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the batches share.
struct Shared {
    kubernetes: Kubernetes,
    policy: Arc<Policy>,
    pods: Store<Pod>,
    kept: Kept,
    metrics: Metrics,
    /// A number of this replica's own.
    replica: u64,
}

/// The release controller.
pub struct Release {
    shared: Arc<Shared>,
    stores: Stores,
    running: JoinSet<(Arc<str>, End)>,
    /// Namespaces that are being released; those that have to be looked at again afterwards.
    busy: HashMap<Arc<str>, bool>,
    backoffs: HashMap<Arc<str>, Backoff>,
}

impl Release {
    /// A controller that sees through these stores and writes with this client.
    pub fn new(client: kube::Client, policy: Arc<Policy>, stores: Stores, metrics: Metrics) -> Self {
        let shared = Shared {
            kubernetes: Kubernetes::new(client),
            policy,
            pods: stores.pods.clone(),
            kept: Kept::default(),
            metrics,
            replica: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        Self {
            shared: Arc::new(shared),
            stores,
            running: JoinSet::new(),
            busy: HashMap::new(),
            backoffs: HashMap::new(),
        }
    }

    /// Releases for ever.
    pub async fn run(mut self) {
        let (mut namespaces, mut pods) = (self.stores.namespaces.changes(), self.stores.pods.changes());
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = heard(&mut namespaces) => match change {
                    Some(change) => self.namespace_changed(&change),
                    None => self.sweep(),
                },
                change = heard(&mut pods) => match change {
                    Some(change) => self.pod_changed(&change),
                    None => self.sweep(),
                },
                _ = sweep.tick() => self.sweep(),
                Some(ended) = self.running.join_next() => {
                    match ended {
                        Ok((namespace, end)) => self.ended(&namespace, end),
                        // A panic in one batch must not keep its namespace busy for ever.
                        Err(error) => {
                            tracing::error!(%error, "release: a batch broke off");
                            self.running.abort_all();
                            self.busy.clear();
                        }
                    }
                }
            }
        }
    }

    fn namespace_changed(&mut self, change: &Change) {
        // Only who has held pods costs anything.
        if !change.gone && self.stores.pods.of(&change.name).iter().any(|pod| pod.is_held()) {
            self.consider(&change.name);
        }
    }

    fn pod_changed(&mut self, change: &Change) {
        let held = self.stores.pods.get(&change.namespace, &change.name).is_some_and(|pod| pod.is_held());
        if held {
            self.consider(&change.namespace);
        }
    }

    /// Looks at every held pod.
    fn sweep(&mut self) {
        let held: Vec<_> = self.stores.pods.all().into_iter().filter(|pod| pod.is_held()).collect();
        if self.shared.kept.len() > 0 {
            let uids: HashSet<&str> = held.iter().map(|pod| pod.uid.as_ref()).collect();
            self.shared.kept.retain(|uid| uids.contains(uid));
        }
        let namespaces: HashSet<Arc<str>> = held
            .iter()
            .filter(|pod| !self.shared.kept.waits(&pod.uid))
            .map(|pod| Arc::clone(&pod.namespace))
            .collect();
        self.backoffs.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            // A batch that runs sees what the sweep saw.
            if !self.busy.contains_key(&namespace) {
                self.consider(&namespace);
            }
        }
    }

    /// Releases a namespace's held pods if it may, by what the watch knows; the batch reads it live.
    fn consider(&mut self, namespace: &Arc<str>) {
        let known = self.stores.namespaces.get("", namespace);
        let may = known.is_some_and(|known| {
            let known = Namespace {
                labels: known.labels.to_map(),
                terminating: known.terminating,
                ..Namespace::default()
            };
            may_release(&self.shared.policy, namespace, &known)
        });
        if !may {
            return;
        }
        if let Some(again) = self.busy.get_mut(namespace) {
            *again = true;
        } else if self.busy.len() < NAMESPACES_AT_ONCE {
            self.start(Arc::clone(namespace), Duration::ZERO);
        }
    }

    fn start(&mut self, namespace: Arc<str>, wait: Duration) {
        self.busy.insert(Arc::clone(&namespace), false);
        let shared = Arc::clone(&self.shared);
        self.running.spawn(async move {
            tokio::time::sleep(wait).await;
            let end = Batch::new(&shared, &namespace).run().await;
            (namespace, end)
        });
    }

    fn ended(&mut self, namespace: &Arc<str>, end: End) {
        let again = self.busy.remove(namespace).unwrap_or_default();
        if end == End::Again {
            let backoff =
                self.backoffs.entry(Arc::clone(namespace)).or_insert_with(|| Backoff::new(RETRY.0, RETRY.1));
            let wait = backoff.next(jitter());
            self.start(Arc::clone(namespace), wait);
            return;
        }
        self.backoffs.remove(namespace);
        if again {
            self.consider(namespace);
        }
    }
}

/// The next change; nothing when some were lost.
async fn heard(changes: &mut Receiver<Change>) -> Option<Change> {
    match changes.recv().await {
        Ok(change) => Some(change),
        Err(RecvError::Lagged(_)) => None,
        // The store is kept as long as the controller; it would only be the program's end.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}
