//! What the feed heard and nobody has dealt with yet: one place per key, so that the reader never waits and a flood of
//! announcements takes no more memory than one of each.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contract::{ConfigKey, ServiceName};
use tokio::sync::Notify;

/// Keys remembered by name; beyond that only that there were more.
const KEYS_MAX: usize = 4096;

/// A key of a service.
pub type Name = (ServiceName, ConfigKey);

/// Whether announcements are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// Subscribed, acknowledged by the server.
    Subscribed,
    /// Not subscribed: changes pass unheard.
    Deaf,
}

/// What happened since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The subscription was made at least once: what was announced before it was not heard.
    pub subscribed: bool,
    /// How it stands now, if it changed.
    pub hearing: Option<Hearing>,
    /// The highest version announced, for each key.
    pub told: HashMap<Name, u64>,
    /// More was announced than is remembered: other keys, or several versions of one. Announcements come late, twice
    /// and out of order, so no single one of them says that nothing is new.
    pub overflow: bool,
}

/// Filled by the feed, emptied by the sync loop.
#[derive(Debug, Default)]
pub struct Inbox {
    heard: Mutex<Heard>,
    filled: Notify,
}

impl Inbox {
    /// The subscription stands.
    pub fn subscribed(&self) {
        let mut heard = self.lock();
        heard.subscribed = true;
        heard.hearing = Some(Hearing::Subscribed);
        drop(heard);
        self.filled.notify_one();
    }

    /// The subscription is gone, or could not be made.
    pub fn deaf(&self) {
        self.lock().hearing = Some(Hearing::Deaf);
        self.filled.notify_one();
    }

    /// A version was announced.
    pub fn told(&self, name: Name, version: u64) {
        let mut heard = self.lock();
        if let Some(known) = heard.told.get_mut(&name) {
            if *known != version {
                *known = version.max(*known);
                heard.overflow = true;
            }
        } else if heard.told.len() < KEYS_MAX {
            heard.told.insert(name, version);
        } else {
            heard.overflow = true;
        }
        drop(heard);
        self.filled.notify_one();
    }

    /// Takes everything out.
    pub fn take(&self) -> Heard {
        std::mem::take(&mut self.lock())
    }

    /// Waits until something was put in since the last wait ended.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: usize) -> Name {
        ("ai".parse().unwrap(), format!("k{key}").parse().unwrap())
    }

    #[tokio::test]
    async fn a_flood_is_one_word_per_key() {
        let inbox = Inbox::default();
        for version in 1..=500 {
            inbox.told(name(1), version);
        }
        inbox.filled().await;
        let heard = inbox.take();
        assert_eq!(heard.told, HashMap::from([(name(1), 500)]));
        assert_eq!(inbox.take(), Heard::default());
    }

    #[test]
    fn an_announcement_that_comes_twice_hides_no_newer_one() {
        let inbox = Inbox::default();
        inbox.told(name(1), 8);
        inbox.told(name(1), 7);
        let heard = inbox.take();
        assert_eq!((heard.told[&name(1)], heard.overflow), (8, true));
    }

    #[test]
    fn memory_is_bounded() {
        let inbox = Inbox::default();
        for key in 0..=KEYS_MAX {
            inbox.told(name(key), 1);
        }
        let heard = inbox.take();
        assert_eq!((heard.told.len(), heard.overflow), (KEYS_MAX, true));
    }

    #[test]
    fn a_subscription_that_was_lost_again_is_not_forgotten() {
        let inbox = Inbox::default();
        inbox.subscribed();
        inbox.deaf();
        let heard = inbox.take();
        assert_eq!((heard.subscribed, heard.hearing), (true, Some(Hearing::Deaf)));
    }
}
