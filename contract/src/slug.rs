//! From a display name to a safe Kubernetes name.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::names::NAMESPACE_PREFIX;

/// Longest slug: `org-` and the slug together fit the 63 characters of a namespace (RFC 1123 label).
pub const MAX_SLUG: usize = 40;
/// Longest display name, in characters.
pub const MAX_NAME: usize = 200;

/// Names that would read as Kubernetes' or the platform's own.
const RESERVED: [&str; 8] =
    ["default", "kubernetes", "system", "admin", "agent-ready", "api", "platform", "root"];

/// A tenant's short name: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most [`MAX_SLUG`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slug(String);

/// Why a display name has no slug. The rules are the answer to the user, so each says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Nothing but white space.
    #[error("the name is empty")]
    Empty,
    /// Over [`MAX_NAME`] characters.
    #[error("the name is longer than {MAX_NAME} characters")]
    TooLong,
    /// Control characters are never part of a name.
    #[error("the name has control characters")]
    Control,
    /// No letter or digit that can be written in ASCII.
    #[error("the name needs at least one letter a-z or digit, with or without accents")]
    NoLetters,
    /// One of Kubernetes' or the platform's own names.
    #[error("the name is reserved: names such as 'default' or beginning with 'kube-' belong to the platform")]
    Reserved,
}

impl Slug {
    /// Makes the slug of a display name: compatibility decomposition (NFKD), accents dropped, lower case, every run of
    /// other characters one `-`, cut to [`MAX_SLUG`]. Two names with one slug collide; the later one is refused.
    pub fn from_name(name: &str) -> Result<Self, SlugError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(SlugError::Empty);
        }
        if name.chars().count() > MAX_NAME {
            return Err(SlugError::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(SlugError::Control);
        }
        let mut slug = String::with_capacity(MAX_SLUG);
        for c in name.nfkd().flat_map(char::to_lowercase).flat_map(transliterate) {
            if slug.len() == MAX_SLUG {
                break;
            }
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !is_mark(c) && !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug = slug.trim_end_matches('-');
        if slug.is_empty() {
            return Err(SlugError::NoLetters);
        }
        if RESERVED.contains(&slug) || slug == "kube" || slug.starts_with("kube-") {
            return Err(SlugError::Reserved);
        }
        Ok(Self(slug.to_owned()))
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant's namespace, `org-<slug>`.
    pub fn namespace(&self) -> String {
        format!("{NAMESPACE_PREFIX}{}", self.0)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Combining marks vanish instead of becoming a separator: `é` decomposes to `e` and U+0301.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\'' | '\u{2019}')
}

/// The few letters without a decomposition that European names use.
fn transliterate(c: char) -> impl Iterator<Item = char> {
    let text = match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ı' => "i",
        _ => return Some(c).into_iter().chain("".chars()),
    };
    None.into_iter().chain(text.chars())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_name_has_a_rule() {
        let check = |name: &str, expect: Result<&str, SlugError>| {
            assert_eq!(
                Slug::from_name(name).as_ref().map(Slug::as_str),
                expect.as_ref().copied(),
                "{name:?}"
            );
        };
        check("ACME Corp", Ok("acme-corp"));
        check("  Müller & Söhne GmbH. ", Ok("muller-sohne-gmbh"));
        check("Straße Æther Łódź", Ok("strasse-aether-lodz"));
        check("O'Neil's", Ok("oneils"));
        check("ﬁne ①", Ok("fine-1"));
        check("--a--b--", Ok("a-b"));
        check("", Err(SlugError::Empty));
        check(" \u{a0} ", Err(SlugError::Empty));
        check("日本", Err(SlugError::NoLetters));
        check("a\u{0}b", Err(SlugError::Control));
        check("default", Err(SlugError::Reserved));
        check("Kube System", Err(SlugError::Reserved));
        check(&"x".repeat(200), Ok(&"x".repeat(MAX_SLUG)));
        check(&"x".repeat(201), Err(SlugError::TooLong));
    }

    proptest! {
        #[test]
        fn every_slug_is_a_kubernetes_name(name in "\\PC{0,220}") {
            if let Ok(slug) = Slug::from_name(&name) {
                let namespace = slug.namespace();
                prop_assert!(namespace.len() <= 63);
                prop_assert!(namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert!(!namespace.ends_with('-'));
                prop_assert_eq!(Slug::from_name(slug.as_str()).unwrap(), slug.clone(), "a slug is its own slug");
            }
        }
    }
}
