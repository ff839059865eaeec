//! JSON objects and nothing else: what serde derives also reads a list, field by field, and nobody else reads it so.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads `T` from a JSON object; for `deserialize_with`.
pub fn only<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members))
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

/// A `T` that was a JSON object.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        only(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Pair<'a> {
        #[serde(borrow)]
        name: &'a str,
        count: u8,
    }

    #[test]
    fn objects_are_read_and_lists_are_not() {
        let pair: Object<Pair<'_>> = serde_json::from_str(r#"{"count": 3, "name": "a"}"#).unwrap();
        assert_eq!((pair.0.name, pair.0.count), ("a", 3));
        for text in [r#"["a", 3]"#, "null", "3", r#""a""#] {
            assert!(serde_json::from_str::<Object<Pair<'_>>>(text).is_err(), "{text}");
        }
        assert!(
            serde_json::from_str::<Pair<'_>>(r#"["a", 3]"#).is_ok(),
            "serde reads lists: the reason for this module"
        );
    }
}
