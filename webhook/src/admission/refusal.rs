//! What a refused user reads: what happened, why, what to do. Every message of the gate is written here.

use std::fmt::Write as _;

/// A refusal: its reason for metrics, its message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A short reason for metrics, from a closed set.
    pub reason: &'static str,
    /// What happened, why, and what to do.
    pub message: String,
}

impl Refusal {
    /// The reason of a refusal for facts that could not be read.
    pub const UNKNOWN_STATE: &'static str = "unknown-state";

    /// A refusal from its parts.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A request that no rule of this webhook is for. Unknown is never allowed.
    pub fn unknown_request(what: &str) -> Self {
        Self::new(
            "unknown-request",
            format!(
                "The isolation gate was asked about {what}, which it has no rule for, and refuses what it does not know. \
                 To do: remove that rule from the webhook configuration."
            ),
        )
    }

    /// An object that cannot be read as what the request says it is.
    pub fn unreadable(what: &str, why: &str) -> Self {
        Self::new("unreadable", format!("The isolation gate cannot read the {what} of this request: {why}."))
    }

    /// The facts for a decision could not be read.
    pub fn unknown_state(namespace: &str, why: &str) -> Self {
        Self::new(
            Self::UNKNOWN_STATE,
            format!(
                "The isolation gate cannot tell whether namespace {namespace:?} is isolated: {why}. Nothing starts on an \
                 unknown state. To do: try again; if it persists, the gate's own connection to the API server is broken."
            ),
        )
    }
}

/// Joins the missing parts as a numbered list in one line, since `kubectl` prints a refusal as one paragraph.
pub fn listed(parts: &[String]) -> String {
    let mut list = String::new();
    for (number, part) in parts.iter().enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        let _ = write!(list, "{separator}({}) {part}", number + 1);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_sentences() {
        insta::assert_snapshot!(Refusal::unknown_request("CREATE of configmaps").message);
        insta::assert_snapshot!(
            Refusal::unreadable("namespace", "expected value at line 1 column 1").message
        );
        insta::assert_snapshot!(
            Refusal::unknown_state("shop", "the API server did not answer within 2 s").message
        );
    }

    #[test]
    fn missing_parts_are_numbered() {
        assert_eq!(listed(&["a".into(), "b".into()]), "(1) a; (2) b");
        assert_eq!(listed(&[]), "");
    }
}
