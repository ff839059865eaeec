//! The provisioner's API as a caller sees it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Longer than a creation may take with every fault that tests make.
const LIMIT: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Itself if its status is `status`.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{} and not {status}: {}", self.status, self.body);
        Ok(self)
    }
}

/// An organization that is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Display name.
    pub name: String,
    /// Email address of the owner.
    pub email: String,
    /// The owner's password; none when logged in.
    pub password: Option<String>,
}

impl Wanted {
    /// An organization that nobody asked for before, with an owner of its own.
    pub fn fresh(prefix: &str) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{prefix} {}", &random[..10]);
        Self { email: format!("owner-{random}@example.org"), name, password: Some("correct horse".into()) }
    }

    /// The namespace that it gets.
    pub fn namespace(&self) -> Result<String> {
        Ok(contract::Slug::from_name(&self.name)?.namespace())
    }

    /// The request's body.
    pub fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "owner_email": self.email });
        if let Some(password) = &self.password {
            body["password"] = json!(password);
        }
        body
    }
}

/// One provisioner.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// The provisioner at `base`.
    pub fn new(base: impl Into<String>) -> Result<Self> {
        runtime::crypto::install();
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        Ok(Self { client, base: base.into(), token: None })
    }

    /// The same provisioner, for the bearer of a token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The caller's token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Asks for an organization.
    pub async fn create(&self, wanted: &Wanted, key: Option<&str>) -> Result<Answer> {
        let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        self.post("/api/organizations", &wanted.body(), &headers).await
    }

    /// Logs in; the same provisioner for that user.
    pub async fn login(&self, wanted: &Wanted) -> Result<Self> {
        let body = json!({ "email": wanted.email, "password": wanted.password });
        let answer = self.post("/api/auth/login", &body, &[]).await?.expect(200)?;
        Ok(self.with_token(answer.body["access_token"].as_str().context("an access token")?))
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Posts bytes.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Answer> {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", content_type);
        self.send(request.body(body)).await
    }

    /// Gets.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<Answer> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?;
        Ok(Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }
}
