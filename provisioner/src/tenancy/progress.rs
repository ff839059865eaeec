//! Where an operation stands and what comes next: decisions alone, no I/O.
//!
//! The journal names all steps before the first effect, so that each of them counts as begun: after a crash every effect
//! is done again, or undone, whatever the journal last heard of it. Both are safe, for effects are idempotent; so the
//! journal's later notes need not be waited for.

use super::Step;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepState {
    /// Not begun by this run.
    #[default]
    Pending,
    /// Being done, or being undone.
    Running,
    /// Its effect is there.
    Done,
    /// It failed for good.
    Failed,
    /// Its effect is gone.
    Undone,
}

impl StepState {
    /// The state's name in the journal and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::Undone => "UNDONE",
        }
    }
}

/// Which way an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the tenant.
    Forward,
    /// Back to nothing, after a permanent failure.
    Back,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Begin these steps now, together.
    Begin(Vec<Step>),
    /// Undo these steps now, together.
    Undo(Vec<Step>),
    /// Wait for a running step to end.
    Wait,
    /// A step failed and none runs: record it and [`Progress::turn_back`].
    TurnBack,
    /// All steps are done.
    Committed,
    /// All steps are undone.
    Undone,
}

/// A transition that the state does not allow: a bug of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("step {step} cannot go from {from:?} to {to:?}")]
pub struct InvalidTransition {
    /// The step.
    pub step: Step,
    /// Where it is.
    pub from: StepState,
    /// Where it was to go.
    pub to: StepState,
}

/// The states of all steps of one run of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    states: [StepState; Step::ALL.len()],
    direction: Direction,
}

impl Progress {
    /// The start of a run. A resumed operation starts over in its direction.
    pub fn new(direction: Direction) -> Self {
        Self { states: Default::default(), direction }
    }

    /// The state of a step.
    pub fn state(&self, step: Step) -> StepState {
        self.states[step.index()]
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether a step failed for good: others need not try again.
    pub fn failing(&self) -> bool {
        self.any(StepState::Failed)
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match self.direction {
            Direction::Forward => self.next_forward(),
            Direction::Back => self.next_back(),
        }
    }

    fn next_forward(&self) -> Next {
        if self.any(StepState::Failed) {
            return if self.any(StepState::Running) { Next::Wait } else { Next::TurnBack };
        }
        let ready = |step: &Step| {
            self.state(*step) == StepState::Pending
                && step.needs().iter().all(|need| self.state(*need) == StepState::Done)
        };
        let steps: Vec<Step> = Step::ALL.into_iter().filter(ready).collect();
        if !steps.is_empty() {
            Next::Begin(steps)
        } else if self.all(StepState::Done) {
            Next::Committed
        } else {
            Next::Wait
        }
    }

    fn next_back(&self) -> Next {
        let ready = |step: &Step| {
            !matches!(self.state(*step), StepState::Running | StepState::Undone)
                && Step::ALL
                    .into_iter()
                    .filter(|other| other.depends_on(*step))
                    .all(|other| self.state(other) == StepState::Undone)
        };
        let steps: Vec<Step> = Step::ALL.into_iter().filter(ready).collect();
        if !steps.is_empty() {
            Next::Undo(steps)
        } else if self.all(StepState::Undone) {
            Next::Undone
        } else {
            Next::Wait
        }
    }

    /// Changes direction, after a permanent failure.
    pub fn turn_back(&mut self) {
        self.direction = Direction::Back;
    }

    /// Moves a step on.
    pub fn set(&mut self, step: Step, to: StepState) -> Result<(), InvalidTransition> {
        use StepState::{Done, Failed, Pending, Running, Undone};
        let from = self.state(step);
        let allowed = match self.direction {
            Direction::Forward => matches!((from, to), (Pending, Running) | (Running, Done | Failed)),
            Direction::Back => matches!((from, to), (Pending | Done | Failed, Running) | (Running, Undone)),
        };
        if !allowed {
            return Err(InvalidTransition { step, from, to });
        }
        self.states[step.index()] = to;
        Ok(())
    }

    fn any(&self, state: StepState) -> bool {
        self.states.contains(&state)
    }

    fn all(&self, state: StepState) -> bool {
        self.states.iter().all(|other| *other == state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn independent_steps_begin_together() {
        let progress = Progress::new(Direction::Forward);
        let first = vec![Step::Namespace, Step::Owner, Step::DatabaseRole, Step::RedisUser];
        assert_eq!(progress.next(), Next::Begin(first));
    }

    #[test]
    fn undoing_begins_at_the_end() {
        let mut progress = Progress::new(Direction::Forward);
        progress.turn_back();
        assert_eq!(progress.next(), Next::Undo(vec![Step::Commit]));
    }

    #[test]
    fn a_step_does_not_jump() {
        let mut progress = Progress::new(Direction::Forward);
        assert!(progress.set(Step::Quota, StepState::Done).is_err());
        assert!(progress.set(Step::Quota, StepState::Undone).is_err());
    }

    /// Runs to the end; `picks` chooses which running step ends next, `fails` which steps fail.
    fn run(picks: &[usize], fails: &[Step]) -> Progress {
        let mut progress = Progress::new(Direction::Forward);
        let mut running: Vec<Step> = Vec::new();
        let mut picks = picks.iter().copied().cycle();
        for _ in 0..200 {
            match progress.next() {
                Next::Begin(steps) => {
                    for step in steps {
                        assert!(step.needs().iter().all(|need| progress.state(*need) == StepState::Done));
                        progress.set(step, StepState::Running).unwrap();
                        running.push(step);
                    }
                }
                Next::Undo(steps) => {
                    for step in steps {
                        assert!(
                            Step::ALL.iter().all(|other| !other.depends_on(step)
                                || progress.state(*other) == StepState::Undone)
                        );
                        progress.set(step, StepState::Running).unwrap();
                        running.push(step);
                    }
                }
                Next::Wait => {
                    assert!(!running.is_empty(), "waits for nothing");
                    let step = running.remove(picks.next().unwrap_or(0) % running.len());
                    let to = match progress.direction() {
                        Direction::Back => StepState::Undone,
                        Direction::Forward if fails.contains(&step) => StepState::Failed,
                        Direction::Forward => StepState::Done,
                    };
                    progress.set(step, to).unwrap();
                }
                Next::TurnBack => {
                    assert!(running.is_empty(), "turns back while a step runs");
                    progress.turn_back();
                }
                Next::Committed | Next::Undone => return progress,
            }
        }
        panic!("no end: {progress:?}");
    }

    proptest! {
        #[test]
        fn every_order_of_events_ends_whole_or_empty(
            picks in proptest::collection::vec(0usize..14, 1..40),
            fails in proptest::sample::subsequence(Step::ALL.to_vec(), 0..4),
        ) {
            let end = run(&picks, &fails);
            let expected = if fails.is_empty() { StepState::Done } else { StepState::Undone };
            prop_assert!(Step::ALL.iter().all(|step| end.state(*step) == expected));
        }
    }
}
