//! Which namespaces' baselines were touched: watches that keep nothing but a number for each quota.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ListMeta, Request},
};
use runtime::backoff::Backoff;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{audit::event::hash, cluster::live::Heard, jitter::jitter};

/// A kind of object that the proof looks at.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    path: &'static str,
    /// Its status is written at every pod of its namespace, and only a part of it is part of the proof.
    noisy: bool,
}

/// The kinds that the proof looks at.
pub const KINDS: [Kind; 4] = [
    Kind { path: "/apis/networking.k8s.io/v1/networkpolicies", noisy: false },
    Kind { path: "/apis/rbac.authorization.k8s.io/v1/rolebindings", noisy: false },
    Kind { path: "/api/v1/limitranges", noisy: false },
    Kind { path: "/api/v1/resourcequotas", noisy: true },
];

impl Kind {
    fn plural(self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// The baseline of this namespace.
    One(Arc<str>),
    /// Anything: changes may have been missed.
    Perhaps,
}

/// How long the beginning of an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The API server ends a watch after this many seconds.
const WATCH_SECONDS_MAX: u32 = 200;
/// A watch that says nothing for this long is begun anew.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// A watch that ends sooner than this ended for a reason.
const WATCH_TIME_MIN: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Quotas whose number is kept; of more, every change counts.
const QUOTAS_MAX: usize = 50_000;

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ListMeta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    namespace: Arc<str>,
    name: Box<str>,
    resource_version: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Slim {
    metadata: Meta,
    spec: Option<Value>,
    status: Option<SlimStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SlimStatus {
    hard: Option<Value>,
}

/// Tells of every namespace whose objects of this kind change, and first of how new they are, for ever.
pub async fn follow(client: Client, kind: Kind, heard: Arc<Heard>, touched: mpsc::Sender<Touched>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut quotas: HashMap<u64, u64> = HashMap::new();
    let mut version = None;
    loop {
        let outcome = match &mut version {
            None => {
                quotas.clear();
                // That version is the whole cluster's, which the API server's cache of one kind may not reach for minutes.
                heard.forget(kind.plural());
                let now = latest(&client, kind).await;
                if now.is_ok() && touched.send(Touched::Perhaps).await.is_err() {
                    return;
                }
                now.map(|now| version = Some(now))
            }
            Some(from) => watch(&client, kind, from, &heard, &mut quotas, &touched).await,
        };
        match outcome {
            Ok(()) if touched.is_closed() => return,
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::warn!(path = kind.path, error, "the audit does not see changes of baselines");
                version = None;
                tokio::time::sleep(backoff.next(jitter())).await;
            }
        }
    }
}

/// The version as of now; the objects themselves are read by the proofs.
async fn latest(client: &Client, kind: Kind) -> Result<String, String> {
    let request =
        Request::new(kind.path).list(&ListParams::default().limit(1)).map_err(|error| error.to_string())?;
    let head = tokio::time::timeout(ANSWER_TIME_MAX, client.request::<Head>(request)).await;
    let head = head.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    Ok(head.metadata.resource_version.unwrap_or_default())
}

/// Watches from `version`, which it moves, until the watch ends as it should.
async fn watch(
    client: &Client,
    kind: Kind,
    version: &mut String,
    heard: &Heard,
    quotas: &mut HashMap<u64, u64>,
    touched: &mpsc::Sender<Touched>,
) -> Result<(), String> {
    let started = Instant::now();
    let params = WatchParams::default().timeout(WATCH_SECONDS_MAX);
    let request = Request::new(kind.path).watch(&params, version).map_err(|error| error.to_string())?;
    let events = tokio::time::timeout(ANSWER_TIME_MAX, client.request_events::<Slim>(request)).await;
    let events = events.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    let mut events = events.boxed();
    let mut note = |seen: Option<&str>| {
        if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
            seen.clone_into(version);
            heard.note(kind.plural(), seen);
        }
    };
    loop {
        // Bookmarks come every minute: who says nothing at all may be behind what was heard, and for ever.
        let event = tokio::time::timeout(SILENCE_MAX, events.next()).await;
        let Some(event) = event.map_err(|_| format!("no word within {SILENCE_MAX:?}"))? else { break };
        match event.map_err(|error| error.to_string())? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                note(object.metadata.resource_version.as_deref());
                if (!kind.noisy || matters(quotas, &object)) && !tell(touched, object).await {
                    return Ok(());
                }
            }
            WatchEvent::Deleted(object) => {
                note(object.metadata.resource_version.as_deref());
                quotas.remove(&key(&object));
                if !tell(touched, object).await {
                    return Ok(());
                }
            }
            WatchEvent::Bookmark(bookmark) => note(Some(&bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => return Err(status.message),
        }
    }
    if started.elapsed() < WATCH_TIME_MIN { Err("the watch ended at once".to_owned()) } else { Ok(()) }
}

async fn tell(touched: &mpsc::Sender<Touched>, object: Slim) -> bool {
    touched.send(Touched::One(object.metadata.namespace)).await.is_ok()
}

fn key(object: &Slim) -> u64 {
    hash(format!("{}/{}", object.metadata.namespace, object.metadata.name).as_bytes())
}

/// Whether the part of a quota that is proved differs from what was seen last.
fn matters(quotas: &mut HashMap<u64, u64>, object: &Slim) -> bool {
    let hard = object.status.as_ref().and_then(|status| status.hard.as_ref());
    let content = hash(serde_json::to_string(&(&object.spec, hard)).unwrap_or_default().as_bytes());
    let key = key(object);
    if quotas.len() >= QUOTAS_MAX && !quotas.contains_key(&key) {
        return true;
    }
    quotas.insert(key, content) != Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_of_a_quota_is_no_change_of_it() {
        let mut quotas = HashMap::new();
        let quota = |hard: &str, used: &str| -> Slim {
            let value = serde_json::json!({"metadata": {"namespace": "shop", "name": "q"}, "spec": {"hard": {"pods": hard}},
                "status": {"hard": {"pods": hard}, "used": {"pods": used}}});
            serde_json::from_value(value).unwrap()
        };
        assert!(matters(&mut quotas, &quota("5", "0")));
        assert!(!matters(&mut quotas, &quota("5", "1")));
        assert!(matters(&mut quotas, &quota("6", "1")));
        let mut unenforced = quota("6", "1");
        unenforced.status = None;
        assert!(matters(&mut quotas, &unenforced));
    }
}
