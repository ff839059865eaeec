//! A small model of what the gate promises for one namespace, and random operations that are held against it on the real
//! API server.

mod cluster;
mod operation;
mod run;

use std::time::{Duration, Instant};

pub use cluster::Clients;
pub use operation::{Actor, How, Mode, Operation, Part};
pub use run::{Kills, Sequence};

/// The API server's selectors may lag behind a label for this long.
pub const LAG: Duration = Duration::from_secs(1);

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not created.
    Refused,
    /// It is created without our scheduling gate.
    Admitted,
    /// It is created with our scheduling gate.
    Held,
}

/// A namespace that is there and not being deleted.
#[derive(Clone, Debug, Default)]
struct Namespace {
    /// The parts of the baseline that are as they should be.
    good: [bool; Part::ALL.len()],
    /// The parts that are there, whatever they say.
    present: [bool; Part::ALL.len()],
    ready: bool,
    mode: Mode,
    /// What a pod could also meet, and until when: the API server may not know yet what changed.
    past: Vec<(Verdict, Instant)>,
}

/// What the model believes about one namespace.
#[derive(Clone, Debug, Default)]
pub struct Model {
    namespace: Option<Namespace>,
}

impl Model {
    /// Whether the operation makes sense now; the others are not sent.
    pub fn may_try(&self, operation: Operation) -> bool {
        match (operation, &self.namespace) {
            (Operation::CreateNamespace, namespace) => namespace.is_none(),
            (Operation::Pod(How::ReplicaSet | How::Job) | Operation::Settle, None) => false,
            (Operation::Pod(_), _) => true,
            (Operation::Break(part, _) | Operation::Delete(part, _), Some(namespace)) => {
                // What lies beside is broken by being there.
                part == Part::Beside || namespace.present[part as usize]
            }
            (_, namespace) => namespace.is_some(),
        }
    }

    /// Whether a write goes through. Pods have [`Model::verdicts`].
    pub fn allows(&self, operation: Operation) -> bool {
        let Some(namespace) = &self.namespace else { return operation == Operation::CreateNamespace };
        let (whole, guarded) = (namespace.good.iter().all(|good| *good), |actor| actor != Actor::Admin);
        match operation {
            // The label is believed on proof alone, whoever sets it; a write that changes nothing is none.
            Operation::Ready(true, actor) => namespace.ready || (guarded(actor) && whole),
            Operation::Ready(false, actor) => !namespace.ready || guarded(actor),
            // Any change of what is guarded has a ready namespace proved anew.
            Operation::SetMode(mode, actor) => {
                namespace.mode == mode || (guarded(actor) && (whole || !namespace.ready))
            }
            // From the moment the baseline is whole, only those who guard it may make it less; and once the namespace is
            // called ready no part may get worse, whatever the others are.
            Operation::Break(part, actor) => {
                guarded(actor) || !(whole || namespace.ready && namespace.good[part as usize])
            }
            Operation::Delete(Part::Beside, _) => true,
            Operation::Delete(part, actor) => {
                // Of a policy that denies one direction still, something is left to lose.
                let worse = namespace.good[part as usize] || part == Part::DefaultDeny;
                guarded(actor) || !(whole || namespace.ready && worse)
            }
            _ => true,
        }
    }

    /// What may become of a pod that is asked for at `now`.
    pub fn verdicts(&self, now: Instant) -> Vec<Verdict> {
        let Some(namespace) = &self.namespace else { return vec![Verdict::Refused] };
        let past = namespace.past.iter().filter(|(_, until)| *until > now);
        std::iter::once(namespace.verdict()).chain(past.map(|(verdict, _)| *verdict)).collect()
    }

    /// Notes that a write went through, at `now`.
    pub fn done(&mut self, operation: Operation, now: Instant) {
        if operation == Operation::CreateNamespace {
            let mut fresh = Namespace::default();
            fresh.good[Part::Beside as usize] = true;
            self.namespace = Some(fresh);
            return;
        }
        let Some(namespace) = &mut self.namespace else { return };
        match operation {
            Operation::DeleteNamespace => self.namespace = None,
            Operation::Make(part) => namespace.set(part, part != Part::Beside, true),
            Operation::Break(part, _) => namespace.set(part, true, false),
            Operation::Delete(part, _) => namespace.set(part, false, part == Part::Beside),
            Operation::Ready(ready, _) => namespace.change(now, |namespace| namespace.ready = ready),
            Operation::SetMode(mode, _) => namespace.change(now, |namespace| namespace.mode = mode),
            Operation::CreateNamespace | Operation::Pod(_) | Operation::Settle => {}
        }
    }

    /// How long the API server may still lag.
    pub fn unsettled(&self, now: Instant) -> Duration {
        let until =
            self.namespace.iter().flat_map(|namespace| &namespace.past).map(|(_, until)| *until).max();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

impl Namespace {
    fn verdict(&self) -> Verdict {
        match self.mode {
            _ if self.ready => Verdict::Admitted,
            Mode::Default | Mode::Deny => Verdict::Refused,
            Mode::Hold => Verdict::Held,
            Mode::Warn | Mode::Audit | Mode::Exempt => Verdict::Admitted,
        }
    }

    fn set(&mut self, part: Part, present: bool, good: bool) {
        self.present[part as usize] = present;
        self.good[part as usize] = good;
    }

    fn change(&mut self, now: Instant, change: impl FnOnce(&mut Self)) {
        let before = self.verdict();
        change(self);
        let after = self.verdict();
        self.past.retain(|(_, until)| *until > now);
        self.past.push((before, now + LAG));
        if before != after && (before == Verdict::Held || after == Verdict::Held) {
            // Two entries hold a pod, one gives the gate and one asks for it; the API server may know of one alone.
            self.past.push((Verdict::Refused, now + LAG));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(model: &mut Model, operations: &[Operation], at: Instant) {
        for operation in operations {
            assert!(model.may_try(*operation) && model.allows(*operation), "{operation:?} in {model:?}");
            model.done(*operation, at);
        }
    }

    #[test]
    fn the_label_waits_for_the_whole_baseline() {
        let (mut model, now) = (Model::default(), Instant::now());
        assert_eq!(model.verdicts(now), [Verdict::Refused]);
        done(&mut model, &[Operation::CreateNamespace, Operation::Make(Part::Quota)], now);
        let ready = Operation::Ready(true, Actor::BreakGlass);
        assert!(!model.allows(ready));
        let rest = [Part::Limits, Part::DefaultDeny, Part::Binding].map(Operation::Make);
        done(&mut model, &rest, now);
        assert!(!model.allows(Operation::Ready(true, Actor::Admin)));
        assert!(
            !model.allows(Operation::Break(Part::Beside, Actor::Admin)),
            "the baseline is guarded by now"
        );
        done(&mut model, &[ready], now);
        assert_eq!(model.verdicts(now), [Verdict::Admitted, Verdict::Refused]);
        assert_eq!(model.verdicts(now + LAG), [Verdict::Admitted]);
        let exempt = Operation::SetMode(Mode::Exempt, Actor::BreakGlass);
        assert!(model.allows(exempt));
        done(&mut model, &[Operation::Delete(Part::Quota, Actor::BreakGlass)], now);
        assert!(!model.allows(exempt), "whatever is guarded is proved anew");
        done(&mut model, &[Operation::Ready(false, Actor::BreakGlass), exempt], now);
    }

    #[test]
    fn a_namespace_made_again_knows_nothing_of_the_one_before() {
        let (mut model, now) = (Model::default(), Instant::now());
        let hold = Operation::SetMode(Mode::Hold, Actor::Provisioner);
        done(&mut model, &[Operation::CreateNamespace, hold], now);
        assert_eq!(model.verdicts(now + LAG), [Verdict::Held]);
        done(&mut model, &[Operation::DeleteNamespace, Operation::CreateNamespace], now);
        assert_eq!(model.verdicts(now), [Verdict::Refused]);
    }
}
