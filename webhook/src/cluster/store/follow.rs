//! Lists, then watches, for ever. Written by hand because the age of what is known must be known too: bookmarks and
//! renewals count as words of the API server, and a watch that says nothing is given up.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ListMeta, Request},
};
use runtime::backoff::Backoff;
use serde::Deserialize;

use super::{Event, Store, records::Record};
use crate::jitter::jitter;

/// Objects a page of a list.
const PAGE: u32 = 500;
/// How long a page, or the beginning of a watch, may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The API server ends a watch after this many seconds; watches have been seen to stall behind load balancers.
const WATCH_SECONDS_MAX: u32 = 200;
/// A watch that says nothing for this long is renewed; bookmarks come every minute.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// A watch that ends sooner than this ended for a reason.
const WATCH_TIME_MIN: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Why listing or watching broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the version is too old to watch from")]
    Expired,
    #[error("no answer within {ANSWER_TIME_MAX:?}")]
    Overdue,
    #[error("the watch ended within {WATCH_TIME_MIN:?}")]
    Short,
    #[error(transparent)]
    Kubernetes(Box<kube::Error>),
}

impl From<kube::Error> for Broken {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            error => Self::Kubernetes(Box::new(error)),
        }
    }
}

/// A list without what nobody reads; kube's own buffers each page once more.
#[derive(Deserialize)]
struct Page<W> {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<W>>,
}

/// Keeps the store as the API server has it, for ever.
pub async fn follow<R: Record>(client: Client, store: Store<R>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut version = None;
    loop {
        let outcome = match version.clone() {
            None => list(&client, &store).await.map(|listed| version = Some(listed)),
            Some(_) => watch(&client, &store, &mut version).await,
        };
        let Err(broken) = outcome else {
            backoff.reset();
            continue;
        };
        if matches!(broken, Broken::Expired) {
            version = None;
        }
        tracing::warn!(resource = R::RESOURCE, error = %broken, "the watch store is behind");
        tokio::time::sleep(backoff.next(jitter())).await;
    }
}

/// Lists everything and says at which version.
async fn list<R: Record>(client: &Client, store: &Store<R>) -> Result<String, Broken> {
    store.apply(Event::Init);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(R::PATH).list(&params).map_err(kube::Error::BuildRequest)?;
        let page = tokio::time::timeout(ANSWER_TIME_MAX, client.request::<Page<R::Wire>>(request));
        let page = page.await.map_err(|_| Broken::Overdue)??;
        for object in page.items.into_iter().flatten() {
            store.apply(Event::InitApply(object));
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            store.apply(Event::InitDone);
            return Ok(page.metadata.resource_version.unwrap_or_default());
        }
    }
}

/// Watches from `version`, which it moves, until the watch ends as it should.
async fn watch<R: Record>(
    client: &Client,
    store: &Store<R>,
    version: &mut Option<String>,
) -> Result<(), Broken> {
    let started = Instant::now();
    let params = WatchParams::default().timeout(WATCH_SECONDS_MAX);
    let from = version.clone().unwrap_or_default();
    let request = Request::new(R::PATH).watch(&params, &from).map_err(kube::Error::BuildRequest)?;
    let events = tokio::time::timeout(ANSWER_TIME_MAX, client.request_events::<R::Wire>(request));
    let mut events = events.await.map_err(|_| Broken::Overdue)??.boxed();
    store.apply(Event::Alive);
    // A watch in silence is simply renewed: the next one says whether the API server is there.
    while let Ok(Some(event)) = tokio::time::timeout(SILENCE_MAX, events.next()).await {
        let event = match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                note(version, R::version(&object));
                Event::Apply(object)
            }
            WatchEvent::Deleted(object) => {
                note(version, R::version(&object));
                Event::Delete(object)
            }
            WatchEvent::Bookmark(bookmark) => {
                note(version, Some(&bookmark.metadata.resource_version));
                Event::Alive
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        };
        store.apply(event);
    }
    if started.elapsed() < WATCH_TIME_MIN { Err(Broken::Short) } else { Ok(()) }
}

fn note(version: &mut Option<String>, seen: Option<&str>) {
    if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
        *version = Some(seen.to_owned());
    }
}
