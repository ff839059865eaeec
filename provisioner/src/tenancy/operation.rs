//! One run of one operation: what it makes, what it found out so far, how long each step took.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contract::{
    OrganizationId, Owner, Quota, Slug,
    baseline::{PodSecurity, Tenant},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Cause, Password, Progress, Step, StepState};

/// What an operation makes.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The operation, made by the server; also an annotation of the namespace.
    pub id: Uuid,
    /// The organization.
    pub organization: OrganizationId,
    /// Display name.
    pub name: String,
    /// Short name; decides the namespace.
    pub slug: Slug,
    /// The owner's email address, in lower case.
    pub email: String,
    /// The owner as Kubernetes knows them.
    pub owner: Owner,
    /// The first quota.
    pub quota: Quota,
    /// Pod Security levels of the namespace.
    pub pod_security: PodSecurity,
}

impl Operation {
    /// What the baseline is built from.
    pub fn tenant(&self) -> Tenant {
        Tenant {
            organization: self.organization,
            slug: self.slug.clone(),
            owner: self.owner.clone(),
            quota: self.quota.clone(),
            operation: self.id,
            pod_security: self.pod_security,
        }
    }
}

/// The right to work on an operation. Every write to the journal names the epoch, so that a replica that lost the lease
/// and does not know it writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The operation.
    pub operation: Uuid,
    /// Counts the leases of the operation.
    pub epoch: i64,
}

/// What steps found out that later steps need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    /// UID of the namespace: one deleted and made again under its name is another.
    pub namespace_uid: Option<String>,
    /// Generated name of the tenant's PostgreSQL role.
    pub database_role: Option<String>,
    /// Whether the owner has an account already, and proved to be who asks.
    pub owner_known: bool,
    /// Argon2id hash of a new owner's password.
    pub password_hash: Option<String>,
}

/// How a step went so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepRecord {
    /// How far it is.
    pub state: StepState,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was first tried by this run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    clock: Option<Instant>,
    took: Option<Duration>,
}

impl StepRecord {
    /// Milliseconds from the first try to the end, or to now.
    pub fn milliseconds(&self) -> Option<f64> {
        let took = self.took.or_else(|| self.clock.map(|clock| clock.elapsed()))?;
        Some(milliseconds(took))
    }
}

/// Milliseconds with one decimal.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// A run of an operation by this process.
#[derive(Debug)]
pub struct Run {
    /// What it makes.
    pub operation: Operation,
    /// The right to make it.
    pub lease: Lease,
    /// The owner's password; lost after a crash.
    pub password: Option<Password>,
    /// Whether a password was ever asked for: an owner who was logged in needs none.
    pub password_expected: bool,
    /// When it gives up and turns back.
    pub deadline: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    records: [StepRecord; Step::ALL.len()],
    outputs: Outputs,
    created: Option<Created>,
}

impl Run {
    /// A run that starts with `progress` and what earlier runs found out.
    pub fn new(
        operation: Operation,
        lease: Lease,
        password: (Option<Password>, bool),
        deadline: Instant,
        progress: Progress,
        outputs: Outputs,
    ) -> Arc<Self> {
        let state = Mutex::new(State { progress, records: Default::default(), outputs, created: None });
        let (password, password_expected) = password;
        Arc::new(Self { operation, lease, password, password_expected, deadline, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the progress.
    pub fn progress<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> T {
        look(&mut self.lock().progress)
    }

    /// What was found out so far.
    pub fn outputs(&self) -> Outputs {
        self.lock().outputs.clone()
    }

    /// Keeps what a step found out.
    pub fn remember(&self, change: impl FnOnce(&mut Outputs)) {
        change(&mut self.lock().outputs);
    }

    /// Keeps the answer that was committed.
    pub fn answer_with(&self, created: Created) {
        self.lock().created = Some(created);
    }

    /// The answer that was committed by this run.
    pub fn created(&self) -> Option<Created> {
        self.lock().created.clone()
    }

    /// How a step went so far.
    pub fn record(&self, step: Step) -> StepRecord {
        self.lock().records[step.index()]
    }

    /// Counts a try of a step.
    pub fn tried(&self, step: Step) {
        self.lock().records[step.index()].attempts += 1;
    }

    /// Notes that a step moved on, with the time.
    pub fn moved(&self, step: Step, state: StepState) {
        let mut inner = self.lock();
        let record = &mut inner.records[step.index()];
        record.state = state;
        if state == StepState::Running {
            record.started_at.get_or_insert_with(OffsetDateTime::now_utc);
            record.clock.get_or_insert_with(Instant::now);
        } else {
            record.took = record.clock.map(|clock| clock.elapsed());
            record.finished_at = Some(OffsetDateTime::now_utc());
        }
    }

    /// The steps as they are answered.
    pub fn step_reports(&self) -> Vec<StepReport> {
        let inner = self.lock();
        Step::ALL
            .into_iter()
            .map(|step| {
                let record = inner.records[step.index()];
                StepReport {
                    name: step.name().to_owned(),
                    state: record.state.name().to_owned(),
                    milliseconds: record.milliseconds(),
                }
            })
            .collect()
    }
}

/// A step as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// `PENDING`, `RUNNING`, `DONE`, `FAILED` or `UNDONE`.
    pub state: String,
    /// How long it took so far.
    pub milliseconds: Option<f64>,
}

/// A new organization as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The organization.
    pub id: Uuid,
    /// Display name.
    pub name: String,
    /// Short name.
    pub slug: String,
    /// Its namespace.
    pub namespace: String,
    /// `COMMITTED`.
    pub status: String,
    /// The operation that made it.
    pub operation_id: Uuid,
    /// How it was made.
    pub steps: Vec<StepReport>,
}

/// How an operation ended: what every request with its key is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The organization is there.
    Created(Created),
    /// It is not, and nothing of it is left.
    Failed(Cause),
}
