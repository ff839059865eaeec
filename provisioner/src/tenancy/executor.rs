//! Runs an operation: asks the progress what comes next, does it, notes it. Knows neither SQL nor Kubernetes.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use runtime::backoff::Backoff;

use super::{
    Cause, CauseKind, Direction, Failure, FaultPoint, Lease, Moment, Next, Outputs, Progress, Run, Step,
    StepRecord, StepState, recorder::Recorder,
};

/// Ceiling of the first wait between two tries.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// Longest wait between two tries.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// What steps do to the world. Each can be done again after it was done, and undone when it never was.
pub trait Effects: Send + Sync + 'static {
    /// Does a step.
    fn act(&self, run: &Run, step: Step) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Undoes a step.
    fn undo(&self, run: &Run, step: Step) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Where progress is kept.
pub trait Store: Send + Sync + 'static {
    /// Notes how far steps are.
    fn note(
        &self,
        lease: Lease,
        notes: &[(Step, StepRecord)],
        outputs: &Outputs,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Turns the operation back; false if it is not ours to turn.
    fn turn_back(&self, lease: Lease, cause: &Cause) -> impl Future<Output = Result<bool, Failure>> + Send;
    /// Ends the operation, undone; false if it is not ours to end.
    fn end_undone(&self, lease: Lease, cause: &Cause) -> impl Future<Output = Result<bool, Failure>> + Send;
}

/// A write that the run cannot go on without.
#[derive(Debug, Clone, Copy)]
enum Write {
    TurnBack,
    EndUndone,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The tenant is there.
    Committed,
    /// Nothing of it is left, and why.
    Undone(Cause),
    /// Another replica goes on with it, or it had ended already.
    NotOurs,
}

/// Runs operations.
#[derive(Debug)]
pub struct Executor<E, S> {
    effects: Arc<E>,
    store: Arc<S>,
    fault_point: Option<FaultPoint>,
}

impl<E: Effects, S: Store> Executor<E, S> {
    /// An executor.
    pub fn new(effects: Arc<E>, store: Arc<S>, fault_point: Option<FaultPoint>) -> Self {
        Self { effects, store, fault_point }
    }

    /// Runs to the end. `cause` says why an operation that is being undone already failed.
    pub async fn run(&self, run: &Arc<Run>, mut cause: Option<Cause>) -> End {
        let recorder = Recorder::start(Arc::clone(run), Arc::clone(&self.store));
        let mut running = FuturesUnordered::new();
        loop {
            match run.progress(|progress| progress.next()) {
                Next::Begin(steps) | Next::Undo(steps) => {
                    for step in steps {
                        Self::move_on(run, &recorder, step, StepState::Running);
                        running.push(self.perform(run, step, recorder.clone()));
                    }
                }
                Next::Wait => {
                    let Some((step, outcome)) = running.next().await else { return End::NotOurs };
                    let state = outcome.unwrap_or_else(|failed| {
                        cause.get_or_insert(failed);
                        StepState::Failed
                    });
                    Self::move_on(run, &recorder, step, state);
                    if state == StepState::Done {
                        self.reach(Moment::After, step, &recorder).await;
                    }
                }
                Next::TurnBack => {
                    let why = cause.get_or_insert_with(unknown_cause);
                    tracing::warn!(operation = %run.operation.id, cause = %why, "turning back");
                    if !self.insist(Write::TurnBack, run.lease, why).await {
                        return End::NotOurs;
                    }
                    run.progress(Progress::turn_back);
                }
                Next::Committed => return End::Committed,
                Next::Undone => {
                    recorder.discard().await;
                    let why = cause.unwrap_or_else(unknown_cause);
                    let ended = self.insist(Write::EndUndone, run.lease, &why).await;
                    return if ended { End::Undone(why) } else { End::NotOurs };
                }
            }
        }
    }

    fn move_on(run: &Run, recorder: &Recorder, step: Step, state: StepState) {
        run.moved(step, state);
        if let Err(error) = run.progress(|progress| progress.set(step, state)) {
            tracing::error!(operation = %run.operation.id, %error, "a step moved the wrong way");
        }
        // The commit writes its own note, with the end.
        if step != Step::Commit {
            recorder.note(step);
        }
    }

    async fn reach(&self, moment: Moment, step: Step, recorder: &Recorder) {
        if let Some(point) = self.fault_point {
            if moment == Moment::After {
                recorder.flush().await;
            }
            point.reached(moment, step);
        }
    }

    /// Does or undoes a step, again and again until it succeeds or fails for good. Undoing never fails for good.
    async fn perform(
        &self,
        run: &Arc<Run>,
        step: Step,
        recorder: Recorder,
    ) -> (Step, Result<StepState, Cause>) {
        let forward = run.progress(|progress| progress.direction()) == Direction::Forward;
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        if forward {
            self.reach(Moment::Before, step, &recorder).await;
            if step == Step::Commit {
                recorder.discard().await;
            }
        }
        loop {
            run.tried(step);
            let outcome =
                if forward { self.effects.act(run, step).await } else { self.effects.undo(run, step).await };
            let failure = match outcome {
                Ok(()) if forward => {
                    self.reach(Moment::During, step, &recorder).await;
                    return (step, Ok(StepState::Done));
                }
                Ok(()) => {
                    self.reach(Moment::Undo, step, &recorder).await;
                    return (step, Ok(StepState::Undone));
                }
                Err(Failure::Permanent(cause)) if forward => return (step, Err(cause)),
                Err(failure) => failure,
            };
            if forward && (Instant::now() >= run.deadline || run.progress(|progress| progress.failing())) {
                let detail = format!("step {step} did not succeed in time: {failure}");
                return (step, Err(Cause { kind: CauseKind::GaveUp, detail }));
            }
            tracing::info!(operation = %run.operation.id, %step, forward, %failure, "trying again");
            tokio::time::sleep(wait(&mut backoff, &failure)).await;
        }
    }

    /// Writes to the journal until it takes it: the operation does not end before.
    async fn insist(&self, write: Write, lease: Lease, cause: &Cause) -> bool {
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        loop {
            let written = match write {
                Write::TurnBack => self.store.turn_back(lease, cause).await,
                Write::EndUndone => self.store.end_undone(lease, cause).await,
            };
            match written {
                Ok(ours) => return ours,
                Err(failure) => {
                    tracing::warn!(%failure, "the journal cannot be written");
                    tokio::time::sleep(wait(&mut backoff, &failure)).await;
                }
            }
        }
    }
}

/// How long to wait after `failure`: as long as the server asks for, within the cap, or a growing random time.
fn wait(backoff: &mut Backoff, failure: &Failure) -> Duration {
    let own = backoff.next(rand::random());
    match failure {
        Failure::Transient { retry_after: Some(asked), .. } => own.max((*asked).min(RETRY_CAP)),
        _ => own,
    }
}

fn unknown_cause() -> Cause {
    Cause { kind: CauseKind::Refused, detail: "a step failed".into() }
}
