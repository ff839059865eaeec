//! Opening an operation: one transaction decides by key, name and limits, and names all steps before the first effect.

use std::time::Duration;

use uuid::Uuid;

use super::{Journal, Request, seconds};
use crate::tenancy::{Answer, Cause, CauseKind, Creation, IdempotencyKey, Lease, Operation, Step};

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

impl Journal {
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
}

fn request_of(opening: &Opening<'_>) -> serde_json::Value {
    let quota = &opening.operation.quota;
    let request = Request {
        owner: opening.operation.owner.to_annotation(),
        cpu: quota.cpu.to_string(),
        memory: quota.memory.to_string(),
        storage: quota.storage.to_string(),
        password_expected: opening.creation.password.is_some(),
    };
    serde_json::to_value(request).unwrap_or_default()
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
