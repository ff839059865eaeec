//! Who changes configuration at the same time. Changes of one organization wait for each other at its row lock, each on a
//! connection: without a bound of its own, one organization would hold all connections, and others none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use contract::OrganizationId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most changes of one organization that have a connection; one works, the next is ready behind it.
const PER_ORGANIZATION: usize = 2;

/// Turns by organization; an organization without changes takes no room.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<OrganizationId, Arc<Semaphore>>>);

/// A turn; it ends when dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    organization: OrganizationId,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for a turn; they come in the order in which they were asked for.
    pub async fn take(self: &Arc<Self>, organization: OrganizationId) -> Turn {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(organization).or_insert_with(|| Arc::new(Semaphore::new(PER_ORGANIZATION))))
        };
        // Made before waiting: who leaves the queue also clears up. It is never closed, so a permit always comes.
        let mut turn = Turn { turns: Arc::clone(self), organization, permit: None };
        turn.permit = turns.acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut all = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own, and none of somebody who holds a permit or waits for one.
        if all.get(&self.organization).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            all.remove(&self.organization);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_organization_does_not_take_the_turns_of_another() {
        let turns = Arc::new(Turns::default());
        let [one, other] = [1, 2].map(|id| OrganizationId(uuid::Uuid::from_u128(id)));
        let mut held = Vec::new();
        for _ in 0..PER_ORGANIZATION {
            held.push(turns.take(one).await);
        }
        assert!(tokio::time::timeout(SOON, turns.take(one)).await.is_err(), "it waits");
        let elsewhere = tokio::time::timeout(SOON, turns.take(other)).await;
        assert!(elsewhere.is_ok());
        held.pop();
        drop(tokio::time::timeout(SOON, turns.take(one)).await.unwrap());
        drop((held, elsewhere));
        assert!(turns.0.lock().unwrap().is_empty(), "nothing is kept of organizations that are quiet");
    }
}
