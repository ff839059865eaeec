//! The RBAC subject that owns a tenant.

use k8s_openapi::api::rbac::v1::Subject;

/// API group of RBAC subjects of kind User and Group.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// An owner: always `kind: User`. Written in the owner annotation as `User:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(String);

/// Why a subject cannot own a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOwner {
    /// The annotation does not read `User:<name>`.
    #[error("the owner annotation must read User:<name>")]
    Form,
    /// The name is empty, too long or has control characters.
    #[error("an owner's name has 1 to 320 printable characters")]
    Name,
    /// The name would be one of Kubernetes' own identities.
    #[error("names beginning with system: belong to Kubernetes")]
    System,
    /// The prefix would make names ambiguous or Kubernetes' own.
    #[error("the owner prefix must not be empty, ':' or begin with system:")]
    Prefix,
    /// Not an email address.
    #[error("not an email address")]
    Email,
}

impl Owner {
    /// The owner for an email address: `<prefix><email in lower case>`, as the apiserver's OIDC username prefix makes it.
    pub fn from_email(prefix: &str, email: &str) -> Result<Self, InvalidOwner> {
        if prefix.is_empty() || prefix == ":" || prefix.starts_with("system:") {
            return Err(InvalidOwner::Prefix);
        }
        let email = email.trim().to_lowercase();
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
        };
        let well_formed = email.len() <= 254
            && email.split_once('@').is_some_and(|(local, domain)| {
                plain(local)
                    && plain(domain)
                    && local.len() <= 64
                    && !domain.starts_with('.')
                    && !domain.ends_with('.')
            });
        if !well_formed {
            return Err(InvalidOwner::Email);
        }
        Self::named(&format!("{prefix}{email}"))
    }

    fn named(name: &str) -> Result<Self, InvalidOwner> {
        if name.starts_with("system:") {
            return Err(InvalidOwner::System);
        }
        if name.is_empty() || name.len() > 320 || name.chars().any(char::is_control) {
            return Err(InvalidOwner::Name);
        }
        Ok(Self(name.to_owned()))
    }

    /// Reads the owner annotation.
    pub fn from_annotation(text: &str) -> Result<Self, InvalidOwner> {
        text.strip_prefix("User:").ok_or(InvalidOwner::Form).and_then(Self::named)
    }

    /// Writes the owner annotation.
    pub fn to_annotation(&self) -> String {
        format!("User:{}", self.0)
    }

    /// The user's name as the apiserver knows it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The subject of the owner's RoleBinding.
    pub fn subject(&self) -> Subject {
        Subject {
            api_group: Some(RBAC_GROUP.to_owned()),
            kind: "User".to_owned(),
            name: self.0.clone(),
            namespace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_makes_a_prefixed_lower_case_user() {
        let owner = Owner::from_email("agent-ready:", " Ann@ACME.example ").unwrap();
        assert_eq!(owner.name(), "agent-ready:ann@acme.example");
        assert_eq!(Owner::from_annotation(&owner.to_annotation()).unwrap(), owner);
    }

    #[test]
    fn kubernetes_own_names_are_refused() {
        assert_eq!(Owner::from_email("system:", "a@b.c"), Err(InvalidOwner::Prefix));
        assert_eq!(Owner::from_email(":", "a@b.c"), Err(InvalidOwner::Prefix));
        assert_eq!(Owner::from_email("", "a@b.c"), Err(InvalidOwner::Prefix));
        assert_eq!(Owner::from_annotation("User:system:admin"), Err(InvalidOwner::System));
        assert_eq!(Owner::from_annotation("Group:x"), Err(InvalidOwner::Form));
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b@c", "a\n@b", "a@.b"] {
            assert_eq!(Owner::from_email("p:", bad), Err(InvalidOwner::Email), "{bad:?}");
        }
    }
}
