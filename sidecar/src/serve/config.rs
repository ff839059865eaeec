//! `/v1/config`: all values, one service, one value.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use contract::{ConfigKey, InvalidIdentifier, ServiceName};
use runtime::problem::Problem;

use super::{App, etag::Tag, wait};
use crate::store::{Entry, Snapshot};

/// `GET /v1/config`
pub(super) async fn all(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let snapshot = app.snapshot()?;
    Ok(list(&app, &snapshot, snapshot.entries(), snapshot.position.revision, &headers))
}

/// `GET /v1/config/SERVICE`: a service that has no values is an empty list.
pub(super) async fn service(
    State(app): State<App>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let service = ServiceName::try_from(service).map_err(bad_name)?;
    let snapshot = app.snapshot()?;
    let entries = snapshot.service(service.as_str());
    let revision = entries.iter().map(|entry| entry.at.revision).max().unwrap_or(0);
    Ok(list(&app, &snapshot, entries, revision, &headers))
}

/// `GET /v1/config/SERVICE/KEY`, at once or as soon as it is newer than `after_version`.
pub(super) async fn one(
    State(app): State<App>,
    Path((service, key)): Path<(String, String)>,
    query: Result<Query<wait::Query>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let service = ServiceName::try_from(service).map_err(bad_name)?;
    let key = ConfigKey::try_from(key).map_err(bad_name)?;
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST).detail(error.body_text()))?;
    let (snapshot, newer) = match query.poll()? {
        Some(poll) => wait::until_newer(&app, service.as_str(), key.as_str(), poll).await?,
        None => (app.snapshot()?, true),
    };
    let entry = snapshot.get(service.as_str(), key.as_str());
    let Some((entry, document)) = entry.and_then(|entry| Some((entry, entry.document.clone()?))) else {
        return Err(absent(&service, &key, entry));
    };
    let tag = Tag { epoch: entry.at.epoch, number: entry.version };
    // A client that is ahead (it asked another pod before) is told "nothing newer", not something older.
    Ok(if newer && !tag.is_known(&headers) { tag.json(document) } else { tag.not_modified() })
}

fn list(
    app: &App,
    snapshot: &Snapshot,
    entries: &[Arc<Entry>],
    revision: u64,
    headers: &HeaderMap,
) -> Response {
    let tag = Tag { epoch: snapshot.position.epoch, number: revision };
    if tag.is_known(headers) {
        return tag.not_modified();
    }
    let documents: Vec<&Bytes> = entries.iter().filter_map(|entry| entry.document.as_ref()).collect();
    let length = documents.iter().map(|document| document.len() + 1).sum::<usize>() + 128;
    let mut body = String::with_capacity(length).into_bytes();
    let head = format!(r#"{{"organization":"{}","revision":{revision},"configs":["#, app.shared.organization);
    body.extend_from_slice(head.as_bytes());
    for (index, document) in documents.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(document);
    }
    body.extend_from_slice(b"]}");
    tag.json(body.into())
}

fn bad_name(error: InvalidIdentifier) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST).detail(error.to_string())
}

fn absent(service: &ServiceName, key: &ConfigKey, tombstone: Option<&Arc<Entry>>) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND);
    match tombstone {
        Some(entry) => problem.detail(format!("{service}/{key} was deleted")).with("version", entry.version),
        None => problem.detail(format!("{service}/{key} has no value")),
    }
}
