//! Which of two registrations is the newer one: so that replicas of two versions do not write against each other.

use std::fmt;

/// Annotation on the configurations: the revision and the digest of who wrote them.
pub const ANNOTATION: &str = "agent-ready.io/registration";

/// Revision of the replica's settings, and the digest of what they register. Replicas of one digest are of one mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    /// Grows with every rollout; of two the greater is the newer.
    pub revision: u64,
    /// Digest of the entries, without the caBundle.
    pub digest: String,
}

impl Rank {
    /// Reads the annotation; what cannot be read was not written by us.
    pub fn parse(text: &str) -> Option<Self> {
        let (revision, digest) = text.split_once('/')?;
        Some(Self { revision: revision.parse().ok()?, digest: digest.to_owned() })
    }

    /// Whether what `present` registered is not ours to change: another mind's, and newer.
    pub fn yields_to(&self, present: &Self) -> bool {
        present.digest != self.digest && present.revision > self.revision
    }

    /// What to write over `present`: between replicas of one mind the revision only grows.
    #[must_use]
    pub fn over(&self, present: Option<&Self>) -> Self {
        let known =
            present.filter(|present| present.digest == self.digest).map_or(0, |present| present.revision);
        Self { revision: self.revision.max(known), digest: self.digest.clone() }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.revision, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(text: &str) -> Rank {
        Rank::parse(text).unwrap()
    }

    #[test]
    fn only_another_mind_with_a_greater_revision_is_newer() {
        assert!(rank("1/a").yields_to(&rank("2/b")));
        for (mine, present) in [("1/a", "2/a"), ("2/a", "1/b"), ("2/a", "2/b")] {
            assert!(!rank(mine).yields_to(&rank(present)), "{mine} {present}");
        }
    }

    #[test]
    fn a_revision_never_shrinks_among_replicas_of_one_mind() {
        assert_eq!(rank("1/a").over(Some(&rank("7/a"))), rank("7/a"));
        assert_eq!(rank("1/a").over(Some(&rank("0/b"))), rank("1/a"));
        assert_eq!(rank("1/a").over(None), rank("1/a"));
    }

    #[test]
    fn what_we_did_not_write_is_no_rank() {
        for text in ["", "1", "x/a", "-1/a"] {
            assert_eq!(Rank::parse(text), None, "{text}");
        }
        assert_eq!(rank("3/a").to_string(), "3/a");
    }
}
