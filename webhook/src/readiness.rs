//! Whether the API server may send reviews here: only while every part that the gate depends on has been heard of lately.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The parts of one program, and whether it is ending. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    parts: Vec<Entry>,
    checks: Vec<(&'static str, Check)>,
    ending: bool,
}

/// Whether a part that keeps its own time is well now.
type Check = Box<dyn Fn() -> bool + Send + Sync>;

#[derive(Debug)]
struct Entry {
    name: &'static str,
    age_max: Duration,
    heard: Option<Instant>,
}

/// One part's voice. A part that was never heard of, or not within its age, keeps the program unready.
#[derive(Clone)]
pub struct Part {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Valid between any two statements, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part that must be heard of at least every `age_max`. Parts are added before the program serves.
    #[must_use]
    pub fn part(&self, name: &'static str, age_max: Duration) -> Part {
        let mut inner = self.lock();
        inner.parts.push(Entry { name, age_max, heard: None });
        Part { readiness: self.clone(), index: inner.parts.len() - 1 }
    }

    /// Adds a part that says itself whether it is well.
    pub fn check(&self, name: &'static str, well: impl Fn() -> bool + Send + Sync + 'static) {
        self.lock().checks.push((name, Box::new(well)));
    }

    /// From now on not ready, whatever is heard.
    pub fn end(&self) {
        self.lock().ending = true;
    }

    /// Whether the program is ending: connections are then closed with their next answer.
    pub fn ending(&self) -> bool {
        self.lock().ending
    }

    /// Why it is not ready, in words for operators; nothing when it is.
    pub fn obstacles(&self) -> Vec<String> {
        self.obstacles_at(Instant::now())
    }

    fn obstacles_at(&self, now: Instant) -> Vec<String> {
        let inner = self.lock();
        if inner.ending {
            return vec!["ending".to_owned()];
        }
        let parts = inner.parts.iter().filter_map(|part| {
            let Some(heard) = part.heard else { return Some(format!("{}: not yet", part.name)) };
            let age = now.saturating_duration_since(heard);
            (age > part.age_max).then(|| format!("{}: last well {} s ago", part.name, age.as_secs()))
        });
        let checks = inner.checks.iter().filter(|(_, well)| !well());
        parts.chain(checks.map(|(name, _)| format!("{name}: not in step with the API server"))).collect()
    }
}

impl Part {
    /// The part is well now.
    pub fn heard(&self) {
        self.heard_at(Instant::now());
    }

    /// The part was well at that time.
    pub fn heard_at(&self, at: Instant) {
        if let Some(entry) = self.readiness.lock().parts.get_mut(self.index) {
            entry.heard = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_must_have_been_heard_of_lately() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        assert!(readiness.obstacles_at(now).is_empty());
        let (chain, watch) = (
            readiness.part("chain", Duration::from_secs(30)),
            readiness.part("watch", Duration::from_mins(1)),
        );
        assert_eq!(readiness.obstacles_at(now), ["chain: not yet", "watch: not yet"]);
        chain.heard_at(now);
        assert_eq!(readiness.obstacles_at(now), ["watch: not yet"]);
        watch.heard_at(now);
        assert!(readiness.obstacles_at(now + Duration::from_secs(30)).is_empty());
        assert_eq!(readiness.obstacles_at(now + Duration::from_secs(31)), ["chain: last well 31 s ago"]);
        chain.heard_at(now + Duration::from_secs(31));
        assert!(readiness.obstacles_at(now + Duration::from_secs(31)).is_empty());
    }

    #[test]
    fn a_check_is_asked_each_time() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (readiness, well) = (Readiness::default(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&well);
        readiness.check("watches", move || asked.load(Ordering::Relaxed));
        assert_eq!(readiness.obstacles(), ["watches: not in step with the API server"]);
        well.store(true, Ordering::Relaxed);
        assert!(readiness.obstacles().is_empty());
    }

    #[test]
    fn a_program_that_ends_is_not_ready_whatever_is_heard() {
        let readiness = Readiness::default();
        let part = readiness.part("chain", Duration::from_secs(30));
        readiness.end();
        part.heard();
        assert!(readiness.ending());
        assert_eq!(readiness.obstacles(), ["ending"]);
    }
}
