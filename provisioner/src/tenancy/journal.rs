//! The journal in PostgreSQL: what was asked for, who works on it, how far it is.
//!
//! One statement names the operation, its organization and all its steps before the first effect. Later notes name the
//! lease's epoch: a replica that lost its lease changes nothing. Transactions are begun in spawned tasks alone.

use std::time::Duration;

use contract::{OrganizationId, Owner, Quota, Slug};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Answer, Cause, CauseKind, Creation, Failure, IdempotencyKey, Lease, Operation, Outputs, Step, StepRecord,
    failure,
};

/// What is kept of a request, beside the organization's own columns. Never a password.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    owner: String,
    cpu: String,
    memory: String,
    storage: String,
    password_expected: bool,
}

/// How often one bucket may be used in a minute.
#[derive(Debug, Clone)]
pub struct Limit {
    /// What is counted, without personal data.
    pub bucket: String,
    /// Most uses in a minute.
    pub max: u32,
}

/// How an operation is opened.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    /// What is asked for.
    pub creation: &'a Creation,
    /// What it makes.
    pub operation: &'a Operation,
    /// Whose idempotency key it is.
    pub subject: &'a str,
    /// The idempotency key.
    pub key: Option<&'a IdempotencyKey>,
    /// Who works on it.
    pub worker: Uuid,
    /// For how long.
    pub lease: Duration,
    /// What is counted.
    pub limits: &'a [Limit],
    /// Whether an invitation is needed.
    pub invitation_needed: bool,
}

/// What came of opening an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// It is ours to do.
    Fresh(Lease),
    /// The key was used before.
    Known {
        /// The operation of then.
        operation: Uuid,
        /// Whether the request is the same.
        same: bool,
        /// Its end, if it has ended.
        answer: Option<Answer>,
    },
    /// It failed before it began.
    Refused(Cause),
    /// Too many in this minute.
    Throttled,
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

    /// Writes the operation, its organization and its steps down, unless its key, its name or its caller forbid it.
    pub async fn open(&self, opening: &Opening<'_>) -> Result<Opened, sqlx::Error> {
        let operation = opening.operation;
        let buckets: Vec<String> = opening.limits.iter().map(|limit| limit.bucket.clone()).collect();
        let maxima: Vec<i32> =
            opening.limits.iter().map(|limit| i32::try_from(limit.max).unwrap_or(i32::MAX)).collect();
        let steps: Vec<String> = Step::ALL.iter().map(|step| step.name().to_owned()).collect();
        let request = request_of(opening);
        let mut transaction = self.pool.begin().await?;
        let found = sqlx::query!(
            r#"
            WITH hits AS (
                INSERT INTO throttle AS t (bucket, window_start, count)
                SELECT bucket, date_trunc('minute', now()), 1 FROM unnest($1::text[]) AS bucket
                ON CONFLICT (bucket, window_start) DO UPDATE SET count = t.count + 1
                RETURNING bucket, count
            ), allowed AS (
                SELECT coalesce(bool_and(hits.count <= most), true) AS ok
                FROM hits JOIN unnest($1::text[], $2::int[]) AS limits (bucket, most) USING (bucket)
            ), operation AS (
                INSERT INTO operations (id, org_id, kind, subject, idempotency_key, fingerprint, request,
                    lease_owner, lease_epoch, lease_until)
                SELECT $3, $4, 'create', $5, $6, $7, $8, $9, 1, now() + make_interval(secs => $10)
                FROM allowed WHERE ok
                ON CONFLICT ON CONSTRAINT operations_subject_key DO NOTHING
                RETURNING id
            ), organization AS (
                INSERT INTO organizations (id, name, slug, namespace, owner_email, operation_id)
                SELECT $4, $11, $12, $13, $14, operation.id FROM operation
                ON CONFLICT (slug) WHERE status <> 'FAILED' DO NOTHING
                RETURNING id
            ), steps AS (
                INSERT INTO operation_steps (operation_id, step)
                SELECT $3, step FROM organization, unnest($15::text[]) AS step
            )
            SELECT (SELECT ok FROM allowed) AS "allowed!", EXISTS (SELECT FROM operation) AS "opened!",
                EXISTS (SELECT FROM organization) AS "named!"
            "#,
            &buckets,
            &maxima,
            operation.id,
            operation.organization.0,
            opening.subject,
            opening.key.map(IdempotencyKey::as_str),
            &opening.creation.fingerprint[..],
            request,
            opening.worker,
            seconds(opening.lease),
            operation.name,
            operation.slug.as_str(),
            operation.slug.namespace(),
            operation.email,
            &steps,
        )
        .fetch_one(&mut *transaction)
        .await?;
        let refused = match (found.opened, found.named) {
            (true, false) => Some(Cause {
                kind: CauseKind::NameTaken,
                detail: format!("another organization has the short name {}", operation.slug),
            }),
            (true, true) if opening.invitation_needed => {
                self.take_invitation(opening, &mut transaction).await?
            }
            _ => None,
        };
        if let Some(cause) = refused {
            write_refusal(opening, &cause, &mut transaction).await?;
            transaction.commit().await?;
            return Ok(Opened::Refused(cause));
        }
        transaction.commit().await?;
        if found.opened {
            return Ok(Opened::Fresh(Lease { operation: operation.id, epoch: 1 }));
        }
        let known = self.known(opening).await?;
        Ok(known.unwrap_or(Opened::Throttled))
    }

    /// Uses the invitation up; says why if it cannot be used.
    async fn take_invitation(
        &self,
        opening: &Opening<'_>,
        transaction: &mut sqlx::PgTransaction<'_>,
    ) -> Result<Option<Cause>, sqlx::Error> {
        let code = opening.creation.invitation.as_deref().unwrap_or_default();
        let taken = sqlx::query!(
            "UPDATE registration_invites SET used_by_operation = $1
             WHERE code_hash = sha256($2) AND used_by_operation IS NULL AND expires_at > now()",
            opening.operation.id,
            code.as_bytes(),
        )
        .execute(&mut **transaction)
        .await?
        .rows_affected();
        Ok((taken == 0).then(|| Cause {
            kind: CauseKind::InvitationInvalid,
            detail: "registration needs an invitation code that is known, unused and not expired".into(),
        }))
    }

    /// The operation that used this key before.
    async fn known(&self, opening: &Opening<'_>) -> Result<Option<Opened>, sqlx::Error> {
        let Some(key) = opening.key else { return Ok(None) };
        let known = sqlx::query!(
            "SELECT id, fingerprint, answer FROM operations WHERE subject = $1 AND idempotency_key = $2",
            opening.subject,
            key.as_str(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(known.map(|row| Opened::Known {
            operation: row.id,
            same: row.fingerprint.as_deref() == Some(&opening.creation.fingerprint[..]),
            answer: row.answer.and_then(|answer| serde_json::from_value(answer).ok()),
        }))
    }

    /// Takes operations over whose replica has been silent for longer than its lease; at most `limit`.
    pub async fn claim(
        &self,
        worker: Uuid,
        lease: Duration,
        limit: i64,
        owner_prefix: &str,
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
            let request: Option<Request> = serde_json::from_value(row.request).ok();
            let quota = request.as_ref().and_then(|r| Quota::parse(&r.cpu, &r.memory, &r.storage).ok());
            let (Some(request), Some(quota), Ok(slug), Ok(owner)) = (
                request,
                quota,
                Slug::from_name(&row.slug),
                Owner::from_email(owner_prefix, &row.owner_email),
            ) else {
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
                outputs: Outputs { namespace_uid, database_role: None, password_hash: row.password_hash },
                password_expected: request.password_expected,
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

fn request_of(opening: &Opening<'_>) -> serde_json::Value {
    let quota = &opening.operation.quota;
    let request = Request {
        owner: opening.operation.owner.name().to_owned(),
        cpu: quota.cpu.to_string(),
        memory: quota.memory.to_string(),
        storage: quota.storage.to_string(),
        password_expected: opening.creation.password.is_some(),
    };
    serde_json::to_value(request).unwrap_or_default()
}

/// The cause as it was kept while the operation was being undone.
fn parse_cause(text: Option<&str>) -> Cause {
    let text = text.unwrap_or_default();
    serde_json::from_str(text).unwrap_or_else(|_| Cause { kind: CauseKind::Refused, detail: text.to_owned() })
}

/// An operation that failed before its first step is kept too: its key gets the same answer again.
async fn write_refusal(
    opening: &Opening<'_>,
    cause: &Cause,
    transaction: &mut sqlx::PgTransaction<'_>,
) -> Result<(), sqlx::Error> {
    let operation = opening.operation;
    let answer = serde_json::to_value(Answer::Failed(cause.clone())).unwrap_or_default();
    sqlx::query!(
        r#"
        WITH ended AS (
            UPDATE operations SET state = 'FAILED', cause = $6, answer = $7, finished_at = now(), lease_until = NULL
            WHERE id = $1
        ), steps AS (
            UPDATE operation_steps SET state = 'UNDONE' WHERE operation_id = $1
        )
        INSERT INTO organizations (id, name, slug, namespace, owner_email, operation_id, status, failure)
        VALUES ($2, $3, $4, $5, $8, $1, 'FAILED', $6)
        ON CONFLICT (id) DO UPDATE SET status = 'FAILED', failure = excluded.failure
        "#,
        operation.id,
        operation.organization.0,
        operation.name,
        operation.slug.as_str(),
        operation.slug.namespace(),
        cause.detail,
        answer,
        operation.email,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
