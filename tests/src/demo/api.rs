//! The provisioner's API, as a stranger calls it.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::Demonstrated;
use crate::platform::Platform;

pub struct Provisioner {
    client: Client,
    base: String,
    organization: String,
    token: String,
}

impl Provisioner {
    pub fn new(platform: &Platform) -> Result<Self> {
        let (client, base) = (crate::http::unverified()?, platform.provisioner_url());
        Ok(Self { client, base, organization: String::new(), token: String::new() })
    }

    pub async fn create(&self, body: &Value, key: &str) -> Result<Value> {
        let request = self.client.post(format!("{}/api/organizations", self.base));
        answer(request.header("Idempotency-Key", format!("demo-{key}")).json(body)).await
    }

    pub async fn log_in(&mut self, owner: &Demonstrated) -> Result<()> {
        let body = json!({ "email": owner.owner_email, "password": owner.owner_password });
        let session = answer(self.client.post(format!("{}/api/auth/login", self.base)).json(&body)).await?;
        self.organization.clone_from(&owner.tenant_id);
        session["access_token"].as_str().context("no access token")?.clone_into(&mut self.token);
        Ok(())
    }

    pub async fn put(&self, service: &str, key: &str, value: &Value) -> Result<Value> {
        let url = format!("{}/api/organizations/{}/configs/{service}/{key}", self.base, self.organization);
        let body = json!({ "value": value, "reason": "demonstration" });
        answer(self.client.put(url).bearer_auth(&self.token).json(&body)).await
    }
}

async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await.context("call the provisioner")?;
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await?;
    ensure!(status.is_success(), "{url}: {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{url}: not JSON: {body}"))
}
