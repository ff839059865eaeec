//! Long polls: waiting until a key's version is newer than the one the client has.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use runtime::problem::Problem;
use serde::Deserialize;

use super::App;
use crate::{duration, store::Snapshot};

/// Longest time that a client may ask to wait: proxies and idle time-outs cut longer ones.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// Wait when a client gives a version and no time.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The query of `/v1/config/SERVICE/KEY`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    after_version: Option<String>,
    wait: Option<String>,
}

/// A long poll that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Poll {
    pub after_version: u64,
    pub wait: Duration,
}

impl Query {
    /// What is asked for; `None` is a plain read.
    pub fn poll(&self) -> Result<Option<Poll>, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST).detail(detail);
        let Some(after) = &self.after_version else {
            return if self.wait.is_none() { Ok(None) } else { Err(bad("wait needs after_version".into())) };
        };
        let after_version = after.parse().map_err(|_| bad("after_version is not a version".into()))?;
        let wait = self.wait.as_deref().map_or(Ok(WAIT_DEFAULT), duration::parse);
        let wait = wait.map_err(|error| bad(format!("wait: {error}")))?;
        if wait > WAIT_MAX {
            return Err(bad(format!("wait is at most {} s", WAIT_MAX.as_secs())));
        }
        Ok(Some(Poll { after_version, wait }))
    }
}

/// Waits until the key is newer than `poll.after_version`, the time is over, or the program ends: the values then, and
/// whether the key is newer.
///
/// A restored database (another epoch) counts as newer: its versions cannot be compared with the client's.
pub(super) async fn until_newer(
    app: &App,
    service: &str,
    key: &str,
    poll: Poll,
) -> Result<(Arc<Snapshot>, bool), Problem> {
    let mut changes = app.shared.changes();
    let start = app.snapshot()?;
    let epoch = start.position.epoch;
    let is_newer = |snapshot: &Snapshot| {
        snapshot.position.epoch != epoch
            || snapshot.get(service, key).is_some_and(|entry| entry.version > poll.after_version)
    };
    if !is_newer(&start) && !poll.wait.is_zero() {
        let _place = app.wait()?;
        tokio::select! {
            _ = changes.wait_for(|snapshot| snapshot.as_deref().is_some_and(is_newer)) => {}
            () = tokio::time::sleep(poll.wait) => {}
            () = app.stop.cancelled() => {}
        }
    }
    let end = app.snapshot()?;
    let newer = is_newer(&end);
    Ok((end, newer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(after_version: Option<&str>, wait: Option<&str>) -> Result<Option<Poll>, String> {
        let query = Query { after_version: after_version.map(Into::into), wait: wait.map(Into::into) };
        query.poll().map_err(|problem| problem.detail.unwrap_or_default())
    }

    #[test]
    fn reads_a_poll_and_says_what_is_wrong_with_it() {
        assert_eq!(poll(None, None), Ok(None));
        let wait = Duration::from_millis(200);
        assert_eq!(poll(Some("7"), Some("200ms")), Ok(Some(Poll { after_version: 7, wait })));
        assert_eq!(poll(Some("7"), None), Ok(Some(Poll { after_version: 7, wait: WAIT_DEFAULT })));
        for (after_version, wait) in
            [(None, Some("1s")), (Some("-1"), None), (Some("1"), Some("x")), (Some("1"), Some("6m"))]
        {
            assert!(poll(after_version, wait).is_err());
        }
    }
}
