//! What to read next, and when. Decisions only: time and randomness are arguments.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use runtime::backoff::Backoff;

use crate::{
    feed::inbox::{Heard, Hearing, Name},
    store::Snapshot,
};

/// First pause when a version was announced and the read did not show it: its commit is about to become visible.
const UNSEEN_PAUSE: Duration = Duration::from_millis(2);
/// Longest such pause.
const UNSEEN_PAUSE_MAX: Duration = Duration::from_millis(250);
/// After so many reads (about five seconds) in vain everything is read once, and then the announcement is given up.
const UNSEEN_READS_MAX: u32 = 26;
/// An announcement proves that the database commits again, so it may cut a back-off short, but not below this.
const NUDGE_PAUSE: Duration = Duration::from_millis(500);
/// How long the first load waits for the subscription before it goes ahead without.
const FIRST_SUBSCRIPTION_MAX: Duration = Duration::from_secs(2);

/// Longest time from the loss of the feed to the first read without it.
const DEAF_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// What was written after the newest commit seen.
    Newer,
    /// Everything.
    Full,
}

/// How often to read without being told to.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Shortest time between two complete reads.
    pub reconcile_min: Duration,
    /// Longest.
    pub reconcile_max: Duration,
    /// Longest time between two reads while changes are not heard.
    pub deaf_poll: Duration,
}

/// The next read, and all that decides about it.
#[derive(Debug)]
pub struct Agenda {
    intervals: Intervals,
    /// A read that is due, if any.
    due: Option<Scope>,
    /// Not before this moment: after a failure, or while a commit becomes visible.
    hold: Option<Instant>,
    /// When everything is read although nothing was heard.
    reconcile_at: Instant,
    /// When what is newer is read because nothing can be heard.
    poll_at: Option<Instant>,
    /// Announced and not yet read.
    unseen: HashMap<Name, u64>,
    unseen_reads: u32,
    /// After failed reads; `failed_at` is the last failure, while there is one.
    backoff: Backoff,
    failed_at: Option<Instant>,
}

impl Agenda {
    /// The agenda at the start: read once the subscription stands, or after two seconds without it.
    pub fn new(intervals: Intervals, now: Instant) -> Self {
        Self {
            intervals,
            due: None,
            hold: None,
            reconcile_at: now + FIRST_SUBSCRIPTION_MAX,
            poll_at: None,
            unseen: HashMap::new(),
            unseen_reads: 0,
            backoff: Backoff::default(),
            failed_at: None,
        }
    }

    /// Takes in what the feed heard. `random` is uniform in [0, 1].
    pub fn hear(&mut self, heard: Heard, snapshot: &Snapshot, now: Instant, random: f64) {
        if heard.subscribed {
            self.want(Scope::Newer);
        }
        match heard.hearing {
            Some(Hearing::Subscribed) => self.poll_at = None,
            // Soon, as what happens from now on is not heard; not at once, as a thousand others lost the feed too.
            Some(Hearing::Deaf) if self.poll_at.is_none() => {
                self.poll_at = Some(now + DEAF_PAUSE_MAX.mul_f64(random));
            }
            Some(Hearing::Deaf) | None => {}
        }
        let mut news = heard.overflow;
        for (name, version) in heard.told {
            if version_in(snapshot, &name) != Some(version) {
                self.unseen.insert(name, version);
                news = true;
            }
        }
        if news {
            self.want(Scope::Newer);
            self.nudge(now, random);
        }
    }

    /// When the next read is to start, and what it reads.
    pub fn next(&self, now: Instant) -> (Instant, Scope) {
        let (at, scope) = match (self.due, self.poll_at) {
            (Some(scope), _) => (now, scope),
            (None, Some(poll_at)) if poll_at < self.reconcile_at => (poll_at, Scope::Newer),
            (None, _) => (self.reconcile_at, Scope::Full),
        };
        (self.hold.map_or(at, |hold| at.max(hold)), scope)
    }

    /// A read of `scope` was taken into `snapshot`.
    pub fn succeeded(&mut self, scope: Scope, snapshot: &Snapshot, now: Instant, random: f64) {
        self.backoff.reset();
        (self.failed_at, self.due, self.hold) = (None, None, None);
        if scope == Scope::Full {
            let Intervals { reconcile_min, reconcile_max, .. } = self.intervals;
            self.reconcile_at =
                now + reconcile_min + reconcile_max.saturating_sub(reconcile_min).mul_f64(random);
        }
        if self.poll_at.is_some() {
            self.poll_at = Some(now + self.intervals.deaf_poll.mul_f64(0.5 + random / 2.0));
        }
        self.unseen.retain(|name, told| version_in(snapshot, name).is_none_or(|seen| seen < *told));
        if self.unseen.is_empty() {
            self.unseen_reads = 0;
        } else {
            self.ask_again(scope, now);
        }
    }

    /// A read failed. Returns how long to wait.
    pub fn failed(&mut self, scope: Scope, now: Instant, random: f64) -> Duration {
        let wait = self.backoff.next(random);
        (self.hold, self.failed_at) = (Some(now + wait), Some(now));
        self.want(scope);
        wait
    }

    /// Everything has to be read: the database turned out to be a restored one.
    pub fn restored(&mut self) {
        self.want(Scope::Full);
        self.hold = None;
    }

    /// Whether a change was announced that has not been read.
    pub fn is_behind(&self) -> bool {
        !self.unseen.is_empty()
    }

    fn want(&mut self, scope: Scope) {
        self.due = self.due.max(Some(scope));
    }

    /// Told N but read less: again within milliseconds, growing, bounded; then everything once; then it is given up.
    fn ask_again(&mut self, scope: Scope, now: Instant) {
        self.unseen_reads += 1;
        if self.unseen_reads <= UNSEEN_READS_MAX {
            let pause =
                UNSEEN_PAUSE.saturating_mul(1 << (self.unseen_reads - 1).min(16)).min(UNSEEN_PAUSE_MAX);
            (self.due, self.hold) = (Some(Scope::Newer), Some(now + pause));
        } else if scope == Scope::Newer {
            (self.due, self.hold) = (Some(Scope::Full), None);
        } else {
            tracing::warn!(
                keys = self.unseen.len(),
                "versions were announced that the database does not have"
            );
            self.unseen.clear();
            self.unseen_reads = 0;
        }
    }

    /// News cut a wait short: the one for a commit to become visible entirely, the one after a failure within limits.
    fn nudge(&mut self, now: Instant, random: f64) {
        self.hold = match (self.failed_at, self.hold) {
            (Some(failed_at), Some(hold)) => {
                let earliest = failed_at + NUDGE_PAUSE.mul_f64(1.0 + random);
                Some(hold.min(earliest.max(now)))
            }
            _ => None,
        };
    }
}

fn version_in(snapshot: &Snapshot, (service, key): &Name) -> Option<u64> {
    snapshot.get(service.as_str(), key.as_str()).map(|entry| entry.version)
}

#[cfg(test)]
#[path = "agenda_tests.rs"]
mod tests;
