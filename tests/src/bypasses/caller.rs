//! Requests as they are on the wire, by whoever is impersonated.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// Someone who asks: an administrator of the cluster, or who it impersonates.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    user: Option<String>,
    groups: Vec<String>,
}

/// What the apiserver said.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Body; a text where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// Whether it was done.
    pub fn done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether this entry of ours refused it.
    pub fn refused_by(&self, entry: &str) -> bool {
        let message = self.body["message"].as_str().unwrap_or_default();
        self.code == 403 && message.contains(&format!("admission webhook \"{entry}\" denied the request"))
    }
}

/// How a change is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// By the lists' keys.
    Strategic,
    /// Server-side apply, with force.
    Apply,
}

impl Patch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Merge, Self::Strategic, Self::Apply];

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

impl Caller {
    /// The administrator of the client.
    pub fn admin(client: Client) -> Self {
        Self { client, user: None, groups: Vec::new() }
    }

    /// The same connection as another user.
    #[must_use]
    pub fn acting_as(&self, user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { client: self.client.clone(), user: Some(user.to_owned()), groups }
    }

    /// Who it is, for messages.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("cluster-admin")
    }

    /// Asks with a JSON body.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.send(method, path, "application/json", body).await
    }

    /// Asks for a change.
    pub async fn patch(&self, kind: Patch, path: &str, body: &Value) -> Result<Answer> {
        let query = if kind == Patch::Apply { "?fieldManager=journey&force=true" } else { "" };
        self.send("PATCH", &format!("{path}{query}"), kind.media_type(), body).await
    }

    async fn send(&self, method: &str, path: &str, media_type: &str, body: &Value) -> Result<Answer> {
        let mut request =
            http::Request::builder().method(method).uri(path).header("content-type", media_type);
        if let Some(user) = &self.user {
            request = request.header("impersonate-user", user);
        }
        for group in &self.groups {
            request = request.header("impersonate-group", group);
        }
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let response = self.client.send(request.body(Body::from(body))?).await;
        let response = response.with_context(|| format!("{method} {path}"))?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
    }
}
