//! Bytes to what is decided about. Pure, and total: whatever the bytes, there is an answer or an error that says where.

use std::fmt;

use k8s_openapi::api::{
    core::v1::{LimitRange, ResourceQuota},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::admission::review;

/// Longest input in bytes: far more than anyone reviews, and far less than the machine has.
pub const INPUT_BYTES_MAX: usize = 64 << 20;
/// Most objects of one input.
const ITEMS_MAX: usize = 100_000;

/// Where an object was in the input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the document, from 1.
    pub document: usize,
    /// Where in the document, as `items[2].spec.template`; empty for the whole of it.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "document {}", self.document)?;
        if self.path.is_empty() { Ok(()) } else { write!(formatter, ", {}", self.path) }
    }
}

impl Place {
    fn at(&self, step: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { document: self.document, path: format!("{}{dot}{step}", self.path) }
    }
}

/// Why the input is not what can be decided about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInput {
    /// Longer than [`INPUT_BYTES_MAX`], or more than the objects of one input.
    #[error(
        "the input is too large: at most {INPUT_BYTES_MAX} bytes and {ITEMS_MAX} objects are read. To do: split it"
    )]
    TooLarge,
    /// No document with anything in it.
    #[error("the input has no object. To do: give an AdmissionReview or manifests, as YAML or JSON")]
    Empty,
    /// Neither YAML nor JSON.
    #[error("document {document} is neither YAML nor JSON: {why}")]
    Syntax {
        /// Number of the document, from 1.
        document: usize,
        /// What the parser says.
        why: String,
    },
    /// Read, but not an object as Kubernetes knows it.
    #[error("{place}: {why}")]
    Shape {
        /// Where.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
}

/// A part of a baseline.
#[derive(Debug, Clone)]
pub enum Part {
    /// A NetworkPolicy.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A ResourceQuota.
    ResourceQuota(Box<ResourceQuota>),
    /// A RoleBinding.
    RoleBinding(Box<RoleBinding>),
    /// A LimitRange.
    LimitRange(Box<LimitRange>),
}

/// What an object means to the gate.
#[derive(Debug, Clone)]
pub enum Content {
    /// An AdmissionReview as the API server sends it.
    Review(Vec<u8>),
    /// A Namespace.
    Namespace(Value),
    /// A pod, or the pod that a controller would make from the object's template.
    Pod(Value),
    /// Part of the proof of a namespace.
    Baseline(Part),
    /// The gate has no rule for it.
    Other,
}

/// One object of the input.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it was.
    pub place: Place,
    /// Its kind.
    pub kind: String,
    /// Its name; `generateName` where that is all there is.
    pub name: String,
    /// Its namespace, if it says one.
    pub namespace: Option<String>,
    /// What it means.
    pub content: Content,
}

/// Reads an AdmissionReview, or manifests: many documents, YAML or JSON, lists included.
pub fn read(bytes: &[u8]) -> Result<Vec<Item>, BadInput> {
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(BadInput::TooLarge);
    }
    let mut items = Vec::new();
    for (index, document) in documents(bytes)?.into_iter().enumerate() {
        if !document.is_null() {
            collect(document, Place { document: index + 1, path: String::new() }, &mut items)?;
        }
    }
    if items.is_empty() { Err(BadInput::Empty) } else { Ok(items) }
}

/// The documents, JSON first: a review is JSON, and reading it as YAML would be slower and stricter.
fn documents(bytes: &[u8]) -> Result<Vec<Value>, BadInput> {
    let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match json {
        Ok(documents) if !documents.is_empty() => return Ok(documents),
        // One JSON document that is cut off or misspelt: what YAML says about it would mislead.
        Err(error) if first == Some(&b'{') && !has_separator(bytes) => {
            return Err(BadInput::Syntax { document: 1, why: error.to_string() });
        }
        _ => {}
    }
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_slice(bytes) {
        let syntax = |why: String| BadInput::Syntax { document: documents.len() + 1, why };
        // Through YAML's own value: it refuses a key that is there twice, of which JSON would keep the last.
        let value = serde_norway::Value::deserialize(document).map_err(|error| syntax(error.to_string()))?;
        let value = serde_json::to_value(value).map_err(|error| syntax(error.to_string()))?;
        documents.push(value);
        if documents.len() > ITEMS_MAX {
            return Err(BadInput::TooLarge);
        }
    }
    Ok(documents)
}

fn has_separator(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"---"))
}

fn collect(object: Value, place: Place, items: &mut Vec<Item>) -> Result<(), BadInput> {
    if items.len() >= ITEMS_MAX {
        return Err(BadInput::TooLarge);
    }
    let (version, kind) = head(&object, &place)?;
    match kind.strip_suffix("List") {
        Some(kind) if object.get("items").is_some() => {
            let Some(Value::Array(members)) = object.get("items") else {
                return Err(shape(&place.at("items"), "must be a list"));
            };
            for (index, member) in members.iter().enumerate() {
                let mut member = member.clone();
                // The members of a typed list, as the API server prints it, do not repeat what they are.
                if let (false, Some(fields)) = (kind.is_empty(), member.as_object_mut()) {
                    fields.entry("apiVersion").or_insert_with(|| json!(version));
                    fields.entry("kind").or_insert_with(|| json!(kind));
                }
                collect(member, place.at(&format!("items[{index}]")), items)?;
            }
            Ok(())
        }
        _ => {
            items.push(item(object, &version, kind, place)?);
            Ok(())
        }
    }
}

fn head(object: &Value, place: &Place) -> Result<(String, String), BadInput> {
    if !object.is_object() {
        return Err(shape(place, "must be an object with apiVersion and kind"));
    }
    let field = |name: &str| match object.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(shape(&place.at(name), "must be a string with something in it")),
        None => Err(shape(place, &format!("has no {name}"))),
    };
    Ok((field("apiVersion")?, field("kind")?))
}

fn item(object: Value, version: &str, kind: String, place: Place) -> Result<Item, BadInput> {
    if kind == review::KIND {
        let body = object.to_string().into_bytes();
        let (name, namespace) = {
            let request = review::decode(&body).map_err(|error| shape(&place, &error.to_string()))?;
            (request.name().to_owned(), Some(request.namespace().to_owned()))
        };
        return Ok(Item { place, kind, name, namespace, content: Content::Review(body) });
    }
    let text = |name: &str| match object.get("metadata").and_then(|metadata| metadata.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(shape(&place.at("metadata").at(name), "must be a string")),
    };
    if object.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
        return Err(shape(&place.at("metadata"), "must be an object"));
    }
    let name = text("name")?.or(text("generateName")?);
    let namespace = text("namespace")?.filter(|namespace| !namespace.is_empty());
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let (content, step) = content(object, group, &kind, &place)?;
    let place = if step.is_empty() { place } else { place.at(step) };
    if name.is_none() && !matches!(content, Content::Other) {
        return Err(shape(&place, &format!("{kind} has no metadata.name")));
    }
    Ok(Item { place, kind, name: name.unwrap_or_default(), namespace, content })
}

/// What the object means, and where in it the pod template lies.
fn content(
    object: Value,
    group: &str,
    kind: &str,
    place: &Place,
) -> Result<(Content, &'static str), BadInput> {
    let template = match (group, kind) {
        ("", "Namespace") => return Ok((Content::Namespace(object), "")),
        ("", "Pod") => {
            if !object.get("spec").is_some_and(Value::is_object) {
                return Err(shape(&place.at("spec"), "must be an object"));
            }
            return Ok((Content::Pod(object), ""));
        }
        ("", "ResourceQuota") => return part(object, place, Part::ResourceQuota),
        ("", "LimitRange") => return part(object, place, Part::LimitRange),
        ("networking.k8s.io", "NetworkPolicy") => return part(object, place, Part::NetworkPolicy),
        ("rbac.authorization.k8s.io", "RoleBinding") => return part(object, place, Part::RoleBinding),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => "spec.template",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template",
        ("", "PodTemplate") => "template",
        _ => return Ok((Content::Other, "")),
    };
    Ok((Content::Pod(templated(&object, template, place)?), template))
}

fn part<K: DeserializeOwned>(
    object: Value,
    place: &Place,
    wrap: impl FnOnce(Box<K>) -> Part,
) -> Result<(Content, &'static str), BadInput> {
    let typed = serde_json::from_value(object).map_err(|error| shape(place, &error.to_string()))?;
    Ok((Content::Baseline(wrap(Box::new(typed))), ""))
}

/// The pod that a controller makes from a template.
fn templated(object: &Value, path: &str, place: &Place) -> Result<Value, BadInput> {
    let template = path.split('.').try_fold(object, |value, step| value.get(step));
    let spec = template.and_then(|template| template.get("spec")).filter(|spec| spec.is_object());
    let (Some(template), Some(spec)) = (template, spec) else {
        return Err(shape(&place.at(path).at("spec"), "must be an object: it is the pod that would be made"));
    };
    let mut metadata = match template.get("metadata") {
        None | Some(Value::Null) => json!({}),
        Some(metadata) if metadata.is_object() => metadata.clone(),
        Some(_) => return Err(shape(&place.at(path).at("metadata"), "must be an object")),
    };
    let owner = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    metadata["generateName"] = json!(format!("{owner}-"));
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

fn shape(place: &Place, why: &str) -> BadInput {
    BadInput::Shape { place: place.clone(), why: why.to_owned() }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
