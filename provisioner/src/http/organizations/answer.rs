//! Ends of a creation as HTTP answers.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use runtime::problem::Problem;
use serde_json::json;
use uuid::Uuid;

use crate::{
    http::problem::named,
    tenancy::{Answer, Cause, CauseKind, Invalid},
};

/// The end of an operation; the same for everybody who asks with its key.
pub fn ended(answer: Answer) -> Response {
    match answer {
        Answer::Created(created) => {
            let location = format!("/api/organizations/{}", created.id);
            (StatusCode::CREATED, [(header::LOCATION, location)], Json(created)).into_response()
        }
        Answer::Failed(cause) => cause_problem(&cause).into_response(),
    }
}

/// The problem that a permanent cause is answered with.
pub fn cause_problem(cause: &Cause) -> Problem {
    let (status, sort, title) = match cause.kind {
        CauseKind::NameTaken => (StatusCode::CONFLICT, "name-taken", "Name taken"),
        CauseKind::NamespaceTaken => (StatusCode::CONFLICT, "namespace-taken", "Namespace taken"),
        CauseKind::NamespaceTerminating => {
            (StatusCode::CONFLICT, "namespace-terminating", "Namespace is still being deleted")
        }
        CauseKind::WrongPassword => (StatusCode::FORBIDDEN, "wrong-password", "Wrong password"),
        CauseKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many attempts"),
        CauseKind::InvitationInvalid => (StatusCode::FORBIDDEN, "invitation-invalid", "Invitation not valid"),
        CauseKind::PasswordLost => (StatusCode::SERVICE_UNAVAILABLE, "interrupted", "Creation interrupted"),
        CauseKind::GaveUp => (StatusCode::SERVICE_UNAVAILABLE, "gave-up", "Creation given up"),
        CauseKind::Refused => (StatusCode::BAD_GATEWAY, "refused", "Creation refused by the platform"),
    };
    named(status, sort, title).detail(cause.outwards().detail)
}

/// Goes on without the caller: where to look.
pub fn accepted(operation: Uuid) -> Response {
    let body = json!({"operation_id": operation, "state": "RUNNING"});
    (StatusCode::ACCEPTED, [(header::LOCATION, location(operation))], Json(body)).into_response()
}

/// The key's first request still runs.
pub fn still_running(operation: Uuid) -> Problem {
    let problem = named(StatusCode::CONFLICT, "still-running", "Still running")
        .detail("the first request with this Idempotency-Key still runs: ask again in a moment")
        .with("operation_id", operation.to_string())
        .header(header::RETRY_AFTER, HeaderValue::from_static("1"));
    match HeaderValue::try_from(location(operation)) {
        Ok(location) => problem.header(header::LOCATION, location),
        Err(_) => problem,
    }
}

/// The key was used for something else.
pub fn key_reused() -> Problem {
    named(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "Idempotency-Key used before")
        .detail("another request with another body had this Idempotency-Key: take a new one")
}

/// Too many creations in this minute.
pub fn too_many(seconds: u64) -> Problem {
    named(StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many requests")
        .detail(format!("too many creations in this minute: try again in {seconds} seconds"))
        .header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

/// Fields that are wrong, each with its rule.
pub fn invalid(faults: &[Invalid]) -> Problem {
    let errors: Vec<_> =
        faults.iter().map(|fault| json!({"field": fault.field(), "detail": fault.to_string()})).collect();
    let detail = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-organization", "Invalid organization")
        .detail(detail)
        .with("errors", errors)
}

fn location(operation: Uuid) -> String {
    format!("/api/operations/{operation}")
}
