//! Redis: hears that something changed, never what.
//!
//! A loop of its own, because redis-rs's ConnectionManager gives up on subscribing again without a word: the
//! acknowledgement of every subscription is awaited, a PING on the same connection finds dead links, and it is tried
//! again without end.

mod connect;
pub mod inbox;
pub mod retry;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{OrganizationId, channel};
use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{inbox::Inbox, retry::Retry};
use crate::shared::Shared;

/// Longest time for connecting and for subscribing, each.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the feed needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the credentials are.
    pub credentials_dir: PathBuf,
    /// Time between two PINGs, and how long an answer may take.
    pub heartbeat: Duration,
}

impl From<&crate::settings::Serve> for Options {
    fn from(settings: &crate::settings::Serve) -> Self {
        Self { credentials_dir: settings.credentials_dir.clone(), heartbeat: settings.heartbeat }
    }
}

/// Why the feed is not, or no longer, heard. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The credentials cannot be read.
    #[error("credentials: {0}")]
    Credentials(#[from] crate::credentials::CredentialsError),
    /// The Redis URL cannot be understood. What is wrong is not said, as it might be the password.
    #[error("redis-url is not a Redis URL")]
    Url,
    /// TLS is asked for and there is nothing to verify the server with.
    #[error("ca.crt is missing, and Redis is only reached over verified TLS")]
    NoCa,
    /// The credentials were exchanged for those of another organization.
    #[error("the credentials are of another organization now: {0}")]
    Organization(OrganizationId),
    /// The server did not answer in time.
    #[error("no answer to {0} in time")]
    Deadline(&'static str),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// Anything that redis-rs reports.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

/// Follows the organization's channels until `stop`.
pub async fn follow(options: Options, inbox: Arc<Inbox>, shared: Arc<Shared>, stop: CancellationToken) {
    let listening = async {
        let mut retry = Retry::default();
        loop {
            let (error, lasted) = listen(&options, &inbox, &shared).await;
            let wait = retry.after(lasted, rand::random());
            let (wait_ms, lasted_s) = (wait.as_millis(), lasted.as_secs());
            tracing::warn!(%error, lasted_s, wait_ms, "changes are not heard");
            shared.health().feed.failed(error.to_string());
            inbox.deaf();
            sleep(wait).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = stop.cancelled() => {}
    }
}

/// One link, from connecting to its end: why it ended, and how long it stood.
async fn listen(options: &Options, inbox: &Inbox, shared: &Shared) -> (FeedError, Duration) {
    let (sink, stream) = match subscribe(options, shared.organization).await {
        Ok(link) => link,
        Err(error) => return (error, Duration::ZERO),
    };
    let since = Instant::now();
    shared.health().feed.connected(since);
    tracing::info!("subscribed");
    inbox.subscribed();
    let error = tokio::select! {
        error = hear(stream, inbox) => error,
        error = heartbeat(sink, options.heartbeat, shared) => error,
    };
    (error, since.elapsed())
}

/// Connects, and subscribes: the server's acknowledgement has arrived when this returns.
async fn subscribe(
    options: &Options,
    organization: OrganizationId,
) -> Result<(PubSubSink, PubSubStream), FeedError> {
    let connecting = connect::connect(&options.credentials_dir, organization);
    let connection = timeout(DEADLINE, connecting).await.map_err(|_| FeedError::Deadline("connecting"))??;
    let (mut sink, stream) = connection.split();
    let subscribing = sink.psubscribe(channel::pattern(organization));
    timeout(DEADLINE, subscribing).await.map_err(|_| FeedError::Deadline("PSUBSCRIBE"))??;
    Ok((sink, stream))
}

/// Puts announcements into the inbox, which never waits, so that Redis never has to buffer for us.
async fn hear(mut stream: PubSubStream, inbox: &Inbox) -> FeedError {
    while let Some(message) = stream.next().await {
        let name = channel::parse(message.get_channel_name());
        let version = channel::decode_version(message.get_payload_bytes());
        match (name, version) {
            (Ok((_, service, key)), Ok(version)) => inbox.told((service, key), version),
            (name, version) => {
                let reason = name.err().or(version.err()).map(|error| error.to_string());
                tracing::warn!(channel = message.get_channel_name(), reason, "not an announcement, ignored");
            }
        }
    }
    FeedError::Closed
}

/// PINGs on the subscribed connection: a dead link without a reset is silent otherwise.
async fn heartbeat(mut sink: PubSubSink, interval: Duration, shared: &Shared) -> FeedError {
    loop {
        sleep(interval.mul_f64(0.75 + rand::random::<f64>() / 4.0)).await;
        match timeout(interval, sink.ping::<redis::Value>()).await {
            Ok(Ok(_)) => shared.health().feed.succeeded(Instant::now()),
            Ok(Err(error)) => return error.into(),
            Err(_) => return FeedError::Deadline("PING"),
        }
    }
}
