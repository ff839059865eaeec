//! A sequence: operations one after another, each held against the model.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::cluster::Place;
use super::{Clients, How, Mode, Model, Operation, Verdict};

/// After a replica was killed the API server may meet its address for so long.
const AFTER_A_KILL: Duration = Duration::from_mins(1);
/// And after so long it is a failure however many were killed meanwhile.
const AWAY_MAX: Duration = Duration::from_mins(2);
/// Between two tries of what met no replica.
const AGAIN: Duration = Duration::from_millis(200);

/// When replicas were killed: nobody else may find the webhook away.
#[derive(Debug, Default)]
pub struct Kills(Mutex<(u32, Option<Instant>)>);

impl Kills {
    /// Notes that one is killed now.
    pub fn note(&self) {
        let mut kills = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kills = (kills.0 + 1, Some(Instant::now()));
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn recent(&self) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).1;
        last.is_some_and(|last| last.elapsed() < AFTER_A_KILL)
    }
}

/// Random operations on one namespace.
pub struct Sequence<'a> {
    place: Place,
    kills: &'a Kills,
    random: StdRng,
    model: Model,
    /// Held pods that nothing may have let go since.
    held: Vec<String>,
    trace: Vec<String>,
}

impl<'a> Sequence<'a> {
    /// Runs the sequence of this seed; how many operations were done.
    pub async fn run(clients: &Clients, kills: &'a Kills, seed: u64) -> Result<usize> {
        let mut sequence = Self {
            place: Place::new(clients)?,
            kills,
            random: StdRng::seed_from_u64(seed),
            model: Model::default(),
            held: Vec::new(),
            trace: Vec::new(),
        };
        let outcome = sequence.all().await;
        let length = sequence.trace.len();
        // It may be gone already.
        let _ = sequence.place.delete_namespace().await;
        let context = || {
            format!("seed {seed}, namespace {}:\n  {}", sequence.place.name(), sequence.trace.join("\n  "))
        };
        outcome.with_context(context)?;
        Ok(length)
    }

    async fn all(&mut self) -> Result<()> {
        let length = self.random.random_range(20..=32);
        self.step(Operation::CreateNamespace).await?;
        while self.trace.len() < length {
            let operation = Operation::random(&mut self.random);
            if self.model.may_try(operation) {
                self.step(operation).await?;
            }
        }
        for pod in &self.held {
            let held = self.place.is_held(pod).await?;
            ensure!(held != Some(false), "pod {pod} was released though nothing let it go");
        }
        Ok(())
    }

    async fn step(&mut self, operation: Operation) -> Result<()> {
        self.trace.push(format!("{operation:?}"));
        match operation {
            Operation::Settle => self.settle().await,
            Operation::Pod(how) => return self.pod(how).await,
            _ => return self.write(operation).await,
        }
        Ok(())
    }

    async fn settle(&self) {
        tokio::time::sleep(self.model.unsettled(Instant::now())).await;
    }

    async fn write(&mut self, operation: Operation) -> Result<()> {
        let expected = self.model.allows(operation);
        let since = Instant::now();
        let refused = loop {
            let refused = self.place.write(operation).await?;
            if !self.away(refused.as_deref(), since).await? {
                break refused;
            }
        };
        match (expected, refused) {
            (true, Some(why)) => bail!("{operation:?} was refused: {why}"),
            (false, None) => bail!("{operation:?} went through"),
            (false, Some(why)) => {
                ensure!(why.contains("agent-ready.io"), "{operation:?} was not refused by the gate: {why}");
            }
            (true, None) => {
                self.model.done(operation, Instant::now());
                if lets_go(operation) {
                    self.held.clear();
                }
            }
        }
        Ok(())
    }

    async fn pod(&mut self, how: How) -> Result<()> {
        if matches!(how, How::ReplicaSet | How::Job) {
            // A controller asks in its own time.
            self.settle().await;
        }
        let since = Instant::now();
        let (expected, verdict, detail) = loop {
            let expected = self.model.verdicts(Instant::now());
            let (verdict, detail) = self.place.pod(how).await?;
            let refused = (verdict == Verdict::Refused).then_some(detail.as_str());
            if !self.away(refused, since).await? {
                break (expected, verdict, detail);
            }
        };
        ensure!(expected.contains(&verdict), "a pod was {verdict:?}, not {expected:?}: {detail}");
        if verdict == Verdict::Held && how != How::DryRun {
            self.held.push(detail);
        }
        Ok(())
    }

    /// Whether the refusal came because a replica was killed; waits a little then. It was asked for first at `since`. That
    /// nobody answers though none was killed, or for long, is a failure.
    async fn away(&self, refused: Option<&str>, since: Instant) -> Result<bool> {
        let Some(why) = refused else { return Ok(false) };
        let nobody = why.contains("failed calling webhook");
        if !nobody && !why.contains("cannot tell whether") {
            return Ok(false);
        }
        if self.kills.recent() && since.elapsed() < AWAY_MAX {
            tokio::time::sleep(AGAIN).await;
            return Ok(true);
        }
        ensure!(!nobody, "no replica answers: {why}");
        Ok(false)
    }
}

/// Whether held pods may be released, or gone, once this went through.
fn lets_go(operation: Operation) -> bool {
    match operation {
        Operation::Ready(true, _) | Operation::DeleteNamespace => true,
        // Who may change the mode may let pods in.
        Operation::SetMode(mode, _) => mode != Mode::Hold,
        _ => false,
    }
}
