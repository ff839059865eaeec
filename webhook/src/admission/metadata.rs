//! The part of an object's metadata that decisions read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    object::{self, Object},
    text::Text,
};

/// Labels or annotations, borrowed from the review.
pub type Keys<'a> = BTreeMap<Text<'a>, Text<'a>>;

/// Name, labels and annotations of an object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    /// Name; empty where the server makes one.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// What the server's name begins with.
    #[serde(borrow, default)]
    pub generate_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    labels: Option<Keys<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Keys<'a>>,
}

impl<'a> Metadata<'a> {
    /// Metadata with these labels and annotations, for tests and tools.
    pub fn of(labels: &[(&'a str, &'a str)], annotations: &[(&'a str, &'a str)]) -> Self {
        let keys = |pairs: &[(&'a str, &'a str)]| {
            Some(pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect())
        };
        Self { labels: keys(labels), annotations: keys(annotations), ..Self::default() }
    }

    /// Value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(Text::as_str)
    }

    /// Value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(Text::as_str)
    }

    /// All labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(self.labels.as_ref())
    }

    /// All annotations.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(self.annotations.as_ref())
    }
}

fn pairs<'k>(keys: Option<&'k Keys<'_>>) -> impl Iterator<Item = (&'k str, &'k str)> {
    keys.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "object::only")]
    metadata: Metadata<'a>,
}

/// Reads the metadata of a raw object, and nothing else of it.
pub fn read(object: &RawValue) -> Result<Metadata<'_>, serde_json::Error> {
    serde_json::from_str::<Object<Head<'_>>>(object.get()).map(|object| object.0.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_maps_are_empty() {
        for text in
            ["{}", r#"{"metadata":{"labels":null}}"#, r#"{"metadata":{"labels":{},"annotations":{}}}"#]
        {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            let metadata = read(&raw).unwrap();
            assert_eq!(metadata.labels().count() + metadata.annotations().count(), 0, "{text}");
            assert_eq!(metadata.label("a"), None);
        }
    }
}
