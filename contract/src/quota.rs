//! A tenant's quota: what it may request in all.

use std::collections::BTreeMap;

use crate::{InvalidQuantity, Quantity};

/// Limits of a tenant: cores, bytes of memory, bytes of storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// `requests.cpu` and `limits.cpu`, in cores.
    pub cpu: Quantity,
    /// `requests.memory` and `limits.memory`, in bytes.
    pub memory: Quantity,
    /// `requests.storage`, in bytes.
    pub storage: Quantity,
}

/// Why a text is not a quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuota {
    /// Not a JSON object of quantities.
    #[error(
        "the quota annotation must be a JSON object of resource names and quantities, with at least one key"
    )]
    Form,
    /// A value is not a quantity.
    #[error("{0}: {1}")]
    Value(String, InvalidQuantity),
}

impl Quota {
    /// A quota from its three values.
    pub fn parse(cpu: &str, memory: &str, storage: &str) -> Result<Self, InvalidQuota> {
        let value = |name: &str, text: &str| {
            text.parse().map_err(|error| InvalidQuota::Value(name.to_owned(), error))
        };
        Ok(Self {
            cpu: value("cpu", cpu)?,
            memory: value("memory", memory)?,
            storage: value("storage", storage)?,
        })
    }

    /// `spec.hard` of the ResourceQuota.
    pub fn hard(&self) -> BTreeMap<String, Quantity> {
        [
            ("requests.cpu", &self.cpu),
            ("limits.cpu", &self.cpu),
            ("requests.memory", &self.memory),
            ("limits.memory", &self.memory),
            ("requests.storage", &self.storage),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
    }

    /// Writes the quota annotation: the least keys and values of the ResourceQuota.
    pub fn to_annotation(&self) -> String {
        let hard: BTreeMap<_, _> =
            self.hard().into_iter().map(|(key, value)| (key, value.to_string())).collect();
        serde_json::json!(hard).to_string()
    }

    /// Reads the quota annotation.
    pub fn least_from_annotation(text: &str) -> Result<BTreeMap<String, Quantity>, InvalidQuota> {
        let raw: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| InvalidQuota::Form)?;
        if raw.is_empty() {
            return Err(InvalidQuota::Form);
        }
        raw.into_iter()
            .map(|(key, value)| match value.parse() {
                Ok(value) => Ok((key, value)),
                Err(error) => Err(InvalidQuota::Value(key, error)),
            })
            .collect()
    }
}

impl Default for Quota {
    /// The seed's first quota: 10 cores, 20 GiB of memory, 10 GiB of storage.
    #[allow(clippy::expect_used, reason = "constants, covered by a test")]
    fn default() -> Self {
        Self::parse("10", "20Gi", "10Gi").expect("constants are quantities")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_round_trips() {
        let quota = Quota::default();
        assert_eq!(Quota::least_from_annotation(&quota.to_annotation()).unwrap(), quota.hard());
        insta::assert_snapshot!(quota.to_annotation(), @r#"{"limits.cpu":"10","limits.memory":"20Gi","requests.cpu":"10","requests.memory":"20Gi","requests.storage":"10Gi"}"#);
    }

    #[test]
    fn a_broken_annotation_is_refused() {
        for bad in ["", "{}", "[]", r#"{"a":1}"#, r#"{"a":"x"}"#] {
            assert!(Quota::least_from_annotation(bad).is_err(), "{bad}");
        }
    }
}
