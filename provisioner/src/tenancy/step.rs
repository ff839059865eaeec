//! The steps of a tenant's creation, and which needs which.

use std::fmt;

/// A step: an effect that can be done twice and undone twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The Namespace, created and never applied: one that exists already is not ours.
    Namespace,
    /// The ResourceQuota.
    Quota,
    /// The LimitRange.
    Limits,
    /// The NetworkPolicy that denies everything.
    DefaultDeny,
    /// The NetworkPolicy that lets pods reach what the platform offers.
    AllowPlatform,
    /// The owner's RoleBinding.
    OwnerBinding,
    /// The proof that an owner who is known already asks: nobody makes tenants in another's name.
    Owner,
    /// The Argon2id hash of a new owner's password.
    Password,
    /// The PostgreSQL login role of the tenant's sidecars.
    DatabaseRole,
    /// The Redis user of the tenant's sidecars.
    RedisUser,
    /// The Secret with the sidecars' credentials.
    Secret,
    /// The proof that Kubernetes enforces: quota status filled, default ServiceAccount there, owner let in.
    Enforced,
    /// The label that opens the gate.
    Label,
    /// The organization, its owner and its first quota, in one transaction with the operation's end.
    Commit,
}

impl Step {
    /// All steps, each after those that it needs.
    pub const ALL: [Self; 14] = [
        Self::Namespace,
        Self::Quota,
        Self::Limits,
        Self::DefaultDeny,
        Self::AllowPlatform,
        Self::OwnerBinding,
        Self::Owner,
        Self::Password,
        Self::DatabaseRole,
        Self::RedisUser,
        Self::Secret,
        Self::Enforced,
        Self::Label,
        Self::Commit,
    ];

    /// The step's name in the journal, in answers and in fault points.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Quota => "quota",
            Self::Limits => "limits",
            Self::DefaultDeny => "default_deny",
            Self::AllowPlatform => "allow_platform",
            Self::OwnerBinding => "owner_binding",
            Self::Owner => "owner",
            Self::Password => "password",
            Self::DatabaseRole => "database_role",
            Self::RedisUser => "redis_user",
            Self::Secret => "secret",
            Self::Enforced => "enforced",
            Self::Label => "label",
            Self::Commit => "commit",
        }
    }

    /// The step of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// What must be done before this step begins.
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::Namespace | Self::Owner | Self::DatabaseRole | Self::RedisUser => &[],
            Self::Quota | Self::Limits | Self::DefaultDeny | Self::AllowPlatform | Self::OwnerBinding => {
                &[Self::Namespace]
            }
            Self::Password => &[Self::Owner],
            Self::Secret => &[Self::Namespace, Self::DatabaseRole],
            Self::Enforced => &[Self::Quota, Self::OwnerBinding],
            // Everything that can be refused comes before the gate opens: no half tenant is ever ready. Hashing a new
            // password cannot be, and takes as long as all the rest.
            Self::Label => &[
                Self::Limits,
                Self::DefaultDeny,
                Self::AllowPlatform,
                Self::Owner,
                Self::RedisUser,
                Self::Secret,
                Self::Enforced,
            ],
            Self::Commit => &[Self::Label, Self::Password],
        }
    }

    /// Whether this step needs `other`, directly.
    pub fn depends_on(self, other: Self) -> bool {
        self.needs().contains(&other)
    }

    /// The step's place in [`Step::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete_and_in_order() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step.index(), index, "{step}");
            assert_eq!(Step::from_name(step.name()), Some(step));
            assert!(step.needs().iter().all(|need| need < &step), "{step} needs only earlier steps");
        }
    }

    #[test]
    fn the_commit_waits_for_every_other_step() {
        let mut reached = vec![Step::Commit];
        let mut next = 0;
        while next < reached.len() {
            let step = reached[next];
            reached.extend(
                step.needs().iter().filter(|need| !reached.contains(need)).copied().collect::<Vec<_>>(),
            );
            next += 1;
        }
        reached.sort();
        assert_eq!(reached, Step::ALL);
    }
}
