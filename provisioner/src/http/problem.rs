//! The one place where errors of the domain become problem documents. Server faults are logged and not told.

use axum::http::{HeaderValue, StatusCode, header};
use runtime::problem::Problem;
use serde_json::json;

use crate::{
    config::{
        ConfigError,
        etag::InvalidTags,
        schema::{SchemaError, Violation},
    },
    identity::{TokenError, login::LoginError, password::PasswordError, throttle::Throttled},
};

/// A problem of a named sort: `urn:agent-ready:<sort>`.
pub fn named(status: StatusCode, sort: &str, title: &str) -> Problem {
    Problem::new(status).kind(format!("urn:agent-ready:{sort}"), title)
}

/// A fault of ours: the cause goes to the log, the client gets its trace of it.
pub fn internal(error: &dyn std::fmt::Display) -> Problem {
    let id = uuid::Uuid::new_v4();
    tracing::error!(%error, %id, "request failed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
        .detail("the cause is in the log")
        .with("incident", id.to_string())
}

/// PostgreSQL cannot be reached, or failed.
pub fn database(error: &sqlx::Error) -> Problem {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
            tracing::warn!(%error, "database unavailable");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("the database cannot be reached; try again")
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        // The server is starting, stopping or out of connections.
        sqlx::Error::Database(cause)
            if cause.code().is_some_and(|code| code.starts_with("57P") || code == "53300") =>
        {
            tracing::warn!(%error, "database unavailable");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("the database is not ready; try again")
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        error => internal(error),
    }
}

/// No token, or none that counts. `reason` is one of RFC 6750's codes; none if no token was sent.
pub fn unauthorized(reason: Option<&str>, detail: &str) -> Problem {
    let challenge = reason.map_or_else(
        || "Bearer realm=\"agent-ready\"".to_owned(),
        |reason| format!("Bearer realm=\"agent-ready\", error=\"{reason}\""),
    );
    let problem = named(StatusCode::UNAUTHORIZED, "unauthorized", "Log in first").detail(detail);
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}

/// Too many attempts.
pub fn throttled(throttled: Throttled) -> Problem {
    named(StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many attempts")
        .detail(format!("try again in {} seconds", throttled.retry_after_seconds))
        .header(header::RETRY_AFTER, HeaderValue::from(throttled.retry_after_seconds))
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        unauthorized(Some("invalid_token"), &error.to_string())
    }
}

impl From<InvalidTags> for Problem {
    fn from(error: InvalidTags) -> Self {
        named(StatusCode::BAD_REQUEST, "invalid-entity-tag", "Invalid entity tag").detail(error.to_string())
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Throttled(until) => throttled(until),
            LoginError::Refused => {
                named(StatusCode::UNAUTHORIZED, "login-refused", "Login refused").detail(error.to_string())
            }
            LoginError::Ambiguous(organizations) => {
                named(StatusCode::CONFLICT, "organization-needed", "Choose an organization")
                    .detail("name one of the organizations in `organization`")
                    .with("organizations", json!(organizations))
            }
            LoginError::NoMembership => named(StatusCode::FORBIDDEN, "no-membership", "No membership")
                .detail("the user does not belong to this organization, or to any that is ready"),
            LoginError::Database(error) => database(&error),
            LoginError::Password(PasswordError::Interrupted) => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("too many logins at once; try again")
                .header(header::RETRY_AFTER, HeaderValue::from_static("2")),
            error @ (LoginError::Password(_) | LoginError::Token(_)) => internal(&error),
        }
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        let detail = error.to_string();
        match error {
            ConfigError::NotFound | ConfigError::NoOrganization | ConfigError::NoVersion(_) => {
                Problem::new(StatusCode::NOT_FOUND).detail(detail)
            }
            ConfigError::VersionIsDeletion(_) => {
                named(StatusCode::CONFLICT, "version-is-deletion", "Nothing to roll back to").detail(detail)
            }
            ConfigError::Reserved => {
                named(StatusCode::FORBIDDEN, "reserved-service", "Reserved service").detail(detail)
            }
            ConfigError::PreconditionFailed { current } => {
                named(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Changed meanwhile")
                    .detail(detail)
                    .with("current_version", json!(current))
            }
            ConfigError::Violations(violations) => invalid(&detail, &violations),
            ConfigError::Schema(SchemaError::TooMuchWork(_)) => named(
                StatusCode::UNPROCESSABLE_ENTITY,
                "schema-and-value-too-large",
                "Too large to be checked",
            )
            .detail(detail),
            ConfigError::Schema(_) => {
                named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-schema", "Invalid schema").detail(detail)
            }
            ConfigError::Value(_) => {
                named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value").detail(detail)
            }
            ConfigError::TooManyKeys { most } => full(&detail).with("most_keys", json!(most)),
            ConfigError::TooManyBytes { most, .. } => full(&detail).with("most_bytes", json!(most)),
            ConfigError::Change { index, cause } => {
                let mut problem = Self::from(*cause);
                if !problem.status.is_server_error() {
                    problem.extra.insert("change".into(), json!(index));
                }
                problem
            }
            ConfigError::Database(error) => database(&error),
        }
    }
}

fn full(detail: &str) -> Problem {
    named(StatusCode::CONFLICT, "configuration-full", "No room for more configuration").detail(detail)
}

fn invalid(detail: &str, violations: &[Violation]) -> Problem {
    named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value")
        .detail(detail)
        .with("violations", json!(violations))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn a_server_fault_does_not_tell_its_cause() {
        let problem = Problem::from(ConfigError::Database(sqlx::Error::Protocol("secret detail".into())));
        assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!serde_json::to_string(&problem).unwrap().contains("secret"));
    }

    #[test]
    fn a_change_of_a_batch_says_which() {
        let cause = Box::new(ConfigError::PreconditionFailed { current: Some(4) });
        let problem = Problem::from(ConfigError::Change { index: 2, cause });
        assert_eq!(problem.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!((&problem.extra["change"], &problem.extra["current_version"]), (&json!(2), &json!(4)));
    }

    #[test]
    fn an_unreachable_database_is_temporary() {
        let problem = database(&sqlx::Error::PoolTimedOut);
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(problem.into_response().headers().contains_key(header::RETRY_AFTER));
    }
}
