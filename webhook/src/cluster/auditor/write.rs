//! Writes Events and policy reports: what is there already is read first, and only what differs is written.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use http::{Method, header};
use kube::Client;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::metrics::Metrics;
use crate::audit::{
    Finding, Kind, Object, event,
    report::{self, FORMS, Form},
};

/// Owner of the applied fields.
const FIELD_MANAGER: &str = "agent-ready-webhook";
/// How long one call may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// An Event younger than this is not written again: they last an hour.
const EVENT_FRESH: Duration = Duration::from_mins(25);

/// Writes for one replica.
pub struct Writer {
    client: Client,
    metrics: Metrics,
    form: RwLock<Option<Form>>,
}

impl Writer {
    /// A writer that knows no form of report yet.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, form: RwLock::new(None) }
    }

    /// Looks which form of report is served; says whether one is that was not before.
    pub async fn discover(&self) -> bool {
        let mut served = None;
        for form in FORMS {
            match self.call(Method::GET, &format!("/apis/{}", form.api_version), None).await {
                Ok(list) if serves(list.as_ref(), form.namespaced.1) => {
                    served = Some(form);
                    break;
                }
                Ok(_) => {}
                // What is not known stays as it was.
                Err(error) => {
                    tracing::debug!(error, "which policy reports are served is not known");
                    return false;
                }
            }
        }
        let mut form = self.form.write().unwrap_or_else(PoisonError::into_inner);
        let new = served.is_some() && served != *form;
        *form = served;
        new
    }

    fn form(&self) -> Option<Form> {
        *self.form.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports what was found in a namespace; `""` is the cluster.
    pub async fn report(&self, namespace: &Object, findings: &[Finding], announced: &[Finding]) {
        for finding in announced {
            let outcome = self.event(finding).await;
            self.count("event", outcome);
        }
        if let Some(form) = self.form() {
            // Every replica writes the same: what only one of them saw is left out.
            let lasting: Vec<Finding> =
                findings.iter().filter(|finding| finding.kind != Kind::PodAfterRevocation).cloned().collect();
            let outcome = self.policy_report(&form, &namespace.namespace, &lasting).await;
            self.count("report", outcome);
        }
    }

    fn count(&self, what: &'static str, outcome: Result<bool, String>) {
        match outcome {
            Ok(true) => self.metrics.wrote(what, "written"),
            Ok(false) => self.metrics.wrote(what, "there"),
            Err(error) => {
                self.metrics.wrote(what, "failed");
                tracing::debug!(what, error, "not reported");
            }
        }
    }

    /// Writes the Event of a finding, unless a fresh one says the same.
    async fn event(&self, finding: &Finding) -> Result<bool, String> {
        let (namespace, name) = event::place(finding);
        let path = format!("/api/v1/namespaces/{namespace}/events/{name}");
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let text = now.format(&Rfc3339).map_err(|error| error.to_string())?;
        let existing = self.call(Method::GET, &path, None).await?;
        let mut first = text.clone();
        if let Some(existing) = existing {
            let at =
                existing["lastTimestamp"].as_str().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
            let fresh = at.is_some_and(|at| (now - at).unsigned_abs() < EVENT_FRESH);
            if fresh && existing["message"] == event::message(finding) {
                return Ok(false);
            }
            if let Some(before) = existing["firstTimestamp"].as_str() {
                before.clone_into(&mut first);
            }
        }
        self.apply(&path, &event::object(finding, &first, &text)).await?;
        Ok(true)
    }

    /// Writes the report of a namespace, unless it is there as it should be; none is made of nothing.
    async fn policy_report(
        &self,
        form: &Form,
        namespace: &str,
        findings: &[Finding],
    ) -> Result<bool, String> {
        let path = form.path(namespace);
        let wanted = form.report(namespace, findings, OffsetDateTime::now_utc().unix_timestamp());
        match self.call(Method::GET, &path, None).await? {
            None if findings.is_empty() => return Ok(false),
            Some(existing) if report::same(&existing, &wanted) => return Ok(false),
            _ => {}
        }
        self.apply(&path, &wanted).await?;
        Ok(true)
    }

    async fn apply(&self, path: &str, object: &Value) -> Result<(), String> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        self.call(Method::PATCH, &path, Some(object)).await.map(drop)
    }

    /// One call; nothing where the API server has nothing of that name.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, String> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(CALL_TIME_MAX, self.client.request::<Value>(request)).await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {CALL_TIME_MAX:?}")),
        }
    }
}

/// Whether an APIResourceList names this resource.
fn serves(list: Option<&Value>, plural: &str) -> bool {
    list.and_then(|list| list["resources"].as_array())
        .is_some_and(|resources| resources.iter().any(|resource| resource["name"] == plural))
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
