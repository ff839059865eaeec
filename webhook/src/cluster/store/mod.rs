//! A slim watch store: what the parts that look at the whole cluster know of its namespaces and pods.
//!
//! It may lag behind the API server, so no verdict on a request is ever taken from it. It says when it heard from the API
//! server last, so that who uses it can tell how old it may be.

mod compact;
mod follow;
mod map;
mod metrics;
mod records;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

pub use compact::{Interner, Pairs};
pub use follow::follow;
pub use map::Change;
use map::Map;
pub use metrics::register;
pub use records::{Namespace, Owner, Phase, Pod, Record};
use tokio::sync::{broadcast, watch};

/// Changes that a slow listener may be behind before it loses some and has to look at everything.
const CHANGES_MAX: usize = 8192;
/// A store that has heard nothing for this long has stalled: bookmarks come every minute, and a silent watch is renewed
/// after 90 s.
pub const STALLED_AFTER: Duration = Duration::from_mins(2);

/// Both stores; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// All pods.
    pub pods: Store<Pod>,
}

impl Stores {
    /// Both have been listed once, and neither has stalled.
    pub fn usable(&self) -> bool {
        self.namespaces.usable() && self.pods.usable()
    }

    /// Follows both for ever.
    pub async fn follow(self, client: kube::Client) {
        tokio::join!(follow(client.clone(), self.namespaces), follow(client, self.pods));
    }
}

/// The objects of one resource, by namespace and name; cheap to clone.
#[derive(Debug)]
pub struct Store<R>(Arc<Inner<R>>);

#[derive(Debug)]
struct Inner<R> {
    map: RwLock<Map<R>>,
    heard: RwLock<Instant>,
    synced: watch::Sender<bool>,
    changes: broadcast::Sender<Change>,
}

impl<R> Clone for Store<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Record> Default for Store<R> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            map: RwLock::default(),
            heard: RwLock::new(Instant::now()),
            synced: watch::Sender::new(false),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }))
    }
}

/// What a list or a watch says.
#[derive(Debug)]
enum Event<W> {
    /// A list begins.
    Init,
    /// An object of the list.
    InitApply(W),
    /// The list is complete: what it did not name is gone.
    InitDone,
    /// An object is new or changed.
    Apply(W),
    /// An object is gone.
    Delete(W),
    /// Nothing happened, says the API server.
    Alive,
}

impl<R: Record> Store<R> {
    fn read(&self) -> RwLockReadGuard<'_, Map<R>> {
        // No statement on the map leaves it half changed, so a panic elsewhere does not spoil it.
        self.0.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map<R>> {
        self.0.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, event: Event<R::Wire>) {
        *self.0.heard.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let change = match event {
            Event::Alive => None,
            Event::Init => {
                self.write().begin();
                None
            }
            Event::InitApply(wire) | Event::Apply(wire) => self.write().put(R::from_wire(wire)),
            Event::Delete(wire) => self.write().remove(&R::from_wire(wire)),
            Event::InitDone => {
                let gone = self.write().end();
                for change in gone {
                    self.tell(change);
                }
                self.0.synced.send_replace(true);
                None
            }
        };
        if let Some(change) = change {
            self.tell(change);
        }
    }

    fn tell(&self, change: Change) {
        // Nobody need listen.
        let _ = self.0.changes.send(change);
    }

    /// Whether everything has been listed once.
    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until everything has been listed once.
    pub async fn synced(&self) {
        // The sender is here, so that the wait ends only when the value is there.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// How long ago the API server said something, be it that nothing happened; before its first word, since the start.
    pub fn last_heard(&self) -> Duration {
        self.0.heard.read().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Listed once, and heard of since [`STALLED_AFTER`].
    pub fn usable(&self) -> bool {
        self.is_synced() && self.last_heard() < STALLED_AFTER
    }

    /// Changes from now on. A listener that lags loses some, is told so, and must look at everything.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// One object; cluster-wide objects are in namespace `""`.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<R>> {
        self.read().get(namespace, name)
    }

    /// All objects of a namespace, in no order.
    pub fn of(&self, namespace: &str) -> Vec<Arc<R>> {
        self.read().of(namespace)
    }

    /// All objects, in no order. Cheap: a pointer each.
    pub fn all(&self) -> Vec<Arc<R>> {
        self.read().all()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
