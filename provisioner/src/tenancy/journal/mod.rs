//! The journal in PostgreSQL: what was asked for, who works on it, how far it is.
//!
//! One statement names the operation, its organization and all its steps before the first effect. Later notes name the
//! lease's epoch: a replica that lost its lease changes nothing. Transactions are begun in spawned tasks alone.

mod open;

use std::time::Duration;

use contract::{OrganizationId, Owner, Quota, Slug};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

pub use open::{Limit, Opened, Opening};

use super::{Answer, Cause, CauseKind, Failure, Lease, Operation, Outputs, Step, StepRecord, failure};

/// What is kept of a request, beside the organization's own columns. Never a password.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// As in the namespace's annotation.
    owner: String,
    cpu: String,
    memory: String,
    storage: String,
    password_expected: bool,
}

/// An operation that a worker took over.
#[derive(Debug)]
pub struct Claimed {
    /// What it makes.
    pub operation: Operation,
    /// The right to go on.
    pub lease: Lease,
    /// Whether it is being undone, and why.
    pub undoing: Option<Cause>,
    /// What earlier runs found out.
    pub outputs: Outputs,
    /// Whether a password was asked for.
    pub password_expected: bool,
}

/// Turns a database error into the decision whether to try again.
pub fn failed(error: &sqlx::Error) -> Failure {
    let Some(database) = error.as_database_error() else {
        return Failure::transient(format!("PostgreSQL: {error}"));
    };
    let code = database.code().unwrap_or_default();
    if failure::is_transient_sqlstate(&code) {
        Failure::transient(format!("PostgreSQL: {code} {}", database.message()))
    } else {
        tracing::error!(%error, "PostgreSQL refused");
        Failure::permanent(CauseKind::Refused, format!("the database refused (SQLSTATE {code})"))
    }
}

/// The journal.
#[derive(Debug, Clone)]
pub struct Journal {
    pool: PgPool,
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

impl Journal {
    /// A journal on the platform's pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The pool, for steps that are transactions themselves.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Takes operations over whose replica has been silent for longer than its lease; at most `limit`.
    pub async fn claim(
        &self,
        worker: Uuid,
        lease: Duration,
        limit: i64,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"
            WITH claimed AS (
                UPDATE operations SET lease_owner = $1, lease_epoch = lease_epoch + 1,
                    lease_until = now() + make_interval(secs => $2)
                WHERE id IN (
                    SELECT id FROM operations WHERE state IN ('RUNNING', 'COMPENSATING') AND lease_until < now()
                    ORDER BY lease_until FOR UPDATE SKIP LOCKED LIMIT $3
                )
                RETURNING id, org_id, state, cause, password_hash, request, lease_epoch
            )
            SELECT claimed.id, org_id, state, cause, password_hash, request, lease_epoch,
                name, slug, owner_email,
                (SELECT detail FROM operation_steps WHERE operation_id = claimed.id AND step = 'namespace') AS namespace_detail
            FROM claimed JOIN organizations ON organizations.id = org_id
            "#,
            worker,
            seconds(lease),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let (Some((owner, quota, password_expected)), Ok(slug)) =
                (read_request(row.request), Slug::from_name(&row.slug))
            else {
                tracing::error!(operation = %row.id, "the journal holds an operation that cannot be read");
                continue;
            };
            let undoing = (row.state == "COMPENSATING").then(|| parse_cause(row.cause.as_deref()));
            let namespace_uid =
                row.namespace_detail.and_then(|detail| Some(detail.get("uid")?.as_str()?.to_owned()));
            claimed.push(Claimed {
                operation: Operation {
                    id: row.id,
                    organization: OrganizationId(row.org_id),
                    name: row.name,
                    slug,
                    email: row.owner_email,
                    owner,
                    quota,
                    pod_security: contract::baseline::PodSecurity::default(),
                },
                lease: Lease { operation: row.id, epoch: row.lease_epoch },
                undoing,
                outputs: Outputs { namespace_uid, password_hash: row.password_hash, ..Outputs::default() },
                password_expected,
            });
        }
        Ok(claimed)
    }

    /// Keeps the lease. False: another replica has it, or the operation has ended.
    pub async fn renew(&self, lease: Lease, length: Duration) -> Result<bool, sqlx::Error> {
        let kept = sqlx::query!(
            "UPDATE operations SET lease_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND lease_epoch = $2 AND state IN ('RUNNING', 'COMPENSATING')",
            lease.operation,
            lease.epoch,
            seconds(length),
        )
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(kept == 1)
    }

    /// Notes how far steps are, and what they found out.
    pub async fn note(
        &self,
        lease: Lease,
        notes: &[(Step, StepRecord)],
        outputs: &Outputs,
    ) -> Result<(), sqlx::Error> {
        let steps: Vec<String> = notes.iter().map(|(step, _)| step.name().to_owned()).collect();
        let states: Vec<String> = notes.iter().map(|(_, record)| record.state.name().to_owned()).collect();
        let attempts: Vec<i32> = notes.iter().map(|(_, record)| record.attempts).collect();
        let started: Vec<Option<OffsetDateTime>> =
            notes.iter().map(|(_, record)| record.started_at).collect();
        let finished: Vec<Option<OffsetDateTime>> =
            notes.iter().map(|(_, record)| record.finished_at).collect();
        sqlx::query!(
            r#"
            WITH held AS (
                UPDATE operations SET password_hash = coalesce($8, password_hash)
                WHERE id = $1 AND lease_epoch = $2 AND state IN ('RUNNING', 'COMPENSATING')
                RETURNING id
            )
            UPDATE operation_steps AS s
            SET state = n.state, attempts = n.attempts, started_at = coalesce(s.started_at, n.started_at),
                finished_at = n.finished_at,
                detail = CASE WHEN n.step = 'namespace' AND $9::text IS NOT NULL THEN jsonb_build_object('uid', $9::text)
                    WHEN n.step = 'database_role' AND $10::text IS NOT NULL THEN jsonb_build_object('role', $10::text)
                    ELSE s.detail END
            FROM held, unnest($3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::timestamptz[])
                AS n (step, state, attempts, started_at, finished_at)
            WHERE s.operation_id = held.id AND s.step = n.step
            "#,
            lease.operation,
            lease.epoch,
            &steps,
            &states,
            &attempts,
            &started as &[Option<OffsetDateTime>],
            &finished as &[Option<OffsetDateTime>],
            outputs.password_hash,
            outputs.namespace_uid,
            outputs.database_role,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Turns an operation back. False: the lease is lost, or the operation has ended, perhaps well.
    pub async fn turn_back(&self, lease: Lease, cause: &Cause) -> Result<bool, sqlx::Error> {
        let turned = sqlx::query!(
            "UPDATE operations SET state = 'COMPENSATING', cause = $3
             WHERE id = $1 AND lease_epoch = $2 AND state IN ('RUNNING', 'COMPENSATING')",
            lease.operation,
            lease.epoch,
            serde_json::to_string(cause).unwrap_or_default(),
        )
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(turned == 1)
    }

    /// Ends an operation whose every step is undone.
    pub async fn end_undone(&self, lease: Lease, cause: &Cause) -> Result<bool, sqlx::Error> {
        let answer = serde_json::to_value(Answer::Failed(cause.clone())).unwrap_or_default();
        let ended = sqlx::query!(
            r#"
            WITH ended AS (
                UPDATE operations SET state = 'FAILED', cause = $3, answer = $4, finished_at = now(), password_hash = NULL,
                    lease_until = NULL
                WHERE id = $1 AND lease_epoch = $2 AND state = 'COMPENSATING'
                RETURNING id, org_id
            ), organization AS (
                UPDATE organizations SET status = 'FAILED', failure = $3 FROM ended WHERE organizations.id = ended.org_id
            ), invitation AS (
                UPDATE registration_invites SET used_by_operation = NULL FROM ended WHERE used_by_operation = ended.id
            ), steps AS (
                UPDATE operation_steps SET state = 'UNDONE' FROM ended WHERE operation_id = ended.id
            )
            SELECT count(*) AS "count!" FROM ended
            "#,
            lease.operation,
            lease.epoch,
            cause.detail,
            answer,
        )
        .fetch_one(&self.pool)
        .await?
        .count;
        Ok(ended == 1)
    }
}

/// What was kept of a request: owner, quota, whether a password was asked for.
fn read_request(request: serde_json::Value) -> Option<(Owner, Quota, bool)> {
    let request: Request = serde_json::from_value(request).ok()?;
    let quota = Quota::parse(&request.cpu, &request.memory, &request.storage).ok()?;
    Some((Owner::from_annotation(&request.owner).ok()?, quota, request.password_expected))
}

/// The cause as it was kept while the operation was being undone.
fn parse_cause(text: Option<&str>) -> Cause {
    let text = text.unwrap_or_default();
    serde_json::from_str(text).unwrap_or_else(|_| Cause { kind: CauseKind::Refused, detail: text.to_owned() })
}
