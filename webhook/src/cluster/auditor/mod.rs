//! The audit at work (row G11): follows the watch store and the baselines, examines what changed, and reports.
//!
//! Every replica audits for itself. Before it writes it reads what is there, and writes only what differs; names and content
//! follow from the objects alone. So two replicas that write at once write the same, one that dies is not missed, and
//! nobody need be elected.

pub mod baselines;
pub mod command;
pub mod metrics;
pub mod read;
pub mod settings;
mod state;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use time::OffsetDateTime;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    baselines::Touched,
    metrics::Metrics,
    state::{Proof, State},
    write::Writer,
};
use super::{
    configurations::Registration,
    live::{Heard, Live},
    store::{Change, Namespace, Stores},
};
use crate::{
    admission::policy::Policy,
    audit::{Finding, Object, event, namespaces, pods},
};

/// How often changes are examined.
const TICK: Duration = Duration::from_millis(250);
/// Namespaces examined a tick: a few milliseconds, so that reviews on the same threads do not wait.
const EXAMINED: usize = 1000;
/// Proofs begun a tick, and running at once: four lists each.
const PROOFS: (usize, usize) = (4, 4);
/// From the first word of a change to its proof: a tenant that is being made is proved once, and out of its way. Longer
/// than a proof takes, so that no two of one namespace run at once.
const PROVED_AFTER: Duration = Duration::from_secs(2);
/// Namespaces reported a tick, and at once.
const REPORTS: (usize, usize) = (4, 4);
/// How often the guards themselves, and which reports are served, are looked at.
const GUARDS_EVERY: Duration = Duration::from_secs(15);
/// Age at which a proof is made again though nothing was heard of a change, and findings are said again: Events last an hour.
const AGAIN_AFTER: Duration = Duration::from_mins(30);
/// Touched namespaces that may wait to be noted.
const TOUCHED_MAX: usize = 1024;

/// The audit of one replica.
pub struct Auditor {
    client: Client,
    live: Live,
    heard: Arc<Heard>,
    stores: Stores,
    policy: Arc<Policy>,
    registration: Registration,
    metrics: Metrics,
    writer: Arc<Writer>,
    state: State,
    /// To be examined, to be proved from when on, to be reported; by name, `""` for the cluster.
    changed: BTreeSet<Arc<str>>,
    unproved: BTreeMap<Arc<str>, Instant>,
    unreported: BTreeSet<Arc<str>>,
    guards: Vec<Finding>,
}

/// What a task of the auditor came to.
enum Done {
    Proof(Arc<str>, Proof),
    Guards(Vec<Finding>),
    Forms(bool),
    Reported,
}

impl Auditor {
    /// An auditor that has seen nothing yet.
    pub fn new(
        client: Client,
        live: Live,
        stores: Stores,
        policy: Arc<Policy>,
        registration: Registration,
        metrics: Metrics,
    ) -> Self {
        Self {
            writer: Arc::new(Writer::new(client.clone(), metrics.clone())),
            client,
            live,
            heard: Arc::default(),
            stores,
            policy,
            registration,
            metrics,
            state: State::default(),
            changed: BTreeSet::new(),
            unproved: BTreeMap::new(),
            unreported: BTreeSet::new(),
            guards: Vec::new(),
        }
    }

    /// Audits for ever.
    pub async fn run(mut self) {
        // Before the first look at everything, so that no change falls between the two.
        let (mut namespaces, mut pods) = (self.stores.namespaces.changes(), self.stores.pods.changes());
        self.stores.namespaces.synced().await;
        self.stores.pods.synced().await;
        let (sender, mut touched) = mpsc::channel(TOUCHED_MAX);
        let mut watches = JoinSet::new();
        for kind in baselines::KINDS {
            let (client, heard) = (self.client.clone(), Arc::clone(&self.heard));
            watches.spawn(baselines::follow(client, kind, heard, sender.clone()));
        }
        self.everything_changed();
        let mut tasks = JoinSet::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut guards_at = Instant::now() + GUARDS_EVERY;
        tasks.spawn(Self::forms(Arc::clone(&self.writer)));
        loop {
            tokio::select! {
                change = namespaces.recv() => self.note(change, |change| change.name),
                change = pods.recv() => self.note(change, |change| change.namespace),
                Some(touched) = touched.recv() => self.touched(touched),
                Some(done) = tasks.join_next() => self.done(done.unwrap_or(Done::Reported)),
                _ = tick.tick() => {
                    self.examine();
                    self.begin(&mut tasks);
                    if Instant::now() >= guards_at {
                        guards_at = Instant::now() + GUARDS_EVERY;
                        tasks.spawn(Self::look_at_guards(self.client.clone(), self.registration.clone()));
                        tasks.spawn(Self::forms(Arc::clone(&self.writer)));
                        self.grow_old();
                    }
                }
            }
        }
    }

    fn note(&mut self, change: Result<Change, RecvError>, name: impl Fn(Change) -> Arc<str>) {
        match change {
            Ok(change) => drop(self.changed.insert(name(change))),
            // Lagged: some changes are lost, so that everything may have changed. Closed cannot be, the stores are here.
            Err(_) => self.everything_changed(),
        }
    }

    fn everything_changed(&mut self) {
        let all = self.stores.namespaces.all();
        self.changed.extend(all.iter().map(|namespace| Arc::clone(&namespace.name)));
        self.changed.extend(self.state.names());
    }

    fn touched(&mut self, touched: Touched) {
        match touched {
            Touched::One(name) => self.note_unproved(name),
            Touched::Perhaps => {
                let all = self.stores.namespaces.all();
                for namespace in all {
                    if namespaces::wants_proof(&self.policy, &namespace) {
                        self.note_unproved(Arc::clone(&namespace.name));
                    }
                }
            }
        }
    }

    fn note_unproved(&mut self, name: Arc<str>) {
        // From the first change on: who changes something all the time is proved all the same.
        self.unproved.entry(name).or_insert_with(|| Instant::now() + PROVED_AFTER);
    }

    /// Looks at the namespaces that changed; no read, only what is known.
    fn examine(&mut self) {
        for _ in 0..EXAMINED {
            let Some(name) = self.changed.pop_first() else { break };
            if name.is_empty() {
                continue;
            }
            let Some(namespace) = self.stores.namespaces.get("", &name) else {
                self.state.forget(&name, &self.metrics);
                self.unproved.remove(&name);
                self.unreported.remove(&name);
                continue;
            };
            let wants = namespaces::wants_proof(&self.policy, &namespace);
            if self.state.meet(&namespace, now(), wants) {
                self.note_unproved(Arc::clone(&name));
            }
            let findings = self.findings(&namespace);
            if self.state.note(&name, &findings, &self.metrics) {
                self.unreported.insert(name);
            }
        }
    }

    /// All findings of a namespace, in a stable order.
    fn findings(&self, namespace: &Namespace) -> Vec<Finding> {
        let known = self.state.get(&namespace.name);
        let mut findings = match known.and_then(|known| known.proof.as_ref()) {
            Some(proof) => namespaces::examine(
                &self.policy,
                namespace,
                proof.as_ref().map(Vec::as_slice).map_err(String::as_str),
            ),
            None => Vec::new(),
        };
        let revoked = known.and_then(|known| known.revoked);
        for pod in self.stores.pods.of(&namespace.name) {
            findings.extend(pods::examine(&self.policy, namespace, &pod, revoked));
        }
        findings.sort();
        findings
    }

    /// Begins proofs and reports, a few a tick.
    fn begin(&mut self, tasks: &mut JoinSet<Done>) {
        let room = PROOFS.0.min(PROOFS.1.saturating_sub(self.state.proving));
        let now = Instant::now();
        let due = self.unproved.iter().filter(|(_, from)| **from <= now).take(room);
        for name in due.map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>() {
            self.unproved.remove(&name);
            if let Some(namespace) = self.stores.namespaces.get("", &name)
                && namespaces::wants_proof(&self.policy, &namespace)
            {
                self.state.proving += 1;
                tasks.spawn(Self::prove(self.live.clone(), Arc::clone(&self.heard), namespace));
            }
        }
        let room = REPORTS.0.min(REPORTS.1.saturating_sub(self.state.reporting));
        let due: Vec<Arc<str>> =
            self.unreported.iter().filter(|name| self.state.may_report(name)).take(room).cloned().collect();
        for name in due {
            self.unreported.remove(&name);
            let (object, findings) = if name.is_empty() {
                let object = Object { namespace: String::new(), ..Object::namespace("", "") };
                (object, self.guards.clone())
            } else {
                let Some(namespace) = self.stores.namespaces.get("", &name) else { continue };
                (Object::namespace(&name, &namespace.uid), self.findings(&namespace))
            };
            self.state.begin_report(&name);
            let writer = Arc::clone(&self.writer);
            tasks.spawn(async move {
                writer.report(&object, &findings, &event::announced(&object, &findings)).await;
                Done::Reported
            });
        }
    }

    async fn prove(live: Live, heard: Arc<Heard>, namespace: Arc<Namespace>) -> Done {
        let proof = live.prove_heard(&namespace, &heard).await;
        Done::Proof(Arc::clone(&namespace.name), proof)
    }

    async fn look_at_guards(client: Client, registration: Registration) -> Done {
        Done::Guards(read::guards(&client, &registration).await)
    }

    async fn forms(writer: Arc<Writer>) -> Done {
        Done::Forms(writer.discover().await)
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Proof(name, proof) => {
                self.state.proving = self.state.proving.saturating_sub(1);
                self.metrics.proved(&proof);
                self.state.proved(&name, proof);
                self.changed.insert(name);
            }
            Done::Guards(guards) => {
                let cluster: Arc<str> = Arc::from("");
                if self.state.note(&cluster, &guards, &self.metrics) {
                    self.unreported.insert(cluster);
                }
                self.guards = guards;
            }
            // Reports can be written that could not before: everything is to be said there too.
            Done::Forms(true) => self.unreported.extend(self.state.names()),
            Done::Forms(false) => {}
            Done::Reported => self.state.reporting = self.state.reporting.saturating_sub(1),
        }
    }

    /// Proves again what was proved long ago, and says again what was said long ago.
    fn grow_old(&mut self) {
        let (unproved, unreported) = self.state.old(AGAIN_AFTER);
        for name in unproved {
            self.note_unproved(name);
        }
        self.unreported.extend(unreported);
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
