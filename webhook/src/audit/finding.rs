//! What the audit finds.

use std::cmp::Ordering;

/// What is wrong; a closed set, so that metrics stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A webhook configuration or policy of the gate is gone, or lets through what it should not.
    Guard,
    /// A namespace carries the ready label and its baseline does not prove it.
    ReadyWithoutProof,
    /// An object beside the baseline opens everything to everyone.
    OpensEverything,
    /// A pod came in after the ready label was taken away, while the API server's selector lagged.
    PodAfterRevocation,
    /// A pod runs in a namespace that is not ready.
    PodInUnreadyNamespace,
    /// A pod of a kubelet's own file, which no admission ever sees.
    StaticPod,
    /// A tenant's pod has no config sidecar though its namespace asks for it.
    PodWithoutSidecar,
    /// The second lock, policies in the API server that hold without the webhook, is not installed.
    SecondLock,
    /// The baseline of a ready namespace could not be read.
    Unreadable,
}

/// How much it matters, in the words of policy reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Isolation is broken.
    Critical,
    /// Isolation may be broken.
    High,
    /// Not all is known.
    Medium,
    /// Convenience.
    Low,
}

impl Severity {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl Kind {
    /// All kinds, the gravest first.
    pub const ALL: [Self; 9] = [
        Self::Guard,
        Self::ReadyWithoutProof,
        Self::OpensEverything,
        Self::PodAfterRevocation,
        Self::PodInUnreadyNamespace,
        Self::StaticPod,
        Self::SecondLock,
        Self::PodWithoutSidecar,
        Self::Unreadable,
    ];

    /// Its name in metrics, reports and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::ReadyWithoutProof => "ready-without-proof",
            Self::OpensEverything => "opens-everything",
            Self::PodAfterRevocation => "pod-after-revocation",
            Self::PodInUnreadyNamespace => "pod-in-unready-namespace",
            Self::StaticPod => "static-pod",
            Self::PodWithoutSidecar => "pod-without-sidecar",
            Self::SecondLock => "second-lock",
            Self::Unreadable => "unreadable",
        }
    }

    /// Its name as the reason of an Event.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Guard => "GuardMissing",
            Self::ReadyWithoutProof => "ReadyWithoutProof",
            Self::OpensEverything => "OpensEverything",
            Self::PodAfterRevocation => "PodAfterRevocation",
            Self::PodInUnreadyNamespace => "PodInUnreadyNamespace",
            Self::StaticPod => "StaticPod",
            Self::PodWithoutSidecar => "PodWithoutSidecar",
            Self::SecondLock => "SecondLockMissing",
            Self::Unreadable => "BaselineUnreadable",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::Guard | Self::ReadyWithoutProof | Self::OpensEverything => Severity::Critical,
            Self::PodAfterRevocation | Self::PodInUnreadyNamespace | Self::StaticPod => Severity::High,
            Self::SecondLock | Self::Unreadable => Severity::Medium,
            Self::PodWithoutSidecar => Severity::Low,
        }
    }
}

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// API version.
    pub api_version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Its namespace; a Namespace's own name; `""` for other cluster-wide objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, where it was read.
    pub uid: String,
}

impl Object {
    /// A namespace.
    pub fn namespace(name: &str, uid: &str) -> Self {
        Self {
            api_version: "v1",
            kind: "Namespace",
            namespace: name.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}

/// One thing that is wrong, with one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// With what.
    pub object: Object,
    /// What it is, why it matters, and what to do.
    pub message: String,
}

impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.object.namespace, self.kind, &self.object, &self.message).cmp(&(
            &other.object.namespace,
            other.kind,
            &other.object,
            &other.message,
        ))
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_are_told_apart_everywhere() {
        let codes: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        let reasons: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.reason()).collect();
        assert_eq!((codes.len(), reasons.len()), (Kind::ALL.len(), Kind::ALL.len()));
    }
}
