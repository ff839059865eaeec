//! The provisioner's API as its users call it, and organizations with members to call it as.

mod tenant;

pub use tenant::{Owned, Wanted};

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::attacks::TestTenant;
use crate::data::{DataServices, Login};
use crate::platform::Platform;
use crate::program::Program;

/// The password of every test user.
pub const PASSWORD: &str = "correct horse battery";
/// Its Argon2id hash, so that a test does not spend its time on making one.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Y1Cy1zc6cBZJYSP5HI9msg$UiZnSk/JcgpWmLVrPxpcR1fCvsP9NHPbjTVDtKYwyNs";
/// How long a provisioner may take to serve.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Longer than any answer may take, with every fault that tests make.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        self.body.clone()
    }

    /// A header; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer, if it has this status; otherwise an error with all that it says.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status.as_u16() == status, "{} in place of {status}: {}", self.status, self.text);
        Ok(self)
    }

    /// As [`expect`](Self::expect), for a problem document.
    pub fn problem(self, status: u16) -> Result<Value> {
        let answer = self.expect(status)?;
        ensure!(answer.header("content-type") == "application/problem+json", "{:?}", answer.headers);
        let problem = answer.json();
        ensure!(problem["status"] == status && problem["title"].is_string(), "{problem}");
        Ok(problem)
    }
}

/// A provisioner, and whose token goes with each request.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// The provisioner at a base URL, without a token.
    pub fn at(base: impl Into<String>) -> Result<Self> {
        runtime::crypto::install();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build()?;
        Ok(Self { client, base: base.into(), token: None })
    }

    /// The same provisioner with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token that goes with each request.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Sends a request with headers and, unless null, a JSON body.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer> {
        let mut request = self.request(method, path);
        for (name, value) in headers {
            request = request.header(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        self.answer(request, path).await
    }

    /// Sends bytes as they are.
    pub async fn send_raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let request = self.request(method, path).header("content-type", content_type).body(body.into());
        self.answer(request, path).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token { request.bearer_auth(token) } else { request }
    }

    async fn answer(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Answer> {
        let answer = request.send().await.with_context(|| format!("ask {}{path}", self.base))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, body })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], &Value::Null).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: Value) -> Result<Answer> {
        self.send(Method::PUT, path, &[], &body).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        self.send(Method::POST, path, &[], &body).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, &[], &Value::Null).await
    }

    /// Tries to log in.
    pub async fn try_login(&self, email: &str, password: &str, organization: Option<&str>) -> Result<Answer> {
        let mut body = json!({ "email": email, "password": password });
        if let Some(organization) = organization {
            body["organization"] = json!(organization);
        }
        Self { token: None, ..self.clone() }.post("/api/auth/login", body).await
    }

    /// Logs a test user in.
    pub async fn login(&self, email: &str, organization: Option<&str>) -> Result<Self> {
        self.session(self.try_login(email, PASSWORD, organization).await?)
    }

    fn session(&self, login: Answer) -> Result<Self> {
        let body = login.expect(200)?.body;
        Ok(self.with_token(body["access_token"].as_str().context("a token")?))
    }
}

/// An organization made straight in PostgreSQL and Redis, with members.
#[derive(Debug, Clone)]
pub struct Organization {
    services: DataServices,
    /// The tenant, with the logins of its sidecars.
    pub tenant: TestTenant,
    /// Its id, as paths have it.
    pub id: String,
}

impl Organization {
    /// Makes it without members.
    pub async fn create(services: &DataServices) -> Result<Self> {
        let tenant = TestTenant::create(services).await?;
        let id = tenant.organization.to_string();
        Ok(Self { services: services.clone(), tenant, id })
    }

    /// Makes a user with [`PASSWORD`] and this role here; gives the email address.
    pub async fn member(&self, role: &str) -> Result<String> {
        let email = format!("{role}-{}@tests.example", Uuid::new_v4().simple());
        make_user(&self.services, &email, false).await?;
        self.join(&email, role).await?;
        Ok(email)
    }

    /// Gives an existing user a role here.
    pub async fn join(&self, email: &str, role: &str) -> Result<()> {
        let mut platform = PgConnection::connect_with(&self.services.options(Login::Platform)?).await?;
        sqlx::query(
            "INSERT INTO memberships (user_id, org_id, role) SELECT id, $1, $2 FROM users WHERE email = $3",
        )
        .bind(self.tenant.organization.0)
        .bind(role)
        .bind(email)
        .execute(&mut platform)
        .await?;
        Ok(platform.close().await?)
    }

    /// The path of its configuration.
    pub fn configs(&self) -> String {
        format!("/api/organizations/{}/configs", self.id)
    }

    /// Removes it and its members.
    pub async fn remove(&self) -> Result<()> {
        let mut platform = PgConnection::connect_with(&self.services.options(Login::Platform)?).await?;
        sqlx::query("DELETE FROM users WHERE id IN (SELECT user_id FROM memberships WHERE org_id = $1)")
            .bind(self.tenant.organization.0)
            .execute(&mut platform)
            .await?;
        platform.close().await?;
        self.tenant.remove(&self.services).await
    }
}

/// Makes a user with [`PASSWORD`].
pub async fn make_user(services: &DataServices, email: &str, operator: bool) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let mut platform = PgConnection::connect_with(&services.options(Login::Platform)?).await?;
    sqlx::query("INSERT INTO users (id, email, password_hash, platform_operator) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(email)
        .bind(PASSWORD_HASH)
        .bind(operator)
        .execute(&mut platform)
        .await
        .context("make a user")?;
    platform.close().await?;
    Ok(id)
}

/// A provisioner as a process of this machine: with settings of its own, and to be killed.
#[derive(Debug)]
pub struct Process {
    /// The program.
    pub program: Program,
    /// Its API.
    pub api: Api,
}

impl Process {
    /// Starts one beside those of the platform; `changes` are settings that differ.
    pub async fn start(platform: &Platform, changes: &[(&str, &str)]) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let listen = listener.local_addr()?.to_string();
        drop(listener);
        let mut environment: BTreeMap<String, String> =
            crate::deploy::settings::provisioner_process(platform);
        let kubeconfig = platform.service_account_kubeconfig("provisioner").await?;
        environment.insert("KUBECONFIG".into(), kubeconfig.to_string_lossy().into_owned());
        environment.insert("LISTEN".into(), listen.clone());
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut program = Program::spawn("provisioner", &["serve"], &environment)?;
        program.ready(&format!("http://{listen}/healthz"), READY_LIMIT).await?;
        Ok(Self { program, api: Api::at(format!("http://{listen}"))? })
    }
}
