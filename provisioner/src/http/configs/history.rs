//! The history: of one key, of the whole organization, as JSON pages or as one CSV stream.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::OrganizationId;
use futures::{StreamExt as _, stream};
use runtime::problem::Problem;
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{
    config::{
        ConfigError, Configuration,
        history::{Filter, PAGE_MAX, Recorded, csv_head, csv_line},
    },
    http::{
        extract::{Caller, InOrganization, OfKey, Parameters},
        problem::named,
    },
    identity::Permission,
    state::AppState,
};

#[derive(Deserialize, Default)]
pub(super) struct HistoryQuery {
    from: Option<String>,
    to: Option<String>,
    actor: Option<String>,
    format: Option<Format>,
    cursor: Option<i64>,
    limit: Option<i64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Csv,
}

#[derive(Serialize)]
struct Page {
    items: Vec<Recorded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
}

/// A moment (RFC 3339), or a day (its beginning in UTC).
fn moment(text: &str) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| {
            Date::parse(text, format_description!("[year]-[month]-[day]")).map(|date| date.midnight().assume_utc())
        })
        .map_err(|_| {
            named(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query")
                .detail("`from` and `to` are moments such as 2026-11-01T00:00:00Z (encode a + as %2B), or days such as 2026-11-01")
        })
}

fn filter(query: &HistoryQuery) -> Result<Filter, Problem> {
    Ok(Filter {
        name: None,
        from: query.from.as_deref().map(moment).transpose()?,
        to: query.to.as_deref().map(moment).transpose()?,
        actor: query.actor.clone(),
        before: query.cursor,
        limit: query.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
    })
}

pub(super) async fn of_key(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::HistoryRead)?;
    let filter = Filter { name: Some(name), ..filter(&query)? };
    answer(&state, organization, filter, query.format).await
}

pub(super) async fn of_organization(
    State(state): State<AppState>,
    caller: Caller,
    InOrganization(organization): InOrganization,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::HistoryRead)?;
    answer(&state, organization, filter(&query)?, query.format).await
}

async fn answer(
    state: &AppState,
    organization: OrganizationId,
    filter: Filter,
    format: Option<Format>,
) -> Result<Response, Problem> {
    if format == Some(Format::Csv) {
        return csv(state.config.clone(), organization, filter).await;
    }
    let page = state.config.history(organization, filter).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|last| last.seq);
    let items = page.items.into_iter().map(Recorded::try_from).collect::<Result<Vec<_>, ConfigError>>()?;
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// All entries, page by page, so that neither memory nor a transaction grows with the history. A fault on the way cuts the
/// answer short, which clients notice: it is chunked.
async fn csv(
    config: Configuration,
    organization: OrganizationId,
    filter: Filter,
) -> Result<Response, Problem> {
    let filter = Filter { limit: PAGE_MAX, ..filter };
    // The first page before the status line: what is wrong from the beginning is told properly.
    let (first, rest) = csv_page(&config, organization, filter).await?;
    let head = stream::iter([Ok::<_, ConfigError>(Bytes::from(csv_head() + &first))]);
    let tail = stream::try_unfold(rest, move |next| {
        let config = config.clone();
        async move {
            let Some(filter) = next else { return Ok(None) };
            let (text, rest) = csv_page(&config, organization, filter).await.inspect_err(|error| {
                tracing::error!(%error, "a CSV export was cut short");
            })?;
            Ok::<_, ConfigError>(Some((Bytes::from(text), rest)))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"history.csv\""),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(head.chain(tail))).into_response())
}

async fn csv_page(
    config: &Configuration,
    organization: OrganizationId,
    filter: Filter,
) -> Result<(String, Option<Filter>), ConfigError> {
    let page = config.history(organization, filter.clone()).await?;
    let before = page.items.last().filter(|_| page.more).map(|last| last.seq);
    let mut text = String::new();
    for entry in &page.items {
        csv_line(&mut text, entry);
    }
    Ok((text, before.map(|before| Filter { before: Some(before), ..filter })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_days_are_read() {
        assert_eq!(moment("2026-11-01").unwrap(), moment("2026-11-01T00:00:00Z").unwrap());
        assert_eq!(moment("2026-11-01T01:00:00+01:00").unwrap(), moment("2026-11-01").unwrap());
        assert!(moment("yesterday").is_err());
    }
}
