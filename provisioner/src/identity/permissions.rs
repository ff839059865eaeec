//! Which role may do what: one table, no I/O.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role: of a member in one organization, or of a platform operator in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything in the organization, its end included.
    Owner,
    /// Everything but the organization's existence.
    Admin,
    /// Reads all, writes configuration and data.
    Developer,
    /// Reads only.
    Viewer,
    /// Runs the platform: sees and manages organizations, and reads none of their values.
    Operator,
}

/// The roles that a membership can have, the most powerful first.
pub const MEMBER_ROLES: [Role; 4] = [Role::Owner, Role::Admin, Role::Developer, Role::Viewer];

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Permission {
    /// See the organization's name, state and operations.
    #[serde(rename = "organization:read")]
    OrganizationRead,
    /// Rename the organization.
    #[serde(rename = "organization:write")]
    OrganizationWrite,
    /// Suspend, resume and delete the organization.
    #[serde(rename = "organization:manage")]
    OrganizationManage,
    /// List all organizations of the platform.
    #[serde(rename = "platform:read")]
    PlatformRead,
    /// Read configuration values and schemas.
    #[serde(rename = "configs:read")]
    ConfigsRead,
    /// Write, delete and roll back configuration values.
    #[serde(rename = "configs:write")]
    ConfigsWrite,
    /// Set and remove the schemas of configuration values.
    #[serde(rename = "schemas:write")]
    SchemasWrite,
    /// Read who changed what, when and why.
    #[serde(rename = "history:read")]
    HistoryRead,
    /// Read the quota and its changes.
    #[serde(rename = "quota:read")]
    QuotaRead,
    /// Change the quota.
    #[serde(rename = "quota:write")]
    QuotaWrite,
    /// Read billing and efficiency reports.
    #[serde(rename = "reports:read")]
    ReportsRead,
    /// Read projects and notes.
    #[serde(rename = "projects:read")]
    ProjectsRead,
    /// Write projects and notes.
    #[serde(rename = "projects:write")]
    ProjectsWrite,
    /// See members and invitations.
    #[serde(rename = "members:read")]
    MembersRead,
    /// Invite, change and remove members.
    #[serde(rename = "members:write")]
    MembersWrite,
}

use Permission as P;

const VIEWER: &[Permission] = &[P::OrganizationRead, P::ConfigsRead, P::QuotaRead, P::ProjectsRead];
const DEVELOPER: &[Permission] = &[
    P::OrganizationRead,
    P::ConfigsRead,
    P::ConfigsWrite,
    P::HistoryRead,
    P::QuotaRead,
    P::ProjectsRead,
    P::ProjectsWrite,
    P::MembersRead,
];
const ADMIN: &[Permission] = &[
    P::OrganizationRead,
    P::OrganizationWrite,
    P::ConfigsRead,
    P::ConfigsWrite,
    P::SchemasWrite,
    P::HistoryRead,
    P::QuotaRead,
    P::QuotaWrite,
    P::ReportsRead,
    P::ProjectsRead,
    P::ProjectsWrite,
    P::MembersRead,
    P::MembersWrite,
];
const OWNER: &[Permission] = &[
    P::OrganizationRead,
    P::OrganizationWrite,
    P::OrganizationManage,
    P::ConfigsRead,
    P::ConfigsWrite,
    P::SchemasWrite,
    P::HistoryRead,
    P::QuotaRead,
    P::QuotaWrite,
    P::ReportsRead,
    P::ProjectsRead,
    P::ProjectsWrite,
    P::MembersRead,
    P::MembersWrite,
];
const OPERATOR: &[Permission] = &[
    P::OrganizationRead,
    P::OrganizationManage,
    P::PlatformRead,
    P::QuotaRead,
    P::QuotaWrite,
    P::ReportsRead,
];

impl Role {
    /// What the role may do.
    pub const fn permissions(self) -> &'static [Permission] {
        match self {
            Self::Owner => OWNER,
            Self::Admin => ADMIN,
            Self::Developer => DEVELOPER,
            Self::Viewer => VIEWER,
            Self::Operator => OPERATOR,
        }
    }

    /// Whether the role may do `permission`.
    pub fn allows(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// The role as it is stored and as tokens carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a role that a membership can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is owner, admin, developer or viewer")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    /// Reads the role of a membership; `operator` is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        MEMBER_ROLES.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(role: Role) -> BTreeSet<Permission> {
        role.permissions().iter().copied().collect()
    }

    #[test]
    fn each_member_role_may_all_that_the_next_one_may() {
        for pair in MEMBER_ROLES.windows(2) {
            assert!(set(pair[0]).is_superset(&set(pair[1])), "{} and {}", pair[0], pair[1]);
            assert_ne!(set(pair[0]), set(pair[1]));
        }
    }

    #[test]
    fn no_permission_is_listed_twice() {
        for role in MEMBER_ROLES.into_iter().chain([Role::Operator]) {
            assert_eq!(set(role).len(), role.permissions().len(), "{role}");
        }
    }

    #[test]
    fn an_operator_reads_no_tenant_values_and_a_member_sees_no_other_tenant() {
        for denied in [P::ConfigsRead, P::ConfigsWrite, P::HistoryRead, P::ProjectsRead, P::MembersRead] {
            assert!(!Role::Operator.allows(denied), "{denied:?}");
        }
        assert!(MEMBER_ROLES.into_iter().all(|role| !role.allows(P::PlatformRead)));
    }

    #[test]
    fn a_viewer_writes_nothing() {
        for permission in Role::Viewer.permissions() {
            let name = serde_json::to_value(permission).unwrap();
            assert!(name.as_str().unwrap().ends_with(":read"), "{name}");
        }
    }

    #[test]
    fn role_names_round_trip_and_operator_is_no_membership() {
        for role in MEMBER_ROLES {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!("operator".parse::<Role>(), Err(UnknownRole));
        assert_eq!("Owner".parse::<Role>(), Err(UnknownRole));
    }
}
