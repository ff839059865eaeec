//! Errors towards clients: problem documents by RFC 9457.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// Media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A problem document; as a response it carries its own status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// What sort of problem it is: `about:blank`, or a reference that clients may compare.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sort of problem in a few words, the same at every occurrence.
    pub title: String,
    /// The HTTP status, repeated in the document.
    #[serde(serialize_with = "as_number")]
    pub status: StatusCode,
    /// What happened this time, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Extension members.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
    /// Headers that go with the answer. Boxed, to keep results with this error small.
    #[serde(skip)]
    headers: Option<Box<HeaderMap>>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of no special sort: `about:blank`, with the status's own words as the title.
    pub fn new(status: StatusCode) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status,
            detail: None,
            extra: Map::new(),
            headers: None,
        }
    }

    /// Names the sort of problem, with its title.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>, title: impl Into<String>) -> Self {
        self.kind = kind.into();
        self.title = title.into();
        self
    }

    /// Says what happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds an extension member. The five standard names are left as they are.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !["type", "title", "status", "detail", "instance"].contains(&name) {
            self.extra.insert(name.into(), value.into());
        }
        self
    }

    /// Adds a header to the answer, for example Retry-After.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let headers = self.headers.take();
        let mut response = (self.status, Json(&self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response.headers_mut().extend(headers.map(|headers| *headers).unwrap_or_default());
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_document_has_the_standard_members_and_the_extras() {
        let problem = Problem::new(StatusCode::CONFLICT)
            .kind("urn:agent-ready:name-taken", "Name taken")
            .detail("org-acme exists")
            .with("namespace", "org-acme")
            .with("status", 200);
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            json!({"type": "urn:agent-ready:name-taken", "title": "Name taken", "status": 409,
                   "detail": "org-acme exists", "namespace": "org-acme"})
        );
    }

    #[test]
    fn the_answer_has_the_status_the_media_type_and_the_headers() {
        let response = Problem::new(StatusCode::TOO_MANY_REQUESTS)
            .header(header::RETRY_AFTER, HeaderValue::from_static("3"))
            .into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
    }
}
