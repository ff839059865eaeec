//! Which kinds have a pod's spec somewhere in their schema, by the apiserver's own OpenAPI documents.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::Value;

use super::get;

/// What every pod and every template of one has.
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";

/// The schemas of each version, by its path.
pub struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Reads all documents.
    pub async fn read(client: &Client) -> Result<Self> {
        let index = get(client, "/openapi/v3").await?;
        let mut schemas = BTreeMap::new();
        for (path, entry) in index["paths"].as_object().context("paths of /openapi/v3")? {
            if path.starts_with("api/") || path.starts_with("apis/") {
                let url = entry["serverRelativeURL"].as_str().context("serverRelativeURL")?;
                let mut document = get(client, url).await?;
                schemas.insert(format!("/{path}"), document["components"]["schemas"].take());
            }
        }
        Ok(Self(schemas))
    }

    /// Whether a body of this group, version and kind, sent below this path, has a pod's spec in it. A kind without a
    /// schema has: what is not known is not called harmless.
    pub fn has_pod_spec(&self, path: &str, (group, version, kind): &(String, String, String)) -> bool {
        let Some(schemas) = self.0.get(path).and_then(Value::as_object) else { return true };
        let is_it = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|known| {
                known["kind"] == kind.as_str()
                    && known["group"] == group.as_str()
                    && known["version"] == version.as_str()
            })
        };
        let mut found = schemas.values().filter(is_it).peekable();
        if found.peek().is_none() {
            // The options of a connection come in its URL.
            return !kind.ends_with("Options");
        }
        found.any(|schema| reaches(schema, schemas, &mut BTreeSet::new()))
    }
}

fn reaches(schema: &Value, schemas: &serde_json::Map<String, Value>, seen: &mut BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(key, value)| match (key.as_str(), value.as_str()) {
            ("$ref", Some(reference)) => {
                let name = reference.rsplit('/').next().unwrap_or_default();
                name == POD_SPEC
                    || seen.insert(name.to_owned())
                        && schemas.get(name).is_some_and(|next| reaches(next, schemas, seen))
            }
            _ => reaches(value, schemas, seen),
        }),
        Value::Array(values) => values.iter().any(|value| reaches(value, schemas, seen)),
        _ => false,
    }
}
