//! Shares live reads among reviews: at most one running and one waiting a namespace.
//!
//! A review must not be answered from a read that began before the review arrived. So it joins the read that waits
//! behind the running one, or starts one if none is running.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::proof::Defect;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    admission::{baseline::Tenant, gate::NamespaceState},
    facts::{Facts, NamespaceKeys},
};

/// Reads of different namespaces that run at once; more wait for their turn within the review's time limit.
const READS_MAX: usize = 64;
/// How long a write may wait for its turn to be compared; with its read it stays within the review's time limit.
const TURN_TIME_MAX: Duration = Duration::from_secs(2);
/// Reviews that may wait for one read.
const WAITERS_MAX: usize = 4096;

type Waiter = oneshot::Sender<Arc<NamespaceState>>;

/// For each namespace with a running read, the reviews that wait for the next one.
#[derive(Default)]
struct Flights(Mutex<HashMap<String, Vec<Waiter>>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        // The map is valid between any two of its statements, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Facts whose namespace reads are shared.
pub struct Shared<F> {
    facts: Arc<F>,
    flights: Arc<Flights>,
    permits: Arc<Semaphore>,
}

impl<F: Facts> Shared<F> {
    /// Shares the reads of `facts`.
    pub fn new(facts: F) -> Self {
        Self { facts: Arc::new(facts), flights: Arc::default(), permits: Arc::new(Semaphore::new(READS_MAX)) }
    }

    fn join(&self, name: &str) -> Option<oneshot::Receiver<Arc<NamespaceState>>> {
        let (sender, receiver) = oneshot::channel();
        let mut flights = self.flights.lock();
        if let Some(waiting) = flights.get_mut(name) {
            if waiting.len() >= WAITERS_MAX {
                return None;
            }
            waiting.push(sender);
        } else {
            flights.insert(name.to_owned(), Vec::new());
            let flight = Flight { name: name.to_owned(), flights: Arc::clone(&self.flights) };
            tokio::spawn(flight.run(Arc::clone(&self.facts), Arc::clone(&self.permits), vec![sender]));
        }
        Some(receiver)
    }
}

/// The reads of one namespace, as long as reviews wait for one.
struct Flight {
    name: String,
    flights: Arc<Flights>,
}

impl Flight {
    async fn run<F: Facts>(self, facts: Arc<F>, permits: Arc<Semaphore>, mut waiters: Vec<Waiter>) {
        loop {
            // The semaphore is never closed.
            let permit = permits.acquire().await;
            let state = facts.namespace(&self.name).await;
            drop(permit);
            for waiter in waiters {
                // A review whose connection is gone waits no more.
                let _ = waiter.send(Arc::clone(&state));
            }
            waiters = {
                let mut flights = self.flights.lock();
                match flights.get_mut(&self.name).map(std::mem::take) {
                    Some(next) if !next.is_empty() => next,
                    _ => {
                        flights.remove(&self.name);
                        return;
                    }
                }
            };
        }
    }
}

impl Drop for Flight {
    /// After a panic too nobody may wait for a read that will never come.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.flights.lock().remove(&self.name);
        }
    }
}

impl<F: Facts> Facts for Shared<F> {
    fn namespace(&self, name: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        let answer = self.join(name);
        async move {
            match answer {
                Some(answer) => answer.await.unwrap_or_else(|_| unknown("the read was broken off")),
                None => unknown("too many reviews wait for this namespace"),
            }
        }
        .boxed()
    }

    fn proof(&self, name: &str, keys: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
        self.facts.proof(name, keys)
    }

    fn tenant(&self, name: &str) -> BoxFuture<'_, Result<Option<Tenant>, String>> {
        let name = name.to_owned();
        async move {
            // Not shared, for each write is compared with what is there when it comes; so their number is bounded.
            let permit = tokio::time::timeout(TURN_TIME_MAX, self.permits.acquire()).await;
            let Ok(Ok(_permit)) = permit else { return Err("too many reads are under way".to_owned()) };
            self.facts.tenant(&name).await
        }
        .boxed()
    }
}

fn unknown(why: &str) -> Arc<NamespaceState> {
    Arc::new(NamespaceState::Unknown(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Waits for a permit, and answers with the number of the read.
    struct Slow(AtomicUsize, Semaphore);

    impl Slow {
        fn with_permits(permits: usize) -> Arc<Shared<Self>> {
            Arc::new(Shared::new(Self(AtomicUsize::new(0), Semaphore::new(permits))))
        }
    }

    impl Facts for Slow {
        fn namespace(&self, name: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            let broken = name == "broken";
            async move {
                self.1.acquire().await.unwrap().forget();
                assert!(!broken, "a broken read");
                unknown(&number.to_string())
            }
            .boxed()
        }

        fn proof(&self, _: &str, _: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
            futures::future::ready(Ok(Vec::new())).boxed()
        }
    }

    fn number(state: &NamespaceState) -> String {
        match state {
            NamespaceState::Unknown(number) => number.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn ask(shared: &Arc<Shared<Slow>>, name: &'static str) -> tokio::task::JoinHandle<String> {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { number(&*shared.namespace(name).await) })
    }

    /// Lets the other tasks go on until this holds; no clock decides.
    async fn until(holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never holds");
    }

    #[tokio::test]
    async fn reviews_share_the_next_read_and_never_the_running_one() {
        let shared = Slow::with_permits(0);
        let first = ask(&shared, "a");
        until(|| shared.facts.0.load(Ordering::SeqCst) == 1).await;
        let later: Vec<_> = (0..100).map(|_| ask(&shared, "a")).collect();
        until(|| shared.flights.lock().get("a").is_some_and(|waiting| waiting.len() == 100)).await;
        shared.facts.1.add_permits(3);
        assert_eq!(first.await.unwrap(), "0");
        for answer in later {
            assert_eq!(answer.await.unwrap(), "1");
        }
        assert_eq!(shared.facts.0.load(Ordering::SeqCst), 2);
        assert_eq!(ask(&shared, "a").await.unwrap(), "2", "nothing is kept");
        until(|| shared.flights.lock().is_empty()).await;
    }

    #[tokio::test]
    async fn namespaces_do_not_wait_for_one_another() {
        let shared = Slow::with_permits(0);
        let asked = ["a", "b", "c"].map(|name| ask(&shared, name));
        until(|| shared.facts.0.load(Ordering::SeqCst) == 3).await;
        shared.facts.1.add_permits(3);
        for answer in asked {
            answer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_read_that_panics_is_unknown_and_leaves_nothing() {
        let shared = Slow::with_permits(2);
        assert_eq!(number(&*shared.namespace("broken").await), "the read was broken off");
        assert_eq!(number(&*shared.namespace("broken").await), "the read was broken off");
    }

    #[tokio::test]
    async fn a_review_that_goes_away_holds_nobody() {
        let shared = Slow::with_permits(2);
        drop(shared.namespace("a"));
        assert_eq!(number(&*shared.namespace("a").await), "1");
    }
}
