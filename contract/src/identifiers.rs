//! Parsed identifiers: what is made of one of these types has been checked once and for all.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An organization (tenant).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrganizationId(pub Uuid);

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl std::str::FromStr for OrganizationId {
    type Err = InvalidIdentifier;

    /// Accepts the hyphenated lower-case form alone: one organization has one spelling on the wire.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .ok()
            .filter(|id| id.hyphenated().to_string() == text)
            .map(Self)
            .ok_or(InvalidIdentifier::Organization)
    }
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentifier {
    /// Not a UUID in its hyphenated lower-case form.
    #[error("an organization is a UUID in its hyphenated lower-case form")]
    Organization,
    /// Not a service name.
    #[error("a service name is 1 to 63 characters of a-z, 0-9 and '-', beginning with a letter")]
    Service,
    /// Not a key.
    #[error(
        "a key is 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit"
    )]
    Key,
}

fn well_formed(text: &str, max: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= max
        && bytes.split_first().is_some_and(|(head, tail)| first(*head) && tail.iter().all(|b| rest(*b)))
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $error:ident, $max:expr, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidIdentifier;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                if well_formed(text, $max, $first, $rest) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidIdentifier::$error)
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidIdentifier;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::try_from(text.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidIdentifier;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A service whose configuration is kept: `[a-z][a-z0-9-]{0,62}`.
    ServiceName,
    Service,
    63,
    |b| b.is_ascii_lowercase(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);

identifier!(
    /// A key of a service: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. No `:`, `/` or `*` reaches a channel or a file.
    ConfigKey,
    Key,
    128,
    |b| b.is_ascii_alphanumeric(),
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn separators_and_wildcards_never_pass() {
        for bad in ["", "a:b", "a/b", "a*", "a?", "ä", "-a", ".a", "a b", "a\n", &"a".repeat(129)] {
            assert_eq!(ConfigKey::try_from(bad), Err(InvalidIdentifier::Key), "{bad:?}");
            assert_eq!(ServiceName::try_from(bad), Err(InvalidIdentifier::Service), "{bad:?}");
        }
        assert_eq!(ServiceName::try_from("1a"), Err(InvalidIdentifier::Service));
        assert_eq!(ServiceName::try_from("Ai"), Err(InvalidIdentifier::Service));
        assert!(ConfigKey::try_from("1A.b_c-d").is_ok());
    }

    #[test]
    fn an_organization_has_one_spelling() {
        let text = "0191f0c0-0000-7000-8000-00000000000a";
        assert_eq!(text.parse::<OrganizationId>().unwrap().to_string(), text);
        assert!(text.to_uppercase().parse::<OrganizationId>().is_err());
        assert!(text.replace('-', "").parse::<OrganizationId>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_what_was_written(text in "\\PC{0,140}") {
            if let Ok(key) = ConfigKey::try_from(text.as_str()) {
                prop_assert_eq!(key.as_str(), text.as_str());
                let glob: &[char] = &[':', '/', '*', '?', '[', ' '];
                prop_assert!(!text.contains(glob));
            }
        }
    }
}
