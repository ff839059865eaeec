//! `/api/organizations/ORG/configs` and `.../history`: configuration of a tenant's services.

mod batch;
mod history;
mod schemas;
mod values;

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    routing::{get, post},
};
use runtime::problem::Problem;

use crate::{
    config::{
        etag::{self, InvalidTags, Precondition},
        value,
        write::Author,
    },
    http::extract::Caller,
    state::AppState,
};

/// Routes of this resource.
pub fn router() -> Router<AppState> {
    let key = "/api/organizations/{organization}/configs/{service}/{key}";
    Router::new()
        .route("/api/organizations/{organization}/configs", get(values::list))
        .route("/api/organizations/{organization}/configs/batch", post(batch::apply))
        .route(key, get(values::get).put(values::put).delete(values::delete))
        .route(&format!("{key}/history"), get(history::of_key))
        .route(&format!("{key}/rollback"), post(values::rollback))
        .route(&format!("{key}/schema"), get(schemas::get).put(schemas::put).delete(schemas::delete))
        .route("/api/organizations/{organization}/history", get(history::of_organization))
}

/// The one value of a header; none without it.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, InvalidTags> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().map_err(|_| InvalidTags)).transpose()?;
    if values.next().is_some() { Err(InvalidTags) } else { Ok(value) }
}

/// What If-Match and If-None-Match ask.
fn precondition(headers: &HeaderMap) -> Result<Precondition, InvalidTags> {
    Precondition::from_headers(single(headers, &header::IF_MATCH)?, single(headers, &header::IF_NONE_MATCH)?)
}

/// The ETag header of a version.
fn etag_header(version: i64) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::try_from(etag::etag(version)).unwrap_or(HeaderValue::from_static("\"\""));
    (header::ETAG, value)
}

fn author(caller: &Caller, reason: Option<String>) -> Result<Author, Problem> {
    let reason = value::reason(reason).map_err(crate::config::ConfigError::from)?;
    Ok(Author { actor: caller.actor().to_owned(), reason })
}
