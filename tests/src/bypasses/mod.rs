//! Everything the apiserver serves, asked of itself, and what of it could pass the gate.

pub mod caller;
pub mod classes;
pub mod schema;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::Value;

/// One resource or subresource in one version.
#[derive(Debug, Clone)]
pub struct Served {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Empty for the whole object.
    pub subresource: String,
    /// Kind of the request's body.
    pub kind: String,
    /// Whether it lies in a namespace.
    pub namespaced: bool,
    /// What may be asked of it.
    pub verbs: BTreeSet<String>,
    /// Whether a pod's spec is found anywhere in its schema.
    pub has_pod_spec: bool,
    /// Whether a CustomResourceDefinition serves it.
    pub custom: bool,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, version, resource, subresource, .. } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if subresource.is_empty() { "" } else { "/" };
        write!(f, "{resource}{dot}{group}/{version}{slash}{subresource}")
    }
}

impl Served {
    /// The path of its collection in this namespace (ignored for cluster-wide resources).
    pub fn collection(&self, namespace: &str) -> String {
        let Self { group, version, resource, .. } = self;
        let base =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        if self.namespaced {
            format!("{base}/namespaces/{namespace}/{resource}")
        } else {
            format!("{base}/{resource}")
        }
    }

    /// The path of one object, or of its subresource.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        format!("{}/{name}{slash}{}", self.collection(namespace), self.subresource)
    }

    /// Group and resource, as a table names them.
    pub fn name(&self) -> (&str, &str) {
        (&self.group, &self.resource)
    }
}

/// Reads a path of the apiserver.
pub(crate) async fn get(client: &Client, path: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Vec::new())?;
    client.request(request).await.with_context(|| format!("read {path}"))
}

/// All resources and subresources of all versions, from discovery and OpenAPI at this moment.
pub async fn discover(client: &Client) -> Result<Vec<Served>> {
    let crds = get(client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?;
    let custom: BTreeSet<(String, String)> = items(&crds, "items")
        .map(|crd| (text(&crd["spec"]["group"]), text(&crd["spec"]["names"]["plural"])))
        .collect();
    let schemas = schema::Schemas::read(client).await?;
    let mut served = Vec::new();
    for (group, version, path) in group_versions(client).await? {
        for resource in items(&get(client, &path).await?, "resources") {
            let name = text(&resource["name"]);
            let (plural, subresource) = name.split_once('/').unwrap_or((&name, ""));
            let kind = text(&resource["kind"]);
            // A subresource may have a body of another group, as Scale has.
            let of = |key: &str, own: &str| resource[key].as_str().unwrap_or(own).to_owned();
            let body = (of("group", &group), of("version", &version), kind.clone());
            served.push(Served {
                custom: custom.contains(&(group.clone(), plural.to_owned())),
                has_pod_spec: schemas.has_pod_spec(&path, &body),
                group: group.clone(),
                version: version.clone(),
                resource: plural.to_owned(),
                subresource: subresource.to_owned(),
                kind,
                namespaced: resource["namespaced"] == true,
                verbs: items(&resource, "verbs").map(|verb| text(&verb)).collect(),
            });
        }
    }
    Ok(served)
}

/// Group, version and path of every version that is served.
async fn group_versions(client: &Client) -> Result<Vec<(String, String, String)>> {
    let mut all = Vec::new();
    for version in items(&get(client, "/api").await?, "versions") {
        let version = text(&version);
        all.push((String::new(), version.clone(), format!("/api/{version}")));
    }
    for group in items(&get(client, "/apis").await?, "groups") {
        for version in items(&group, "versions") {
            let (group, version) = (text(&group["name"]), text(&version["version"]));
            all.push((group.clone(), version.clone(), format!("/apis/{group}/{version}")));
        }
    }
    Ok(all)
}

fn items<'v>(object: &'v Value, key: &str) -> impl Iterator<Item = Value> + use<'v> {
    object[key].as_array().cloned().unwrap_or_default().into_iter()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
