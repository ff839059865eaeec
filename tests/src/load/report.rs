//! What became of every pod.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Examples kept of what must not happen.
const EXAMPLES_MAX: usize = 20;

/// One outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Never ready, and let in.
    LetIn,
    /// Never ready, refused for its reason.
    Refused,
    /// Never ready, refused for a reason that is not so.
    WrongReason,
    /// Refused by the policy in the apiserver.
    SecondLock,
    /// Refused because the gate could not read.
    Unknown,
    /// Refused because no replica answered the apiserver.
    Unreachable,
    /// Ready, and let in.
    Ready,
    /// Ready, and not let in though the apiserver answers.
    ReadyFailed,
    /// Let in within the second after the label was removed.
    LetInAtOnce,
    /// Let in later than a second after the label was removed.
    LetInLate,
    /// Refused after the label was removed.
    RefusedAfter,
    /// Asked for again, because Kubernetes' own count of the quota was changed while it was being raised.
    QuotaConflict,
    /// The apiserver did not answer while it was being restarted.
    Down,
}

/// Counts of outcomes, and examples of those that must not be.
#[derive(Debug, Default)]
pub struct Report(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<Outcome, u64>,
    examples: Vec<String>,
}

impl Report {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, outcome: Outcome, detail: &str) {
        let mut inner = self.lock();
        *inner.counts.entry(outcome).or_default() += 1;
        let expected = [
            Outcome::Refused,
            Outcome::Ready,
            Outcome::RefusedAfter,
            Outcome::LetInAtOnce,
            Outcome::SecondLock,
            Outcome::QuotaConflict,
            Outcome::Down,
        ];
        if !expected.contains(&outcome) && inner.examples.len() < EXAMPLES_MAX {
            let at = jiff::Timestamp::now().strftime("%H:%M:%S%.3f");
            inner.examples.push(format!("{at} {outcome:?}: {detail}"));
        }
    }

    /// How often this was the outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.lock().counts.get(&outcome).copied().unwrap_or(0)
    }

    /// Pods created or refused in all.
    pub fn all(&self) -> u64 {
        self.lock().counts.values().sum()
    }

    /// What must not have happened under any fault.
    pub fn violations(&self) -> Vec<String> {
        let never = [Outcome::LetIn, Outcome::LetInLate, Outcome::ReadyFailed, Outcome::WrongReason];
        let seen = never.into_iter().filter(|outcome| self.of(*outcome) > 0);
        seen.map(|outcome| format!("{outcome:?}: {}", self.of(outcome))).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("ungated pods let in, in namespaces that were never ready", Outcome::LetIn),
            ("ungated pods let in later than 1 s after a removal", Outcome::LetInLate),
            ("failures in ready namespaces while /readyz answers", Outcome::ReadyFailed),
            ("refusals in unready namespaces with a wrong reason", Outcome::WrongReason),
            ("pods let in, in ready namespaces", Outcome::Ready),
            ("refused for the right reason, in namespaces never ready", Outcome::Refused),
            ("refused after a removal", Outcome::RefusedAfter),
            ("let in within 1 s after a removal", Outcome::LetInAtOnce),
            ("refused by the second lock", Outcome::SecondLock),
            ("refused because no replica answered", Outcome::Unreachable),
            ("refused because the gate could not read", Outcome::Unknown),
            ("asked for again: Kubernetes was counting the quota", Outcome::QuotaConflict),
            ("no answer while the apiserver was restarted", Outcome::Down),
        ];
        for (what, outcome) in lines {
            writeln!(formatter, "{:>8}  {what}", self.of(outcome))?;
        }
        for example in &self.lock().examples {
            writeln!(formatter, "          {example}")?;
        }
        Ok(())
    }
}
