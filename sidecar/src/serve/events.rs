//! `/v1/events`: which versions changed, as server-sent events.
//!
//! A stream compares the current values with what it sent last, so a slow reader skips versions and loses none: there
//! is no queue that could overflow.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use runtime::problem::Problem;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;
use crate::store::{Entry, Position, Snapshot};

/// A comment is sent so often when nothing changes, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events`: changes from now on, or from Last-Event-ID on.
pub(super) async fn stream(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let changes = app.shared.changes();
    let position = app.snapshot()?.position;
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(parse_id);
    let mut reader = Reader {
        sent: last_seen.unwrap_or(position),
        pending: VecDeque::new(),
        changes,
        _place: app.wait()?,
    };
    // What came after Last-Event-ID is there already.
    reader.changes.mark_changed();
    let events = stream::unfold(reader, |mut reader| async move { Some((Ok(reader.next().await?), reader)) });
    let events = futures::StreamExt::take_until(events, app.stop.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Reader {
    /// What the client was told last.
    sent: Position,
    pending: VecDeque<Event>,
    changes: watch::Receiver<Option<Arc<Snapshot>>>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            self.changes.changed().await.ok()?;
            let snapshot = self.changes.borrow_and_update().clone();
            if let Some(snapshot) = snapshot {
                self.pending = news(&snapshot, self.sent).into();
                self.sent = snapshot.position;
            }
        }
    }
}

/// The events that lead from `sent` to the snapshot.
fn news(snapshot: &Snapshot, sent: Position) -> Vec<Event> {
    if sent.epoch == snapshot.position.epoch || sent == Position::default() {
        return snapshot.since(sent).into_iter().map(|entry| event(entry)).collect();
    }
    // A restored database, or an id from before it: versions start again, so everything is told.
    let reset = Event::default().event("reset").data(json!({"epoch": snapshot.position.epoch}).to_string());
    std::iter::once(reset)
        .chain(snapshot.since(Position::default()).into_iter().map(|entry| event(entry)))
        .collect()
}

fn event(entry: &Entry) -> Event {
    let mut data = json!({"service": entry.service, "key": entry.key, "version": entry.version});
    if entry.document.is_none() {
        data["deleted"] = true.into();
    }
    Event::default()
        .id(format!("{}.{}", entry.at.epoch, entry.at.revision))
        .event("change")
        .data(data.to_string())
}

fn parse_id(id: &str) -> Option<Position> {
    let (epoch, revision) = id.split_once('.')?;
    Some(Position { epoch: epoch.parse().ok()?, revision: revision.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions() {
        assert_eq!(parse_id("2.17"), Some(Position { epoch: 2, revision: 17 }));
        for bad in ["", "2", "2.", "a.b", "-1.2"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
