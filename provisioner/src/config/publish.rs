//! Announcing changes on Redis: `version=N` on the key's channel, never a value.
//!
//! The request path announces at once over a connection that is there, and never waits for one to be made: while Redis is
//! away, changes stay in the outbox, and its worker brings the connection back.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use contract::{OrganizationId, channel};
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use uuid::Uuid;

/// How long an announcement may take before it is left to the outbox.
const ANNOUNCE_MAX: Duration = Duration::from_millis(250);
/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Most announcements that wait for their outbox row to be deleted; beyond it they are announced twice, which is harmless.
const SENT_MAX: usize = 10_000;

/// That a key has a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The organization.
    pub organization: Uuid,
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The version.
    pub version: i64,
    channel: String,
    payload: String,
}

impl Announcement {
    /// None if the names are not well formed, which no stored name is.
    pub fn new(organization: Uuid, service: &str, key: &str, version: i64) -> Option<Self> {
        let channel =
            channel::channel(OrganizationId(organization), &service.parse().ok()?, &key.parse().ok()?);
        let payload = channel::encode_version(u64::try_from(version).ok()?);
        Some(Self {
            organization,
            service: service.to_owned(),
            key: key.to_owned(),
            version,
            channel,
            payload,
        })
    }
}

/// The connection to Redis over which changes are announced.
#[derive(Debug)]
pub struct Publisher {
    client: redis::Client,
    link: Mutex<Option<(u64, MultiplexedConnection)>>,
    connections: AtomicU64,
    sent: Mutex<VecDeque<Announcement>>,
    /// Wakes the outbox's worker: the connection is gone, and changes are left.
    pub(super) wake: Notify,
}

impl Publisher {
    /// Knows where Redis is; connects later.
    pub fn new(url: &str, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let client = match ca_file {
            Some(path) if url.starts_with("rediss:") => {
                let root_cert = Some(std::fs::read(path).with_context(|| format!("CA {}", path.display()))?);
                redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })
            }
            _ => redis::Client::open(url),
        };
        Ok(Self {
            client: client.context("Redis URL of the publisher")?,
            link: Mutex::default(),
            connections: AtomicU64::default(),
            sent: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Announces changes that were committed; what fails stays in the outbox.
    pub async fn announce(&self, announcements: Vec<Announcement>) -> bool {
        if !self.publish(&announcements).await {
            self.wake.notify_one();
            return false;
        }
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() + announcements.len() <= SENT_MAX {
            sent.extend(announcements);
        }
        true
    }

    /// Publishes over the connection that is there, in one round trip.
    pub(super) async fn publish(&self, announcements: &[Announcement]) -> bool {
        let Some((number, mut link)) = self.link() else { return false };
        let mut pipeline = redis::pipe();
        for announcement in announcements {
            pipeline.cmd("PUBLISH").arg(&announcement.channel).arg(&announcement.payload).ignore();
        }
        let failure = match tokio::time::timeout(ANNOUNCE_MAX, pipeline.exec_async(&mut link)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", ANNOUNCE_MAX.as_millis()),
        };
        tracing::warn!(failure, "changes could not be announced; the outbox keeps them");
        self.cut(number);
        false
    }

    /// Whether there is a connection, made now if there was none.
    pub(super) async fn connect(&self) -> Result<(), String> {
        if self.link().is_some() {
            return Ok(());
        }
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANNOUNCE_MAX));
        let making = self.client.get_multiplexed_async_connection_with_config(&config);
        let link = tokio::time::timeout(CONNECT_MAX, making)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error| error.to_string())?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, link));
        Ok(())
    }

    /// Whether a connection is thought to be there.
    pub fn is_connected(&self) -> bool {
        self.link().is_some()
    }

    /// What was announced and whose outbox rows can go.
    pub(super) fn take_sent(&self) -> Vec<Announcement> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn link(&self) -> Option<(u64, MultiplexedConnection)> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up a connection, unless another has taken its place.
    fn cut(&self, number: u64) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.as_ref().is_some_and(|(present, _)| *present == number) {
            *link = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_carries_the_version_and_nothing_else() {
        let announcement = Announcement::new(Uuid::nil(), "ai", "threshold", 7).unwrap();
        assert_eq!(announcement.channel, "config:00000000-0000-0000-0000-000000000000:ai:threshold");
        assert_eq!(announcement.payload, "version=7");
        assert_eq!(Announcement::new(Uuid::nil(), "a:b", "c", 1), None);
        assert_eq!(Announcement::new(Uuid::nil(), "a", "b", -1), None);
    }

    #[tokio::test]
    async fn without_a_connection_the_outbox_keeps_the_change() {
        let publisher = Publisher::new("redis://127.0.0.1:1", None).unwrap();
        let started = std::time::Instant::now();
        assert!(!publisher.announce(vec![Announcement::new(Uuid::nil(), "a", "b", 1).unwrap()]).await);
        assert!(started.elapsed() < Duration::from_millis(50), "a write does not wait for a dead Redis");
        assert!(publisher.take_sent().is_empty());
        assert!(publisher.connect().await.is_err());
    }
}
