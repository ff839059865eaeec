//! Entity tags and preconditions: versions as HTTP says them (RFC 9110, 8.8.3 and 13.1).

/// The tag of a version: `"7"`.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Most tags that a list may hold.
const TAGS_MAX: usize = 16;

/// A header that lists tags, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`.
    Any,
    /// The tags, in order.
    Listed(Vec<Tag>),
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Whether it began with `W/`.
    pub weak: bool,
    /// What stood between the quotes.
    pub opaque: String,
}

impl Tag {
    fn version(&self) -> Option<i64> {
        // Only what we would have written ourselves is a version.
        self.opaque.parse().ok().filter(|version: &i64| version.to_string() == self.opaque)
    }
}

/// The header does not read as tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag is a quoted version, as the ETag header gave it, for example \"7\"")]
pub struct InvalidTags;

/// Reads `*`, or a list of tags such as `"7", W/"8"`.
pub fn parse(header: &str) -> Result<Tags, InvalidTags> {
    if header.trim() == "*" {
        return Ok(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = header.trim();
    loop {
        let (tag, after) = parse_one(rest)?;
        tags.push(tag);
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(Tags::Listed(tags));
        }
        rest = after.strip_prefix(',').ok_or(InvalidTags)?.trim_start();
        if tags.len() >= TAGS_MAX {
            return Err(InvalidTags);
        }
    }
}

fn parse_one(text: &str) -> Result<(Tag, &str), InvalidTags> {
    let (weak, text) = text.strip_prefix("W/").map_or((false, text), |text| (true, text));
    let (opaque, rest) = text.strip_prefix('"').and_then(|text| text.split_once('"')).ok_or(InvalidTags)?;
    let legal = |c: char| c == '!' || ('#'..='~').contains(&c) || c >= '\u{80}';
    if !opaque.chars().all(legal) {
        return Err(InvalidTags);
    }
    Ok((Tag { weak, opaque: opaque.to_owned() }, rest))
}

/// What a write asks of the state it meets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// A key's state: its version, and whether that version is a deletion. A key never written has version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// The newest version.
    pub version: i64,
    /// Whether there is a value.
    pub exists: bool,
}

impl Precondition {
    /// From the headers If-Match and If-None-Match.
    pub fn from_headers(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, InvalidTags> {
        Ok(Self {
            if_match: if_match.map(parse).transpose()?,
            if_none_match: if_none_match.map(parse).transpose()?,
        })
    }

    /// That the key is at `version`, as changes in a batch say it; 0 is "has no value".
    pub fn version(version: i64) -> Self {
        if version == 0 {
            return Self { if_match: None, if_none_match: Some(Tags::Any) };
        }
        let tag = Tag { weak: false, opaque: version.to_string() };
        Self { if_match: Some(Tags::Listed(vec![tag])), if_none_match: None }
    }

    /// The precondition as the version that the key must have: 0 for no value, none for any. `None` if it cannot be said so.
    pub fn expected_version(&self) -> Option<Option<i64>> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Some(None),
            (None, Some(Tags::Any)) => Some(Some(0)),
            (Some(Tags::Listed(tags)), None) => match tags.as_slice() {
                [Tag { weak: false, .. }] => tags[0].version().filter(|version| *version > 0).map(Some),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the state allows the write: If-Match by strong comparison, If-None-Match by weak.
    pub fn holds(&self, current: Current) -> bool {
        let listed = |tags: &[Tag], strong: bool| {
            current.exists
                && tags.iter().any(|tag| !(strong && tag.weak) && tag.version() == Some(current.version))
        };
        let matched = match &self.if_match {
            None => true,
            Some(Tags::Any) => current.exists,
            Some(Tags::Listed(tags)) => listed(tags, true),
        };
        let unmatched = match &self.if_none_match {
            None => true,
            Some(Tags::Any) => !current.exists,
            Some(Tags::Listed(tags)) => !listed(tags, false),
        };
        matched && unmatched
    }
}

/// Whether a reader that sent this If-None-Match already has `version`.
pub fn not_modified(if_none_match: Option<&str>, version: i64) -> bool {
    if_none_match.and_then(|header| parse(header).ok()).is_some_and(|tags| match tags {
        Tags::Any => true,
        Tags::Listed(tags) => tags.iter().any(|tag| tag.version() == Some(version)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn precondition(if_match: Option<&str>, if_none_match: Option<&str>) -> Precondition {
        Precondition::from_headers(if_match, if_none_match).unwrap()
    }

    /// Headers that matter, or none.
    fn tags() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(prop_oneof![
            Just("*".to_owned()),
            Just("\"0\"".to_owned()),
            Just("\"x\"".to_owned()),
            Just("W/\"2\"".to_owned()),
            Just("\"1\", \"2\"".to_owned()),
            (1i64..4).prop_map(etag),
        ])
    }

    const fn at(version: i64, exists: bool) -> Current {
        Current { version, exists }
    }

    #[test]
    fn preconditions_by_the_standard() {
        let cases = [
            (None, None, at(0, false), true),
            (Some("\"3\""), None, at(3, true), true),
            (Some("\"2\", \"3\""), None, at(3, true), true),
            (Some("\"2\""), None, at(3, true), false),
            (Some("W/\"3\""), None, at(3, true), false),
            (Some("\"3\""), None, at(3, false), false),
            (Some("*"), None, at(3, true), true),
            (Some("*"), None, at(3, false), false),
            (Some("*"), None, at(0, false), false),
            (None, Some("*"), at(0, false), true),
            (None, Some("*"), at(4, false), true),
            (None, Some("*"), at(4, true), false),
            (None, Some("W/\"4\""), at(4, true), false),
            (Some("\"04\""), None, at(4, true), false),
            (Some("\"\""), None, at(4, true), false),
        ];
        for (if_match, if_none_match, current, expect) in cases {
            let holds = precondition(if_match, if_none_match).holds(current);
            assert_eq!(holds, expect, "{if_match:?} {if_none_match:?} {current:?}");
        }
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for bad in ["", "3", "\"3", "3\"", "\"3\" \"4\"", "\"3\",", "w/\"3\"", "\"a b\"", ",", "* , \"1\""] {
            assert_eq!(parse(bad), Err(InvalidTags), "{bad:?}");
        }
        assert_eq!(parse(&vec!["\"1\""; 17].join(",")), Err(InvalidTags));
    }

    #[test]
    fn a_reader_with_the_version_is_told_so() {
        assert!(
            not_modified(Some("\"7\""), 7) && not_modified(Some("W/\"7\""), 7) && not_modified(Some("*"), 7)
        );
        assert!(!not_modified(Some("\"6\""), 7) && !not_modified(None, 7) && !not_modified(Some("7"), 7));
    }

    proptest! {
        #[test]
        fn a_tag_matches_its_version_alone(version in 1i64.., other in 1i64..) {
            let tag = etag(version);
            prop_assert!(precondition(Some(&tag), None).holds(at(version, true)));
            prop_assert_eq!(Precondition::version(version).holds(at(other, true)), version == other);
            prop_assert_eq!(not_modified(Some(&tag), other), version == other);
        }

        #[test]
        fn an_expected_version_says_the_same(if_match in tags(), if_none_match in tags(), version in 0i64..4, exists: bool) {
            let current = at(version, exists && version > 0);
            let asked = precondition(if_match.as_deref(), if_none_match.as_deref());
            if let Some(expected) = asked.expected_version() {
                let alive = if current.exists { current.version } else { 0 };
                prop_assert_eq!(asked.holds(current), expected.is_none_or(|expected| expected == alive));
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in "[\"W/*, 0-9a-z\u{e4}]{0,40}") {
            let _ = parse(&header);
        }
    }
}
