//! A creation as it is asked for, parsed once into types that hold only what is valid.

use std::fmt;

use contract::{Owner, Slug, SlugError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::password::{WeakPassword, acceptable};

/// A password on its way to its hash; never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The body of `POST /api/organizations`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    /// Display name.
    pub name: String,
    /// Email address of the owner.
    pub owner_email: String,
    /// The owner's password; not needed by an owner who is logged in.
    pub password: Option<Password>,
    /// Invitation code, where registration asks for one.
    pub invitation: Option<String>,
}

/// Why a creation is refused before anything is done, one for each field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The name has no slug.
    #[error("name: {0}")]
    Name(#[from] SlugError),
    /// The email address cannot be an owner.
    #[error("owner_email: {0}")]
    Email(#[from] contract::InvalidOwner),
    /// No password, and nobody is logged in as the owner.
    #[error("password: it is missing")]
    PasswordMissing,
    /// The password cannot be set.
    #[error("password: {0}")]
    Password(#[from] WeakPassword),
}

impl Invalid {
    /// The field that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Email(_) => "owner_email",
            Self::PasswordMissing | Self::Password(_) => "password",
        }
    }
}

/// A creation whose every part is valid.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Display name.
    pub name: String,
    /// Short name; decides the namespace.
    pub slug: Slug,
    /// The owner's email address, in lower case.
    pub email: String,
    /// The owner as Kubernetes knows them.
    pub owner: Owner,
    /// The owner's password; none when the owner is logged in.
    pub password: Option<Password>,
    /// Invitation code.
    pub invitation: Option<String>,
    /// Of the body without its password: tells whether two requests with one key are the same.
    pub fingerprint: [u8; 32],
}

impl Creation {
    /// Parses a body. `owner_logged_in` tells whether the caller proved to be that owner; then no password is needed.
    pub fn parse(
        body: NewOrganization,
        owner_prefix: &str,
        owner_logged_in: impl FnOnce(&str) -> bool,
    ) -> Result<Self, Vec<Invalid>> {
        let fingerprint = fingerprint(&body);
        let mut faults = Vec::new();
        let name = body.name.trim().to_owned();
        let slug = Slug::from_name(&name).map_err(|error| faults.push(error.into())).ok();
        let email = body.owner_email.trim().to_lowercase();
        let owner = Owner::from_email(owner_prefix, &email).map_err(|error| faults.push(error.into())).ok();
        let logged_in = owner.is_some() && owner_logged_in(&email);
        match &body.password {
            None if !logged_in => faults.push(Invalid::PasswordMissing),
            Some(password) if !logged_in => {
                if let Err(error) = acceptable(password.expose()) {
                    faults.push(error.into());
                }
            }
            _ => {}
        }
        let password = body.password.filter(|_| !logged_in);
        match (slug, owner) {
            (Some(slug), Some(owner)) if faults.is_empty() => {
                Ok(Self { name, slug, email, owner, password, invitation: body.invitation, fingerprint })
            }
            _ => Err(faults),
        }
    }
}

/// SHA-256 of the body's parts but the password, each with its length before it.
fn fingerprint(body: &NewOrganization) -> [u8; 32] {
    let parts = [&body.name, &body.owner_email, body.invitation.as_deref().unwrap_or_default()];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// A key that a client gives its request, so that sending it twice does it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdempotencyKey(String);

/// Not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Idempotency-Key has 1 to 255 visible ASCII characters")]
pub struct InvalidIdempotencyKey;

impl std::str::FromStr for IdempotencyKey {
    type Err = InvalidIdempotencyKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Self(text.to_owned())).ok_or(InvalidIdempotencyKey)
    }
}

impl IdempotencyKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(name: &str, email: &str, password: Option<&str>) -> NewOrganization {
        NewOrganization {
            name: name.into(),
            owner_email: email.into(),
            password: password.map(Password::from),
            invitation: None,
        }
    }

    fn parse(body: NewOrganization) -> Result<Creation, Vec<Invalid>> {
        Creation::parse(body, "agent-ready:", |email| email == "known@acme.example")
    }

    #[test]
    fn a_valid_body_is_normalised() {
        let creation = parse(body(" ACME Corp ", " Ann@ACME.example", Some("correct horse"))).unwrap();
        assert_eq!((creation.name.as_str(), creation.slug.as_str()), ("ACME Corp", "acme-corp"));
        assert_eq!(creation.email, "ann@acme.example");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let faults = parse(body("", "nobody", Some("short"))).unwrap_err();
        assert_eq!(
            faults.iter().map(Invalid::field).collect::<Vec<_>>(),
            ["name", "owner_email", "password"]
        );
        assert_eq!(parse(body("acme", "a@b.c", None)).unwrap_err(), [Invalid::PasswordMissing]);
    }

    #[test]
    fn a_logged_in_owner_needs_no_password() {
        assert!(parse(body("acme", "known@acme.example", None)).is_ok());
    }

    #[test]
    fn the_fingerprint_leaves_the_password_out_and_nothing_else() {
        let of = |name, email, password| fingerprint(&body(name, email, Some(password)));
        assert_eq!(of("a", "b", "1"), of("a", "b", "2"));
        assert_ne!(of("a", "b", "1"), of("ab", "", "1"));
        assert_ne!(of("a", "b", "1"), of("a", "c", "1"));
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", body("a", "b", Some("secret"))).contains("secret"));
    }

    #[test]
    fn keys_are_bounded() {
        assert!("a".repeat(255).parse::<IdempotencyKey>().is_ok());
        for bad in ["", "a b", "ä", &"a".repeat(256)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
    }
}
