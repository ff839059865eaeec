//! The wire, inwards: an `AdmissionReview` decoded no further than a decision needs.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    object::{self, Object},
    text::Text,
};

/// The only version of the review that is understood.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The only kind that is understood.
pub const KIND: &str = "AdmissionReview";
/// Why bytes are not a review. Never answered with a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReview {
    /// The body is not JSON, is cut off, or lacks what every review has.
    #[error("the body is not an AdmissionReview: {0}")]
    Malformed(String),
    /// JSON, but another object.
    #[error("the body is a {0:?}, not an AdmissionReview")]
    Kind(String),
    /// A review of another version.
    #[error("AdmissionReview version {0:?} is not known; this webhook speaks {API_VERSION}")]
    Version(String),
    /// A review without a request, for example an answer.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

impl BadReview {
    /// A short name for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Kind(_) => "kind",
            Self::Version(_) => "version",
            Self::NoRequest => "no-request",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object.
    Update,
    /// The end of an object.
    Delete,
    /// A connection, as `exec`.
    Connect,
}

/// Group, version and resource of the request.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct GroupVersionResource<'a> {
    /// API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Text<'a>,
    /// API version.
    #[serde(borrow, default)]
    pub version: Text<'a>,
    /// Plural resource name.
    #[serde(borrow, default)]
    pub resource: Text<'a>,
}

/// Who asks.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserInfo<'a> {
    /// The authenticated name.
    #[serde(borrow, default)]
    pub username: Text<'a>,
    /// The groups that the apiserver found the user in.
    #[serde(borrow, default)]
    pub groups: Vec<Text<'a>>,
}

/// The request of a review. `object` and `old_object` stay raw text until a decision reads them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Ties the answer to the request.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// What is acted on.
    #[serde(borrow, deserialize_with = "object::only")]
    pub resource: GroupVersionResource<'a>,
    /// Part of the resource acted on; empty for the whole.
    #[serde(borrow, default)]
    pub sub_resource: Option<Text<'a>>,
    /// Object name; empty with `generateName`.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Namespace; for a Namespace its own name.
    #[serde(borrow, default)]
    pub namespace: Option<Text<'a>>,
    /// What is asked for.
    pub operation: Operation,
    /// Who asks.
    #[serde(borrow, default, deserialize_with = "object::only")]
    pub user_info: UserInfo<'a>,
    /// The object as it would become.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// The object as it is.
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

impl Request<'_> {
    /// The subresource, `""` for the whole object.
    pub fn subresource(&self) -> &str {
        self.sub_resource.as_deref().unwrap_or_default()
    }

    /// The namespace, `""` for cluster-wide objects.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The name, `""` where the server will make one.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Whether the request is about this resource of the core group, version 1.
    pub fn is_core(&self, resource: &str) -> bool {
        self.resource.group.is_empty()
            && self.resource.version.as_str() == "v1"
            && self.resource.resource.as_str() == resource
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    request: Option<Object<Request<'a>>>,
}

/// The head alone, to say what is wrong with a body that does not decode.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
}

/// Decodes a review; `body` is borrowed, nothing of the objects is read yet.
pub fn decode(body: &[u8]) -> Result<Request<'_>, BadReview> {
    // What the decoder skips must be text too.
    let text = std::str::from_utf8(body).map_err(|error| BadReview::Malformed(error.to_string()))?;
    match serde_json::from_str::<Object<Envelope<'_>>>(text) {
        Ok(Object(envelope)) => {
            check_head(&envelope.kind, &envelope.api_version)?;
            envelope.request.map(|request| request.0).ok_or(BadReview::NoRequest)
        }
        Err(error) => {
            if let Ok(Object(head)) = serde_json::from_str::<Object<Head<'_>>>(text) {
                check_head(&head.kind, &head.api_version)?;
            }
            Err(BadReview::Malformed(error.to_string()))
        }
    }
}

fn check_head(kind: &str, version: &str) -> Result<(), BadReview> {
    if kind != KIND {
        return Err(BadReview::Kind(kind.to_owned()));
    }
    if version != API_VERSION {
        return Err(BadReview::Version(version.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn review() -> serde_json::Value {
        json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "request": {
                "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "userInfo": {"username": "ann", "groups": ["g\"1"]},
                "object": {"metadata": {"generateName": "web-"}}, "oldObject": null, "dryRun": true,
                "options": {"fieldManager": "kubectl"},
            },
        })
    }

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn a_review_is_decoded_without_its_objects() {
        let body = bytes(&review());
        let request = decode(&body).unwrap();
        assert_eq!((request.namespace(), request.name(), request.subresource()), ("shop", "", ""));
        assert!(request.is_core("pods"));
        assert_eq!(request.user_info.groups[0].as_str(), "g\"1");
        assert_eq!(request.object.unwrap().get(), r#"{"metadata":{"generateName":"web-"}}"#);
        assert!(request.old_object.is_none());
        assert_eq!(request.dry_run, Some(true));
    }

    #[test]
    fn what_is_not_a_review_is_named() {
        let changed = |pointer: &str, value: serde_json::Value| {
            let mut review = review();
            *review.pointer_mut(pointer).unwrap() = value;
            bytes(&review)
        };
        let code = |body: &[u8]| decode(body).unwrap_err().code();
        assert_eq!(code(&changed("/kind", json!("Pod"))), "kind");
        assert_eq!(code(&changed("/apiVersion", json!("admission.k8s.io/v1beta1"))), "version");
        assert_eq!(code(&changed("/request", json!(null))), "no-request");
        assert_eq!(code(&changed("/request/operation", json!("create"))), "malformed");
        assert_eq!(code(&changed("/request/uid", json!(1))), "malformed");
        assert_eq!(code(br#"{"kind":"Pod","apiVersion":"v1","request":1}"#), "kind");
        for body in ["[]", r#"["admission.k8s.io/v1","AdmissionReview",null]"#, "", "{", "null", "\u{feff}{}"]
        {
            assert_eq!(code(body.as_bytes()), "malformed", "{body:?}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let body = bytes(&review());
        for end in 0..body.len() {
            assert!(decode(&body[..end]).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn the_decoder_never_panics(body: Vec<u8>) {
            let _ = decode(&body);
        }

        #[test]
        fn a_damaged_review_never_panics(at in 0_usize..400, byte: u8) {
            let mut body = bytes(&review());
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            let _ = decode(&body);
        }
    }
}
