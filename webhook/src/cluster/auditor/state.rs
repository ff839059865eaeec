//! What the auditor remembers of a namespace: little, for there may be ten thousand.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::proof::Defect;

use super::metrics::Metrics;
use crate::{
    audit::{Finding, Kind},
    cluster::store::Namespace,
};

/// What the proof found missing, or why it could not be made.
pub type Proof = Result<Vec<Defect>, String>;

/// One namespace; `""` is the cluster.
#[derive(Debug, Default)]
pub struct Known {
    uid: Box<str>,
    ready: bool,
    /// When the ready label was seen to go, in seconds since 1970.
    pub revoked: Option<i64>,
    /// Its last proof, if it wants one.
    pub proof: Option<Proof>,
    proved_at: Option<Instant>,
    /// When the last report was begun.
    reported_at: Option<Instant>,
    /// Labels and annotations that it was proved with, hashed.
    keys: u64,
    counts: [u32; Kind::ALL.len()],
    findings: Option<u64>,
    noted_at: Option<Instant>,
}

/// Time between two reports of one namespace: what changes all the time is no flood.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// All of them, and how much is under way.
#[derive(Debug, Default)]
pub struct State {
    known: HashMap<Arc<str>, Known>,
    /// Proofs under way.
    pub proving: usize,
    /// Reports under way.
    pub reporting: usize,
}

impl State {
    /// What is known of a namespace.
    pub fn get(&self, name: &str) -> Option<&Known> {
        self.known.get(name)
    }

    /// The names of all that are known.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.known.keys().cloned().collect()
    }

    /// Whether a namespace may be reported again already.
    pub fn may_report(&self, name: &str) -> bool {
        self.get(name).and_then(|known| known.reported_at).is_none_or(|at| at.elapsed() >= REPORT_EVERY)
    }

    /// A report is under way.
    pub fn begin_report(&mut self, name: &str) {
        self.reporting += 1;
        if let Some(known) = self.known.get_mut(name) {
            known.reported_at = Some(Instant::now());
        }
    }

    /// Takes note of a namespace as it is now; says whether it is to be proved (again).
    pub fn meet(&mut self, namespace: &Namespace, now: i64, wants_proof: bool) -> bool {
        let known = self.known.entry(Arc::clone(&namespace.name)).or_default();
        if known.uid != namespace.uid {
            // Another namespace of the same name: nothing of the old one holds.
            let (counts, findings, reported_at) = (known.counts, known.findings, known.reported_at);
            *known = Known { uid: namespace.uid.clone(), counts, findings, reported_at, ..Known::default() };
        }
        match (known.ready, namespace.is_ready()) {
            (true, false) => known.revoked = Some(now),
            (_, true) => known.revoked = None,
            (false, false) => {}
        }
        known.ready = namespace.is_ready();
        if !wants_proof {
            known.proof = None;
            known.proved_at = None;
            return false;
        }
        let keys = hash(&(&namespace.labels, &namespace.annotations));
        let changed = known.keys != keys;
        known.keys = keys;
        changed || known.proved_at.is_none()
    }

    /// Notes a proof.
    pub fn proved(&mut self, name: &Arc<str>, proof: Proof) {
        if let Some(known) = self.known.get_mut(name) {
            known.proof = Some(proof);
            known.proved_at = Some(Instant::now());
        }
    }

    /// Notes what was found; says whether it differs from before, or was never noted.
    pub fn note(&mut self, name: &Arc<str>, findings: &[Finding], metrics: &Metrics) -> bool {
        let known = self.known.entry(Arc::clone(name)).or_default();
        let mut counts = [0; Kind::ALL.len()];
        for (kind, count) in Kind::ALL.iter().zip(&mut counts) {
            *count = u32::try_from(findings.iter().filter(|finding| finding.kind == *kind).count())
                .unwrap_or(u32::MAX);
        }
        metrics.found(&known.counts, &counts);
        known.counts = counts;
        let hash = hash(&findings);
        let differs = known.findings != Some(hash);
        if differs || known.noted_at.is_none() {
            known.noted_at = Some(Instant::now());
        }
        known.findings = Some(hash);
        differs
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&mut self, name: &str, metrics: &Metrics) {
        if let Some(known) = self.known.remove(name) {
            metrics.found(&known.counts, &[0; Kind::ALL.len()]);
        }
    }

    /// Namespaces whose proof, and whose report with anything in it, is older than this.
    pub fn old(&mut self, age: Duration) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let (mut unproved, mut unreported) = (Vec::new(), Vec::new());
        for (name, known) in &mut self.known {
            if known.proved_at.is_some_and(|at| at.elapsed() > age) {
                unproved.push(Arc::clone(name));
            }
            let found = known.counts.iter().any(|count| *count > 0);
            if found && known.noted_at.is_some_and(|at| at.elapsed() > age) {
                known.noted_at = Some(Instant::now());
                unreported.push(Arc::clone(name));
            }
        }
        (unproved, unreported)
    }
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Object, cluster::store::Record};

    fn namespace(uid: &str, ready: &str) -> Namespace {
        let wire = serde_json::json!({"metadata": {"name": "shop", "uid": uid, "labels": {"isolation-ready": ready}}});
        Namespace::from_wire(serde_json::from_value(wire).unwrap())
    }

    #[test]
    fn a_label_that_goes_is_remembered_until_it_is_back() {
        let mut state = State::default();
        state.meet(&namespace("1", "false"), 1, true);
        assert_eq!(state.get("shop").unwrap().revoked, None, "it was never there");
        state.meet(&namespace("1", "true"), 2, true);
        state.meet(&namespace("1", "false"), 3, true);
        state.meet(&namespace("1", "false"), 4, true);
        assert_eq!(state.get("shop").unwrap().revoked, Some(3));
        state.meet(&namespace("1", "true"), 5, true);
        assert_eq!(state.get("shop").unwrap().revoked, None);
    }

    #[test]
    fn a_namespace_made_again_is_another() {
        let mut state = State::default();
        let name: Arc<str> = Arc::from("shop");
        state.meet(&namespace("1", "true"), 1, true);
        state.proved(&name, Ok(Vec::new()));
        assert!(!state.meet(&namespace("1", "true"), 2, true), "proved, and nothing changed");
        assert!(state.meet(&namespace("2", "false"), 3, true));
        let known = state.get("shop").unwrap();
        assert_eq!((known.proof.is_none(), known.revoked), (true, None));
    }

    #[test]
    fn counts_follow_what_is_found() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let mut state = State::default();
        let name: Arc<str> = Arc::from("shop");
        let finding =
            Finding { kind: Kind::StaticPod, object: Object::namespace("shop", "1"), message: String::new() };
        assert!(state.note(&name, &[finding.clone(), finding.clone()], &metrics));
        assert!(!state.note(&name, &[finding.clone(), finding.clone()], &metrics));
        assert_eq!(metrics.count(Kind::StaticPod), 2);
        assert!(state.note(&name, &[finding], &metrics));
        assert_eq!(metrics.count(Kind::StaticPod), 1);
        state.forget("shop", &metrics);
        assert_eq!(metrics.count(Kind::StaticPod), 0);
    }
}
