//! The wire, outwards: a verdict and how the API server reads it.

use serde::Serialize;

use super::{
    refusal::Refusal,
    review::{API_VERSION, KIND},
};

/// The apiserver cuts warnings that are much longer.
const WARNING_BYTES_MAX: usize = 1024;

/// A verdict on one review, before it is written as an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Set when the request is refused.
    pub refusal: Option<Refusal>,
    /// JSON Patch (RFC 6902) to apply.
    pub patch: Option<Vec<u8>>,
    /// Shown to whoever asked.
    pub warnings: Vec<String>,
    /// Written to the apiserver's audit log under our prefix: key, value.
    pub audit: Vec<(&'static str, String)>,
    /// A short reason for metrics, from a closed set.
    pub reason: &'static str,
}

impl Verdict {
    /// Admits, for `reason`.
    pub fn allow(reason: &'static str) -> Self {
        Self { reason, ..Self::default() }
    }

    /// Refuses.
    pub fn refuse(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, refusal: Some(refusal), ..Self::default() }
    }

    /// Whether the request is admitted.
    pub fn allowed(&self) -> bool {
        self.refusal.is_none()
    }

    /// Adds a warning for whoever asked.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Adds an audit annotation.
    #[must_use]
    pub fn annotate(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.audit.push((key, value.into()));
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
    audit_annotations: Audit<'a>,
}

/// The audit annotations: the reason of every decision, and what the verdict adds.
struct Audit<'a>(&'a Verdict);

impl Serialize for Audit<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let added = self.0.audit.iter().map(|(key, value)| (*key, value.as_str()));
        serializer.collect_map(std::iter::once(("reason", self.0.reason)).chain(added))
    }
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// Writes the answer to the request with this uid.
pub fn encode(uid: &str, verdict: &Verdict) -> Vec<u8> {
    use base64::Engine as _;
    let status = verdict.refusal.as_ref().map(|refusal| {
        // Who asks again later may be admitted, and clients go by the code.
        let unknown = refusal.reason == Refusal::UNKNOWN_STATE;
        let (code, reason) = if unknown { (503, "ServiceUnavailable") } else { (403, "Forbidden") };
        Status { code, reason, message: &refusal.message }
    });
    let patch = verdict.patch.as_ref().filter(|_| verdict.allowed());
    let answer = Answer {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: verdict.allowed(),
            status,
            patch_type: patch.map(|_| "JSONPatch"),
            patch: patch.map(|patch| base64::engine::general_purpose::STANDARD.encode(patch)),
            warnings: verdict.warnings.iter().map(|warning| shortened(warning)).collect(),
            audit_annotations: Audit(verdict),
        },
    };
    // Plain strings and numbers always serialise; an empty answer would fail closed at the apiserver.
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(WARNING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_worth_another_try() {
        let unknown = Verdict::refuse(Refusal::unknown_state("shop", "no answer"));
        assert!(
            String::from_utf8(encode("u", &unknown))
                .unwrap()
                .contains(r#""code":503,"reason":"ServiceUnavailable""#)
        );
    }

    #[test]
    fn the_answer_carries_what_the_apiserver_reads() {
        let refused = Verdict::refuse(Refusal::new("not-ready", "no")).warn("w").annotate("k", "v");
        insta::assert_snapshot!(String::from_utf8(encode("u-1", &refused)).unwrap(), @r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":false,"status":{"code":403,"reason":"Forbidden","message":"no"},"warnings":["w"],"auditAnnotations":{"reason":"not-ready","k":"v"}}}"#);
        let patched = Verdict { patch: Some(b"[]".to_vec()), ..Verdict::allow("injected") };
        insta::assert_snapshot!(String::from_utf8(encode("u-1", &patched)).unwrap(), @r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":true,"patchType":"JSONPatch","patch":"W10=","auditAnnotations":{"reason":"injected"}}}"#);
    }

    #[test]
    fn long_warnings_are_cut_between_characters() {
        let warning = "ä".repeat(WARNING_BYTES_MAX);
        assert_eq!(shortened(&warning).len(), WARNING_BYTES_MAX);
        assert_eq!(shortened(&format!("a{warning}")).len(), WARNING_BYTES_MAX - 1);
    }
}
