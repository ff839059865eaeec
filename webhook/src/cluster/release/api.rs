//! What the release controller asks of the API server.

use std::time::Duration;

use http::header;
use k8s_openapi::api::core::v1::{Event, Namespace as CoreNamespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ListMeta, Request},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::admission::{
    gate::{Missing, Namespace},
    release::{Candidate, Controller, Held, Second, patch},
};

/// How long one request may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Pods a page of a list.
const PAGE: u32 = 500;
/// Owner of the fields of our Events, and who reports them.
const REPORTER: &str = "agent-ready-webhook";
/// The longest message that the API server takes in an Event.
const MESSAGE_BYTES_MAX: usize = 1024;
/// The answer to a patch or a deletion is not read: its metadata will do.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Why a request had no good end.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server said so.
    #[error("the API server answered {0}: {1}")]
    Answer(u16, String),
    /// It could not be asked.
    #[error("the API server could not be reached: {0}")]
    Unreachable(#[source] Box<kube::Error>),
    /// It said nothing in time.
    #[error("the API server did not answer within {ANSWER_TIME_MAX:?}")]
    Overdue,
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Answer(status.code, status.message.clone()),
            error => Self::Unreachable(Box::new(error)),
        }
    }
}

impl ApiError {
    /// The pod is gone, or is not what it was: somebody else was there first.
    pub fn is_stale(&self) -> bool {
        // A failed `test` of a JSON Patch is a 422.
        matches!(self, Self::Answer(404 | 409 | 422, _))
    }
}

/// An Event about one object; written again, it is the same Event.
#[derive(Debug)]
pub struct Notice<'a> {
    /// What it is about: API version, kind, name, UID.
    pub about: &'a Controller,
    /// A short reason, in one word.
    pub reason: &'static str,
    /// What happened, why, and what to do.
    pub message: String,
}

/// The API server, with the webhook's own account.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<Box<RawValue>>>,
}

async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    Ok(tokio::time::timeout(ANSWER_TIME_MAX, request).await.map_err(|_| ApiError::Overdue)??)
}

impl Kubernetes {
    /// With this client's identity.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The namespace as it is; nothing if there is none.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>, ApiError> {
        let api: Api<CoreNamespace> = Api::all(self.client.clone());
        let found = in_time(api.get_opt(name)).await?;
        Ok(found.map(|namespace| Namespace {
            labels: namespace.metadata.labels.unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
            missing: Missing::default(),
        }))
    }

    /// A page of the pods of a namespace that may be held, as they were sent, and the token of the next.
    pub async fn pending(
        &self,
        namespace: &str,
        token: Option<String>,
    ) -> Result<(Vec<Box<RawValue>>, Option<String>), ApiError> {
        let mut params = ListParams::default().fields("spec.nodeName=,status.phase=Pending").limit(PAGE);
        params.continue_token = token;
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let request = Request::new(path).list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = in_time(self.client.request(request)).await?;
        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        Ok((page.items.unwrap_or_default(), token))
    }

    /// Creates the pod as a dry run.
    pub async fn admit(&self, namespace: &str, candidate: &Candidate) -> Second {
        let params = PostParams { dry_run: true, field_manager: None };
        let body = candidate.manifest().to_string().into_bytes();
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods")).create(&params, body);
        let request = match request {
            Ok(request) => request,
            Err(error) => return Second::Unknown(error.to_string()),
        };
        match in_time(self.client.request::<Value>(request)).await {
            Ok(admitted) => match candidate.differences(&admitted) {
                places if places.is_empty() => Second::Same,
                places => Second::Changed(places),
            },
            Err(ApiError::Answer(code, message)) => Second::failed(code, &message),
            Err(error) => Second::Unknown(error.to_string()),
        }
    }

    /// Takes our gate off.
    pub async fn release(&self, namespace: &str, pod: &Held) -> Result<(), ApiError> {
        let request = http::Request::patch(format!("/api/v1/namespaces/{namespace}/pods/{}", pod.name))
            .header(header::CONTENT_TYPE, "application/json-patch+json")
            .header(header::ACCEPT, METADATA_ONLY)
            .body(patch(pod).to_string().into_bytes())
            .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        in_time(self.client.request_text(request)).await.map(drop)
    }

    /// Deletes the pod that was read, so that its controller makes it anew.
    pub async fn delete(&self, namespace: &str, pod: &Held) -> Result<(), ApiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let preconditions =
            Preconditions { uid: Some(pod.uid.clone()), resource_version: Some(pod.version.clone()) };
        let params = DeleteParams::default().preconditions(preconditions);
        in_time(api.delete(&pod.name, &params)).await.map(drop)
    }

    /// Writes the one Event of this reason about this object.
    pub async fn tell(&self, namespace: &str, notice: &Notice<'_>) -> Result<(), ApiError> {
        let Notice { about, reason, message } = notice;
        let name = event_name(about, reason);
        let now =
            OffsetDateTime::now_utc().replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok());
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {"apiVersion": about.api_version, "kind": about.kind, "namespace": namespace,
                "name": about.name, "uid": about.uid},
            "type": "Warning", "reason": reason, "message": shortened(message), "lastTimestamp": now,
            "source": {"component": REPORTER}, "reportingComponent": REPORTER,
        });
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(REPORTER).force();
        in_time(api.patch(&name, &params, &Patch::Apply(&event))).await.map(drop)
    }
}

/// One name an object and reason, so that what is told again is no second Event.
fn event_name(about: &Controller, reason: &str) -> String {
    let kind: String = about.kind.to_lowercase();
    let uid: String = about.uid.chars().take(8).collect();
    let name: String = about.name.chars().take(180).collect();
    format!("{}.{kind}.{uid}.{}", name.trim_end_matches(['.', '-']), reason.to_lowercase())
}

fn shortened(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
