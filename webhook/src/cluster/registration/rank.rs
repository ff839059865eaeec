//! Which of two registrations is the newer one: so that replicas of two versions do not write against each other.

use std::fmt;

/// Annotation on the configurations: the rollout and the digest of who wrote them.
pub const ANNOTATION: &str = "agent-ready.io/registration";

/// The rollout that a replica belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Its number, which grows with every rollout of a Deployment and begins anew with another Deployment.
    pub revision: u64,
    /// UID of the Deployment; empty for a process that belongs to none.
    pub deployment: String,
    /// When the ReplicaSet was created, in seconds since 1970.
    pub created: u64,
}

impl Rollout {
    /// Whether this one began after the other.
    fn is_after(&self, other: &Self) -> bool {
        if self.deployment == other.deployment {
            // Not by time: a rollback gives an old ReplicaSet a new revision.
            self.revision > other.revision
        } else {
            self.created > other.created
        }
    }
}

/// The rollout of a replica, and the digest of what it registers. Replicas of one digest are of one mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    /// Of two the later counts.
    pub rollout: Rollout,
    /// Digest of the entries, without the caBundle.
    pub digest: String,
}

impl Rank {
    /// Reads the annotation; what cannot be read was not written by us.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '/');
        let (revision, digest) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        let (created, deployment) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some(Self { rollout: Rollout { revision, deployment, created }, digest })
    }

    /// Whether what `present` registered is not ours to change: another mind's, and later.
    pub fn yields_to(&self, present: &Self) -> bool {
        present.digest != self.digest && present.rollout.is_after(&self.rollout)
    }

    /// What to write over `present`: between replicas of one mind the later rollout stays.
    #[must_use]
    pub fn over(&self, present: Option<&Self>) -> Self {
        let later = present
            .filter(|present| present.digest == self.digest && present.rollout.is_after(&self.rollout));
        later.unwrap_or(self).clone()
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rollout: Rollout { revision, deployment, created }, digest } = self;
        write!(formatter, "{revision}/{digest}/{created}/{deployment}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(text: &str) -> Rank {
        Rank::parse(text).unwrap()
    }

    #[test]
    fn only_another_mind_of_a_later_rollout_is_newer() {
        assert!(rank("1/a/10/d").yields_to(&rank("2/b/10/d")));
        // A rollback: the older ReplicaSet has the greater revision.
        assert!(rank("2/a/20/d").yields_to(&rank("3/b/10/d")));
        for (mine, present) in [("1/a/10/d", "2/a/20/d"), ("2/a/20/d", "1/b/10/d"), ("2/a/10/d", "2/b/20/d")]
        {
            assert!(!rank(mine).yields_to(&rank(present)), "{mine} {present}");
        }
    }

    #[test]
    fn another_deployment_counts_by_its_time() {
        let (gone, anew) = (rank("7/a/10/old"), rank("1/b/20/new"));
        assert!(!anew.yields_to(&gone), "revisions begin anew");
        assert!(gone.yields_to(&anew), "one of the two writes");
    }

    #[test]
    fn a_rollout_never_goes_back_among_replicas_of_one_mind() {
        assert_eq!(rank("1/a/10/d").over(Some(&rank("7/a/10/d"))), rank("7/a/10/d"));
        assert_eq!(rank("1/a/10/d").over(Some(&rank("0/b/10/d"))), rank("1/a/10/d"));
        assert_eq!(rank("1/a/20/new").over(Some(&rank("7/a/10/old"))), rank("1/a/20/new"));
        assert_eq!(rank("1/a/10/d").over(None), rank("1/a/10/d"));
    }

    #[test]
    fn what_we_did_not_write_is_no_rank() {
        for text in ["", "1", "x/a/1/d", "-1/a/1/d", "1/a", "1/a/x/d"] {
            assert_eq!(Rank::parse(text), None, "{text}");
        }
        assert_eq!(rank("3/a/1/d").to_string(), "3/a/1/d");
        assert_eq!(rank("3/a/1/").rollout.deployment, "");
    }
}
