//! Entity tags: `"<epoch>.<number>"`, the same whichever pod answers.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

/// The tag of a version or revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub epoch: u64,
    pub number: u64,
}

impl Tag {
    fn text(self) -> String {
        format!("\"{}.{}\"", self.epoch, self.number)
    }

    fn header(self) -> HeaderValue {
        // Digits, a dot and quotes are always a header value.
        HeaderValue::try_from(self.text()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// Whether If-None-Match says that the client has this already. The comparison is the weak one of RFC 9110.
    pub fn is_known(self, headers: &HeaderMap) -> bool {
        let wanted = self.text();
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value
                .split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == wanted)
        })
    }

    /// 304 with this tag.
    pub fn not_modified(self) -> Response {
        (StatusCode::NOT_MODIFIED, self.headers()).into_response()
    }

    /// A JSON document with this tag.
    pub fn json(self, document: Bytes) -> Response {
        let mut response = (self.headers(), document).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn headers(self) -> [(header::HeaderName, HeaderValue); 2] {
        [(header::ETAG, self.header()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_compared_weakly() {
        let tag = Tag { epoch: 1, number: 7 };
        for (value, known) in [
            ("\"1.7\"", true),
            ("W/\"1.7\"", true),
            ("\"1.6\", \"1.7\"", true),
            ("*", true),
            ("\"2.7\"", false),
            ("1.7", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            assert_eq!(tag.is_known(&headers), known, "{value}");
        }
        assert!(!tag.is_known(&HeaderMap::new()));
    }
}
