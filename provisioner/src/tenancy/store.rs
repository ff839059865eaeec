//! The journal as the executor's store: errors sorted, each write in a task of its own.

use std::{future::Future, time::Duration};

use super::{Cause, Failure, Journal, Lease, Outputs, Step, StepRecord, Store, journal};

/// Runs database work to its end even if the caller is dropped: sqlx 0.9's transactions are not safe to cancel in the
/// middle of their beginning (sqlx issues 4385, 4393).
pub async fn uncancelled<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(tokio::time::timeout(limit, work)).await {
        Ok(Ok(result)) => result.map_err(|error| journal::failed(&error)),
        Ok(Err(_)) => Err(Failure::transient("PostgreSQL did not answer in time")),
        Err(_) => Err(Failure::transient("a database task ended early")),
    }
}

/// The journal, each write with a time limit.
#[derive(Debug, Clone)]
pub struct JournalStore {
    /// The journal.
    pub journal: Journal,
    /// Time limit of a write.
    pub call_max: Duration,
}

impl Store for JournalStore {
    async fn note(
        &self,
        lease: Lease,
        notes: &[(Step, StepRecord)],
        outputs: &Outputs,
    ) -> Result<(), Failure> {
        let (journal, notes, outputs) = (self.journal.clone(), notes.to_vec(), outputs.clone());
        uncancelled(self.call_max, async move { journal.note(lease, &notes, &outputs).await }).await
    }

    async fn turn_back(&self, lease: Lease, cause: &Cause) -> Result<bool, Failure> {
        let (journal, cause) = (self.journal.clone(), cause.clone());
        uncancelled(self.call_max, async move { journal.turn_back(lease, &cause).await }).await
    }

    async fn end_undone(&self, lease: Lease, cause: &Cause) -> Result<bool, Failure> {
        let (journal, cause) = (self.journal.clone(), cause.clone());
        uncancelled(self.call_max, async move { journal.end_undone(lease, &cause).await }).await
    }
}
