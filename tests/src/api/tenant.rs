//! Organizations made through the API, as a stranger makes one.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Answer, Api, PASSWORD};

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
    /// An organization that nobody asked for before, with an owner of its own: registration is throttled per owner.
    pub fn fresh(prefix: &str) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{prefix} {}", &random[..10]);
        Self { email: format!("owner-{random}@example.org"), name, password: Some(PASSWORD.into()) }
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

impl Api {
    /// Asks for an organization.
    pub async fn create(&self, wanted: &Wanted, key: Option<&str>) -> Result<Answer> {
        let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        self.send(reqwest::Method::POST, "/api/organizations", &headers, &wanted.body()).await
    }

    /// Logs the owner of an organization in.
    pub async fn login_owner(&self, wanted: &Wanted) -> Result<Self> {
        let password = wanted.password.as_deref().context("the owner has a password")?;
        self.session(self.try_login(&wanted.email, password, None).await?)
    }
}

/// An organization, and its owner's session.
#[derive(Debug, Clone)]
pub struct Owned {
    /// The owner's.
    pub api: Api,
    /// The organization's id.
    pub organization: String,
    /// The tenant's namespace.
    pub namespace: String,
}

impl Owned {
    /// Makes a fresh organization and logs its owner in.
    pub async fn create(api: &Api, prefix: &str) -> Result<Self> {
        let wanted = Wanted::fresh(prefix);
        let made = api.create(&wanted, None).await?.expect(201)?;
        Self::of(api, &wanted, &made).await
    }

    /// Logs the owner of an organization in that was just made.
    pub async fn of(api: &Api, wanted: &Wanted, made: &Answer) -> Result<Self> {
        let field = |name: &str| made.body[name].as_str().map(str::to_owned).context("a field of the answer");
        Ok(Self {
            api: api.login_owner(wanted).await?,
            organization: field("id")?,
            namespace: field("namespace")?,
        })
    }

    /// The path of a value.
    pub fn path(&self, service: &str, key: &str) -> String {
        format!("/api/organizations/{}/configs/{service}/{key}", self.organization)
    }

    /// Sets a value; its new version.
    pub async fn put(&self, service: &str, key: &str, value: &Value) -> Result<u64> {
        let body = json!({ "value": value, "reason": "try" });
        let answer = self.api.put(&self.path(service, key), body).await?;
        ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
        answer.body["version"].as_u64().with_context(|| format!("no version in {}", answer.text))
    }
}
