//! The end: the organization, its owner, its first quota with its mirror, and the operation's answer, in one transaction.

use std::time::Instant;

use contract::sql::PLATFORM_SERVICE;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{World, password};
use crate::tenancy::{
    Answer, CauseKind, Created, Failure, Operation, Outputs, Run, Step, StepReport, StepState, milliseconds,
    uncancelled,
};

/// Commits. Doing it twice is doing it once: the second finds the operation committed.
pub async fn commit(world: &World, run: &Run) -> Result<(), Failure> {
    let commit = Commit {
        began: Instant::now(),
        pool: world.platform.clone(),
        epoch: run.lease.epoch,
        operation: run.operation.clone(),
        outputs: run.outputs(),
        created: created(run),
        steps: Step::ALL.map(|step| run.record(step)).to_vec(),
    };
    match uncancelled(world.call_max, commit.write()).await? {
        Committed::Now(created) => run.answer_with(*created),
        Committed::Before => {}
        // Turning back finds out that it is not ours.
        Committed::Not => {
            return Err(Failure::permanent(CauseKind::Refused, "another replica took the operation over"));
        }
        Committed::OwnerTaken => return Err(settle_owner(world, run).await?),
    }
    Ok(())
}

/// Another creation made the owner's account first. With the same password it is the same owner, who asked for two
/// organizations at once: the next try takes the account as it is.
async fn settle_owner(world: &World, run: &Run) -> Result<Failure, Failure> {
    if password::is_the_accounts(world, run).await? {
        run.remember(|outputs| (outputs.password_hash, outputs.owner_known) = (None, true));
        return Ok(Failure::transient("the owner's account was made by another creation meanwhile"));
    }
    Ok(Failure::permanent(
        CauseKind::WrongPassword,
        "this email address was registered with another password meanwhile: log in, or use that password",
    ))
}

/// What came of a try to commit.
enum Committed {
    /// With this answer.
    Now(Box<Created>),
    /// By an earlier try whose end was not heard of; the answer of then is in the journal.
    Before,
    Not,
    /// Another creation made the owner's account first, with a password of its own.
    OwnerTaken,
}

/// The organization as it is answered from now on.
fn created(run: &Run) -> Created {
    let operation = &run.operation;
    Created {
        id: operation.organization.0,
        name: operation.name.clone(),
        slug: operation.slug.to_string(),
        namespace: operation.slug.namespace(),
        status: "COMMITTED".to_owned(),
        operation_id: operation.id,
        steps: run.step_reports(),
    }
}

struct Commit {
    began: Instant,
    pool: PgPool,
    epoch: i64,
    operation: Operation,
    outputs: Outputs,
    created: Created,
    steps: Vec<crate::tenancy::StepRecord>,
}

impl Commit {
    async fn write(mut self) -> Result<Committed, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        self.write_first_quota(&mut transaction).await?;
        // The answer is written by the step that it tells of: all but this statement and the COMMIT is in its time.
        if let Some(last) = self.created.steps.last_mut() {
            let milliseconds = Some(milliseconds(self.began.elapsed()));
            *last = StepReport { state: StepState::Done.name().to_owned(), milliseconds, ..last.clone() };
        }
        let (ended, owned) = self.end_operation(&mut transaction).await?;
        if !(ended && owned) {
            transaction.rollback().await?;
            return Ok(match ended {
                true => Committed::OwnerTaken,
                false if self.is_committed().await? => Committed::Before,
                false => Committed::Not,
            });
        }
        transaction.commit().await?;
        Ok(Committed::Now(Box::new(self.created)))
    }

    /// Ends the operation if it is still ours, and with it the steps, the organization and its owner. Tells whether it
    /// ended, and whether the owner is who asked: a new password must be the account's, or it was made by someone else
    /// since this one was looked for.
    async fn end_operation(
        &self,
        transaction: &mut sqlx::PgTransaction<'_>,
    ) -> Result<(bool, bool), sqlx::Error> {
        let answer = serde_json::to_value(Answer::Created(self.created.clone())).unwrap_or_default();
        let names: Vec<String> = Step::ALL.iter().map(|step| step.name().to_owned()).collect();
        let attempts: Vec<i32> = self.steps.iter().map(|record| record.attempts).collect();
        let started: Vec<Option<OffsetDateTime>> =
            self.steps.iter().map(|record| record.started_at).collect();
        let finished: Vec<Option<OffsetDateTime>> =
            self.steps.iter().map(|record| record.finished_at).collect();
        let ended = sqlx::query!(
            r#"
            WITH ended AS (
                UPDATE operations SET state = 'COMMITTED', answer = $3, finished_at = clock_timestamp(), password_hash = NULL,
                    lease_until = NULL
                WHERE id = $1 AND lease_epoch = $2 AND state = 'RUNNING'
                RETURNING id, org_id
            ), organization AS (
                UPDATE organizations SET status = 'COMMITTED', committed_at = clock_timestamp() FROM ended
                WHERE organizations.id = ended.org_id
            ), steps AS (
                UPDATE operation_steps AS s
                SET state = 'DONE', attempts = n.attempts, started_at = coalesce(s.started_at, n.started_at),
                    finished_at = coalesce(n.finished_at, clock_timestamp())
                FROM ended, unnest($4::text[], $5::int[], $6::timestamptz[], $7::timestamptz[])
                    AS n (step, attempts, started_at, finished_at)
                WHERE s.operation_id = ended.id AND s.step = n.step
            ), owner AS (
                INSERT INTO users (id, email, password_hash) SELECT $8, $9, $10 FROM ended
                ON CONFLICT (lower(email)) DO UPDATE SET email = users.email
                WHERE $10::text IS NULL OR users.password_hash = $10
                RETURNING id
            ), membership AS (
                INSERT INTO memberships (user_id, org_id, role) SELECT owner.id, ended.org_id, 'owner' FROM owner, ended
                ON CONFLICT (user_id, org_id) DO NOTHING
            )
            SELECT (SELECT count(*) FROM ended) AS "ended!", (SELECT count(*) FROM owner) AS "owned!"
            "#,
            self.operation.id,
            self.epoch,
            answer,
            &names,
            &attempts,
            &started as &[Option<OffsetDateTime>],
            &finished as &[Option<OffsetDateTime>],
            Uuid::now_v7(),
            self.operation.email,
            self.outputs.password_hash,
        )
        .fetch_one(&mut **transaction)
        .await?;
        Ok((ended.ended == 1, ended.owned == 1))
    }

    /// The first row of the quota's history, and its mirror that sidecars read.
    async fn write_first_quota(&self, transaction: &mut sqlx::PgTransaction<'_>) -> Result<(), sqlx::Error> {
        let organization = self.operation.organization.0;
        let quota = &self.operation.quota;
        let (cpu, memory, storage) =
            (quota.cpu.to_string(), quota.memory.to_string(), quota.storage.to_string());
        let actor = self.operation.email.as_str();
        let keys = ["quota.cpu", "quota.memory", "quota.storage"].map(str::to_owned);
        let values = [&cpu, &memory, &storage].map(|value| serde_json::Value::from(value.as_str()));
        // Sets app.current_org for the statement after it.
        sqlx::query!(
            "SELECT written.version FROM unnest($4::text[], $5::jsonb[]) AS mirror (key, value),
                 config_write($1, $2, mirror.key, mirror.value, NULL, $3, 'first quota') AS written",
            organization,
            PLATFORM_SERVICE,
            actor,
            &keys[..],
            &values[..],
        )
        .fetch_all(&mut **transaction)
        .await?;
        sqlx::query!(
            "INSERT INTO quota_changes (org_id, cpu, memory, storage, reason, actor)
             VALUES ($1, $2, $3, $4, 'first quota', $5)",
            organization,
            cpu,
            memory,
            storage,
            actor,
        )
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Whether an earlier try committed, whose answer was lost.
    async fn is_committed(&self) -> Result<bool, sqlx::Error> {
        let state = sqlx::query_scalar!("SELECT state FROM operations WHERE id = $1", self.operation.id);
        Ok(state.fetch_optional(&self.pool).await?.as_deref() == Some("COMMITTED"))
    }
}
