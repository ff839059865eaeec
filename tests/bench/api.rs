//! The provisioner's API, as a tenant's owner uses it.

use anyhow::{Result, bail};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

/// A provisioner at its base URL.
pub struct Provisioner {
    client: Client,
    base: String,
}

/// An organization and its owner's access token.
pub struct Owner {
    /// The organization's id.
    pub organization: String,
    /// The tenant's namespace.
    pub namespace: String,
    token: String,
}

impl Provisioner {
    /// A client that keeps its connections.
    pub fn new(base: &str) -> Result<Self> {
        runtime::crypto::install();
        Ok(Self {
            client: Client::builder().no_proxy().build()?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// A request with a path below the base URL.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// The same with a token.
    pub fn as_owner(&self, owner: &Owner, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/api/organizations/{}{path}", owner.organization))
            .bearer_auth(&owner.token)
    }

    /// Creates an organization and answers the body of the 201. Each has an owner of its own: registration is
    /// throttled per owner.
    pub async fn create_organization(&self, name: &str) -> Result<Value> {
        let email = format!("{}@bench.example", Uuid::new_v4().simple());
        let body = json!({"name": name, "owner_email": email, "password": PASSWORD});
        let mut answer = answer(self.request(Method::POST, "/api/organizations").json(&body)).await?;
        answer["owner_email"] = json!(email);
        Ok(answer)
    }

    /// Creates an organization and logs its owner in.
    pub async fn owner(&self) -> Result<Owner> {
        let made = self.create_organization(&format!("bench {}", Uuid::new_v4().simple())).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let login = json!({"email": made["owner_email"], "password": PASSWORD});
        let session = answer(self.request(Method::POST, "/api/auth/login").json(&login)).await?;
        Ok(Owner {
            organization: text(&made["id"]),
            namespace: text(&made["namespace"]),
            token: text(&session["access_token"]),
        })
    }

    /// Writes a value, answers its new version.
    pub async fn write(&self, owner: &Owner, service: &str, key: &str, value: Value) -> Result<Value> {
        let body = json!({"value": value, "reason": "bench"});
        answer(self.as_owner(owner, Method::PUT, &format!("/configs/{service}/{key}")).json(&body)).await
    }
}

/// Long enough for any rule on passwords.
const PASSWORD: &str = "bench-password-of-no-worth";

/// The JSON of a successful answer.
pub async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let (status, text) = (response.status(), response.text().await?);
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(serde_json::from_str(&text)?)
}
