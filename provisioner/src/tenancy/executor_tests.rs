//! The executor in a world of memory: every step fails, every step crashes, every effect is repeated; what is left is
//! everything or nothing.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use contract::{OrganizationId, Owner, Quota, Slug, baseline::PodSecurity};
use proptest::prelude::*;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Cause, CauseKind, Direction, Effects, End, Executor, Failure, Lease, Operation, Outputs, Progress, Run,
    Step, StepRecord, StepState, Store,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Tries that fail for now, before the effect.
    Busy(Step),
    /// Tries whose effect happens and whose answer is lost.
    Lost(Step),
    /// A refusal for good.
    Refused(Step),
}

/// Effects that are there, and what goes wrong with the next ones.
#[derive(Default)]
struct World {
    present: Mutex<BTreeSet<Step>>,
    wrong: Mutex<Vec<Wrong>>,
    /// After so many effects nothing happens any more: the process is dead.
    crash_after: Option<usize>,
    effects: AtomicUsize,
    dead: Notify,
}

impl World {
    async fn effect(&self) {
        if Some(self.effects.fetch_add(1, Ordering::SeqCst)) == self.crash_after {
            self.dead.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn takes(&self, wrong: Wrong) -> bool {
        let mut all = self.wrong.lock().unwrap();
        let found = all.iter().position(|other| *other == wrong);
        found.map(|index| all.remove(index)).is_some()
    }

    fn left(&self) -> BTreeSet<Step> {
        self.present.lock().unwrap().clone()
    }
}

impl Effects for World {
    async fn act(&self, _: &Run, step: Step) -> Result<(), Failure> {
        tokio::task::yield_now().await;
        if self.takes(Wrong::Busy(step)) {
            return Err(Failure::transient("busy"));
        }
        if self.takes(Wrong::Refused(step)) {
            return Err(Failure::permanent(CauseKind::Refused, format!("{step} refused")));
        }
        self.effect().await;
        let mut present = self.present.lock().unwrap();
        assert!(step.needs().iter().all(|need| present.contains(need)), "{step} before what it needs");
        present.insert(step);
        drop(present);
        if self.takes(Wrong::Lost(step)) { Err(Failure::transient("no answer")) } else { Ok(()) }
    }

    async fn undo(&self, _: &Run, step: Step) -> Result<(), Failure> {
        tokio::task::yield_now().await;
        if self.takes(Wrong::Busy(step)) {
            return Err(Failure::transient("busy"));
        }
        self.effect().await;
        let mut present = self.present.lock().unwrap();
        assert!(!present.iter().any(|other| other.depends_on(step)), "{step} undone before what needs it");
        present.remove(&step);
        drop(present);
        if self.takes(Wrong::Lost(step)) { Err(Failure::transient("no answer")) } else { Ok(()) }
    }
}

/// A journal that keeps the direction.
#[derive(Default)]
struct Memory {
    back: Mutex<Option<Cause>>,
    ended: AtomicBool,
    stolen: bool,
}

impl Store for Memory {
    async fn note(&self, _: Lease, notes: &[(Step, StepRecord)], _: &Outputs) -> Result<(), Failure> {
        assert!(notes.iter().all(|(_, record)| record.state != StepState::Pending));
        Ok(())
    }

    async fn turn_back(&self, _: Lease, cause: &Cause) -> Result<bool, Failure> {
        *self.back.lock().unwrap() = Some(cause.clone());
        Ok(!self.stolen)
    }

    async fn end_undone(&self, _: Lease, _: &Cause) -> Result<bool, Failure> {
        self.ended.store(true, Ordering::SeqCst);
        Ok(!self.stolen)
    }
}

fn run(direction: Direction) -> Arc<Run> {
    let id = Uuid::from_u128(1);
    let operation = Operation {
        id,
        organization: OrganizationId(id),
        name: "Acme".into(),
        slug: Slug::from_name("Acme").unwrap(),
        email: "a@b.c".into(),
        owner: Owner::from_email("x:", "a@b.c").unwrap(),
        quota: Quota::default(),
        pod_security: PodSecurity::default(),
    };
    let lease = Lease { operation: id, epoch: 1 };
    let deadline = Instant::now() + Duration::from_secs(30);
    Run::new(operation, lease, (None, false), deadline, Progress::new(direction), Outputs::default())
}

/// Runs until the end, or until the world is dead.
async fn execute(world: &Arc<World>, store: &Arc<Memory>, direction: Direction) -> Option<End> {
    let executor = Executor::new(Arc::clone(world), Arc::clone(store), None);
    let (run, cause) = (run(direction), store.back.lock().unwrap().clone());
    tokio::select! {
        end = executor.run(&run, cause) => Some(end),
        () = world.dead.notified() => None,
    }
}

/// Runs, and after a crash runs again in the direction that the journal kept; what is left.
fn outcome(wrong: Vec<Wrong>, crash_after: Option<usize>) -> (End, BTreeSet<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Memory::default());
        let first = Arc::new(World { wrong: Mutex::new(wrong), crash_after, ..World::default() });
        if let Some(end) = execute(&first, &store, Direction::Forward).await {
            return (end, first.left());
        }
        let wrong = first.wrong.lock().unwrap().clone();
        let second = Arc::new(World {
            present: Mutex::new(first.left()),
            wrong: Mutex::new(wrong),
            ..World::default()
        });
        let turned = store.back.lock().unwrap().is_some();
        let direction = if turned { Direction::Back } else { Direction::Forward };
        (execute(&second, &store, direction).await.unwrap(), second.left())
    })
}

fn whole() -> BTreeSet<Step> {
    Step::ALL.into()
}

#[test]
fn without_faults_everything_is_there() {
    assert_eq!(outcome(Vec::new(), None), (End::Committed, whole()));
}

#[test]
fn every_step_that_is_refused_leaves_nothing() {
    for step in Step::ALL {
        let (end, left) = outcome(vec![Wrong::Refused(step)], None);
        assert!(matches!(end, End::Undone(cause) if cause.detail == format!("{step} refused")));
        assert_eq!(left, BTreeSet::new(), "{step}");
    }
}

#[test]
fn every_step_survives_a_busy_server_and_a_lost_answer() {
    for step in Step::ALL {
        let wrong = vec![Wrong::Busy(step), Wrong::Lost(step), Wrong::Busy(step)];
        assert_eq!(outcome(wrong, None), (End::Committed, whole()), "{step}");
    }
}

#[test]
fn a_crash_after_any_number_of_effects_is_resumed() {
    for effects in 0..Step::ALL.len() {
        assert_eq!(outcome(Vec::new(), Some(effects)), (End::Committed, whole()), "{effects}");
    }
}

#[test]
fn a_crash_in_the_middle_of_undoing_is_undone_to_the_end() {
    for effects in 0..2 * Step::ALL.len() {
        let (end, left) = outcome(vec![Wrong::Refused(Step::Commit)], Some(effects));
        // A crash before the refusal resumes, and then it is refused.
        assert!(matches!(end, End::Undone(_)), "{effects}");
        assert_eq!(left, BTreeSet::new(), "{effects}");
    }
}

#[tokio::test]
async fn who_lost_the_lease_undoes_nothing() {
    let world = Arc::new(World { wrong: Mutex::new(vec![Wrong::Refused(Step::Label)]), ..World::default() });
    let store = Arc::new(Memory { stolen: true, ..Memory::default() });
    assert_eq!(execute(&world, &store, Direction::Forward).await, Some(End::NotOurs));
    assert!(world.left().contains(&Step::Namespace), "it is the other replica's to undo");
    assert!(!store.ended.load(Ordering::SeqCst));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_faults_with_any_crash_end_whole_or_empty(
        busy in proptest::sample::subsequence(Step::ALL.to_vec(), 0..3),
        lost in proptest::sample::subsequence(Step::ALL.to_vec(), 0..3),
        refused in proptest::option::of(proptest::sample::select(Step::ALL.to_vec())),
        crash_after in proptest::option::of(0usize..26),
    ) {
        let wrong = busy.into_iter().map(Wrong::Busy)
            .chain(lost.into_iter().map(Wrong::Lost))
            .chain(refused.map(Wrong::Refused))
            .collect();
        let (end, left) = outcome(wrong, crash_after);
        let expected = if end == End::Committed { whole() } else { BTreeSet::new() };
        prop_assert_eq!(left, expected, "{:?}", end);
        // A crash between the refusal and its note forgets the refusal; the next run asks again.
        prop_assert!(end == End::Committed || refused.is_some());
    }
}
