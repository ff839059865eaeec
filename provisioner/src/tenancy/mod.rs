//! Tenants: a saga with its journal in PostgreSQL.
//!
//! Pure, tested by themselves: [`Step`] (which needs which), [`Progress`] (what comes next), [`failure`] (what is worth
//! another try), [`request`] (what is valid), [`credentials`] (what is derived). I/O: [`journal`], the steps' effects, the
//! worker. [`executor`] joins the two through [`Effects`] and [`Store`] and knows neither SQL nor Kubernetes.
//!
//! Crash safety: one transaction names the operation with all its steps before the first effect; every effect can be done
//! again and undone; the last step ends the operation in the same transaction as the organization. A run that was
//! interrupted is begun again by whichever replica takes the lease, or undone if it was being undone.

pub mod credentials;
pub mod effects;
pub mod executor;
#[cfg(test)]
mod executor_tests;
pub mod failure;
mod fault;
pub mod journal;
mod operation;
mod progress;
mod recorder;
pub mod redis_users;
pub mod request;
mod step;
mod store;
pub mod worker;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use contract::{OrganizationId, Quota, baseline::PodSecurity};
use kube::Client;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use credentials::MasterKey;
pub use effects::{TenantAddresses, World};
pub use executor::{Effects, End, Executor, Store};
pub use failure::{Cause, CauseKind, Failure, is_transient_status};
pub use fault::{FaultPoint, InvalidFaultPoint, Moment};
pub use journal::{Claimed, Journal, Limit, Opened, Opening};
pub use operation::{Answer, Created, Lease, Operation, Outputs, Run, StepRecord, StepReport, milliseconds};
pub use progress::{Direction, InvalidTransition, Next, Progress, StepState};
pub use redis_users::{AclUsers, RedisUsers};
pub use request::{Creation, IdempotencyKey, Invalid, NewOrganization, Password};
pub use step::Step;
pub use store::{JournalStore, uncancelled};

use crate::settings::{SagaSettings, ServeSettings};

/// Parts of a lease: it is renewed after each, and given up when only one is left, so that no call outlives it.
const LEASE_PARTS: u32 = 3;
/// How long opening an operation may take: nothing is held meanwhile, so a busy database is waited for.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// Creations that one replica runs at once.
const RUNNING_MAX: usize = 64;

/// Makes tenants.
pub struct Tenancy {
    saga: SagaSettings,
    worker: Uuid,
    world: Arc<World>,
    journal: Journal,
    executor: Executor<World, JournalStore>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A creation on its way: what was opened, and how to wait for it.
pub enum Begun {
    /// It runs in a task of its own, which nobody's departure cancels.
    Running {
        /// The operation.
        operation: Uuid,
        /// Its end; nothing if another replica goes on with it.
        end: tokio::sync::oneshot::Receiver<Option<Answer>>,
    },
    /// Nothing was begun.
    Not(Opened),
}

/// Who asks for a creation.
#[derive(Debug, Clone)]
pub struct Asking<'a> {
    /// Whose idempotency key it is.
    pub subject: &'a str,
    /// The idempotency key.
    pub key: Option<&'a IdempotencyKey>,
    /// How often the caller may ask.
    pub limits: Vec<Limit>,
    /// Whether an invitation is needed.
    pub invitation_needed: bool,
}

impl Tenancy {
    /// Sets the saga up; nothing is reached yet.
    pub fn new(
        settings: &ServeSettings,
        platform: PgPool,
        kube: Client,
        passwords: crate::identity::Passwords,
    ) -> anyhow::Result<Self> {
        let ca = match &settings.ca_file {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("CA file {}", path.display()))?
            }
            None => String::new(),
        };
        // No call may outlive the part of the lease that is kept back.
        let call_max = settings.saga.call_max().min(settings.saga.lease() / LEASE_PARTS);
        let world = Arc::new(World {
            kube,
            platform: platform.clone(),
            redis: Arc::new(AclUsers::new(&settings.redis_admin_url, settings.ca_file.as_deref(), call_max)?),
            master_key: MasterKey::load(&settings.master_key_file)?,
            passwords,
            guesses_max: settings.login_failures_per_email,
            addresses: TenantAddresses {
                database: settings.tenant_database_address.clone(),
                redis: settings.tenant_redis_address.clone(),
                ca,
                peers: serde_json::from_str(&settings.platform_peers).context("platform peers")?,
            },
            call_max,
        });
        let journal = Journal::new(platform);
        let store = Arc::new(JournalStore { journal: journal.clone(), call_max });
        Ok(Self {
            saga: settings.saga.clone(),
            worker: Uuid::new_v4(),
            executor: Executor::new(Arc::clone(&world), store, settings.fault_point),
            world,
            journal,
            slots: Arc::new(Semaphore::new(RUNNING_MAX)),
            tasks: TaskTracker::new(),
        })
    }

    /// How the saga is run.
    pub fn saga(&self) -> &SagaSettings {
        &self.saga
    }

    /// What the steps work on.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Opens a creation and runs it in a task of its own.
    pub async fn begin(self: &Arc<Self>, creation: Creation, asking: Asking<'_>) -> Result<Begun, Failure> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| Failure::transient("too many creations at once"))?;
        let operation = Operation {
            id: Uuid::new_v4(),
            organization: OrganizationId(Uuid::now_v7()),
            name: creation.name.clone(),
            slug: creation.slug.clone(),
            email: creation.email.clone(),
            owner: creation.owner.clone(),
            quota: Quota::default(),
            pod_security: PodSecurity::default(),
        };
        let password = creation.password.clone();
        let leased = Instant::now();
        let opened = self.open(creation, operation.clone(), asking).await?;
        let Opened::Fresh(lease) = opened else { return Ok(Begun::Not(opened)) };
        let expected = password.is_some();
        let id = operation.id;
        let run = Run::new(
            operation,
            lease,
            (password, expected),
            leased + self.saga.operation_max(),
            Progress::new(Direction::Forward),
            Outputs::default(),
        );
        let (tell, end) = tokio::sync::oneshot::channel();
        let tenancy = Arc::clone(self);
        self.tasks.spawn(async move {
            let _ = tell.send(tenancy.drive(run, None, leased).await);
            drop(slot);
        });
        Ok(Begun::Running { operation: id, end })
    }

    async fn open(
        &self,
        creation: Creation,
        operation: Operation,
        asking: Asking<'_>,
    ) -> Result<Opened, Failure> {
        let (journal, worker, lease) = (self.journal.clone(), self.worker, self.saga.lease());
        let (subject, key) = (asking.subject.to_owned(), asking.key.cloned());
        uncancelled(OPEN_MAX, async move {
            let opening = Opening {
                creation: &creation,
                operation: &operation,
                subject: &subject,
                key: key.as_ref(),
                worker,
                lease,
                limits: &asking.limits,
                invitation_needed: asking.invitation_needed,
            };
            journal.open(&opening).await
        })
        .await
    }

    /// Takes over operations whose replica is silent.
    async fn claim(&self, limit: i64) -> Result<Vec<Claimed>, Failure> {
        let (journal, worker, lease) = (self.journal.clone(), self.worker, self.saga.lease());
        uncancelled(self.world.call_max, async move { journal.claim(worker, lease, limit).await }).await
    }

    /// Goes on with an operation that was taken over.
    async fn resume(&self, claimed: Claimed) {
        let direction = if claimed.undoing.is_some() { Direction::Back } else { Direction::Forward };
        tracing::info!(operation = %claimed.lease.operation, epoch = claimed.lease.epoch, ?direction, "resuming");
        let now = Instant::now();
        let run = Run::new(
            claimed.operation,
            claimed.lease,
            (None, claimed.password_expected),
            // Time in which nobody worked on it does not count.
            now + self.saga.operation_max(),
            Progress::new(direction),
            claimed.outputs,
        );
        self.drive(run, claimed.undoing, now).await;
    }

    /// Waits for the operations that run, for at most `limit`; what is left then is resumed by another replica.
    pub async fn finish(&self, limit: Duration) {
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "operations are left to other replicas");
        }
    }

    /// Runs to the end while the lease holds.
    async fn drive(&self, run: Arc<Run>, cause: Option<Cause>, leased: Instant) -> Option<Answer> {
        let end = tokio::select! {
            end = self.executor.run(&run, cause) => end,
            () = self.keep_lease(run.lease, leased) => {
                tracing::warn!(operation = %run.operation.id, "lease lost");
                End::NotOurs
            }
        };
        match end {
            End::Committed => run.created().map(Answer::Created),
            End::Undone(cause) => Some(Answer::Failed(cause)),
            End::NotOurs => None,
        }
    }

    /// Renews the lease, and returns when it cannot be relied on any longer.
    async fn keep_lease(&self, lease: Lease, mut renewed: Instant) {
        let part = self.saga.lease() / LEASE_PARTS;
        loop {
            let left = part.saturating_sub(renewed.elapsed());
            tokio::time::sleep(left.max(Duration::from_millis(50))).await;
            let asked = Instant::now();
            let (journal, length) = (self.journal.clone(), self.saga.lease());
            match uncancelled(part, async move { journal.renew(lease, length).await }).await {
                Ok(true) => renewed = asked,
                Ok(false) => return,
                Err(failure) => tracing::warn!(operation = %lease.operation, %failure, "lease not renewed"),
            }
            if renewed.elapsed() + part >= self.saga.lease() {
                return;
            }
        }
    }
}
