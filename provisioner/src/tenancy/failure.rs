//! Why a step did not succeed, and whether trying again can help. Decisions alone, no I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Trying again can help: a server that is down, slow or busy, a conflict of versions.
    #[error("{cause}")]
    Transient {
        /// What happened, in the journal's words.
        cause: String,
        /// How long the server asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Trying again cannot help: the operation is undone.
    #[error("{0}")]
    Permanent(Cause),
}

impl Failure {
    /// Worth another try.
    pub fn transient(cause: impl Into<String>) -> Self {
        Self::Transient { cause: cause.into(), retry_after: None }
    }

    /// Not worth another try.
    pub fn permanent(kind: CauseKind, detail: impl Into<String>) -> Self {
        Self::Permanent(Cause { kind, detail: detail.into() })
    }
}

/// Why an operation failed, as it is kept and answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Cause {
    /// The sort of cause.
    pub kind: CauseKind,
    /// What happened and what to do about it, in words for the caller.
    pub detail: String,
}

impl Cause {
    /// The cause as everybody may hear it. What Kubernetes, PostgreSQL and Redis say names the platform's inside: that is for
    /// its operators, in the log and in the operation's record.
    #[must_use]
    pub fn outwards(&self) -> Self {
        let detail = match self.kind {
            CauseKind::Refused => {
                "a part of the platform refused what the creation needs, and all of it was undone: the platform's operators \
                 find the cause in the operation's record"
            }
            CauseKind::GaveUp => {
                "a part of the platform did not do what the creation needs in time, and all of it was undone: ask again later \
                 with a new Idempotency-Key"
            }
            _ => return self.clone(),
        };
        Self { kind: self.kind, detail: detail.to_owned() }
    }
}

/// Sorts of permanent causes; each has its own HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// Another organization has this name.
    NameTaken,
    /// A namespace of this name exists and is not ours.
    NamespaceTaken,
    /// A namespace of this name is still being deleted.
    NamespaceTerminating,
    /// The owner's email is registered, and the password is not theirs.
    WrongPassword,
    /// Too many wrong passwords for that email.
    Throttled,
    /// A crash lost what cannot be computed again.
    PasswordLost,
    /// The invitation code is unknown, used or expired.
    InvitationInvalid,
    /// Kubernetes, PostgreSQL or Redis refused for good.
    Refused,
    /// It was tried for as long as it may be.
    GaveUp,
}

/// Whether an answer of the Kubernetes API is worth another try, by its status code and reason.
///
/// Source: the reasons of `metav1.Status` and their meaning for clients
/// (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>).
pub fn is_transient_status(code: u16, reason: &str) -> bool {
    match code {
        // Our token may be renewed between two tries.
        401 | 408 | 425 | 429 | 500..=599 => true,
        409 => reason != "AlreadyExists",
        _ => false,
    }
}

/// Whether a PostgreSQL error is worth another try, by its SQLSTATE.
///
/// Source: <https://www.postgresql.org/docs/15/errcodes-appendix.html>: connection, rollback, resources, intervention,
/// lock not available, and a login that is refused while the server starts.
pub fn is_transient_sqlstate(code: &str) -> bool {
    ["08", "40", "53", "57", "58", "28"].iter().any(|class| code.starts_with(class)) || code == "55P03"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_answers_are_sorted() {
        for (code, reason) in [
            (500, "InternalError"),
            (429, "TooManyRequests"),
            (409, "Conflict"),
            (504, "Timeout"),
            (401, "Unauthorized"),
        ] {
            assert!(is_transient_status(code, reason), "{code} {reason}");
        }
        for (code, reason) in [
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "AlreadyExists"),
            (422, "Invalid"),
            (400, "BadRequest"),
        ] {
            assert!(!is_transient_status(code, reason), "{code} {reason}");
        }
    }

    #[test]
    fn what_servers_say_stays_inside() {
        let told = |kind| Cause { kind, detail: "10.0.0.7 said: no".into() }.outwards();
        for kind in [CauseKind::Refused, CauseKind::GaveUp] {
            assert!(!told(kind).detail.contains("10.0.0.7"), "{kind:?}");
        }
        assert_eq!(
            told(CauseKind::NamespaceTerminating).detail,
            "10.0.0.7 said: no",
            "it is about the caller's own"
        );
    }

    #[test]
    fn postgresql_errors_are_sorted() {
        assert!(
            ["08006", "40001", "40P01", "53300", "57P01", "55P03"]
                .iter()
                .all(|code| is_transient_sqlstate(code))
        );
        assert!(["23505", "42501", "22023", "P0001"].iter().all(|code| !is_transient_sqlstate(code)));
    }
}
