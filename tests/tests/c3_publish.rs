//! C3: after the commit `version=N` on the key's channel, never a value; and nothing is lost when the way to Redis or the
//! program itself ends in between.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tests::Platform;
use tests::api::{Api, Organization, Process};
use tests::attacks::redis_client;
use tests::data::{Login, RedisLogin};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the outbox may take: rows are its own after a second, and it looks twice a second.
const OUTBOX_MAX: Duration = Duration::from_secs(10);
/// What only the request path can do: the outbox takes over later than that.
const AT_ONCE: Duration = Duration::from_millis(900);

/// An organization and its owner's email, and its removal whatever the test came to.
async fn with_organization<F: Future<Output = Result<()>>>(
    test: impl FnOnce(&'static Platform, String, Organization) -> F,
) -> Result<()> {
    let platform = Platform::shared().await?;
    let organization = Organization::create(platform.data()).await?;
    let result = async {
        let email = organization.member("owner").await?;
        test(platform, email, organization.clone()).await
    }
    .await;
    organization.remove().await?;
    result
}

/// A message, and when it came.
type Heard = (String, String, Instant);

/// Listens with the tenant's own user, as a sidecar does.
async fn listen(platform: &Platform, organization: &Organization) -> Result<mpsc::UnboundedReceiver<Heard>> {
    let client = redis_client(platform.data(), &organization.tenant.redis_url(platform.data()))?;
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.psubscribe(contract::channel::pattern(organization.tenant.organization)).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = subscriber.into_on_message();
        while let Some(message) = messages.next().await {
            let payload = message.get_payload().unwrap_or_default();
            if sender.send((message.get_channel_name().to_owned(), payload, Instant::now())).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The next message, which must be this one.
async fn next(
    heard: &mut mpsc::UnboundedReceiver<Heard>,
    channel: &str,
    version: u64,
    limit: Duration,
) -> Result<Instant> {
    let message = tokio::time::timeout(limit, heard.recv())
        .await
        .with_context(|| format!("no version={version} in {limit:?}"))?;
    let (told, payload, at) = message.context("the subscription ended")?;
    ensure!(
        (told.as_str(), payload.as_str()) == (channel, format!("version={version}").as_str()),
        "{told} {payload}"
    );
    Ok(at)
}

/// Waits until the organization has nothing left to announce.
async fn outbox_empty(platform: &Platform, organization: &Organization) -> Result<()> {
    let mut connection = PgConnection::connect_with(&platform.data().options(Login::Platform)?).await?;
    let deadline = Instant::now() + OUTBOX_MAX;
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM config_outbox WHERE org_id = $1")
            .bind(organization.tenant.organization.0)
            .fetch_one(&mut connection)
            .await?;
        if left == 0 {
            return Ok(connection.close().await?);
        }
        ensure!(Instant::now() < deadline, "{left} announcements stay in the outbox");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_announced_with_its_version_alone() -> Result<()> {
    with_organization(|platform, email, organization| async move {
        outbox_empty(platform, &organization).await?;
        let owner = Api::at(platform.provisioner_url())?.login(&email, None).await?;
        let mut heard = listen(platform, &organization).await?;
        let path = format!("{}/ai/threshold", organization.configs());
        let channel = format!("config:{}:ai:threshold", organization.id);
        owner.put(&path, json!({"value": 0.75})).await?.expect(201)?;
        next(&mut heard, &channel, 1, AT_ONCE).await?;
        owner.put(&path, json!({"value": 0.90})).await?.expect(200)?;
        next(&mut heard, &channel, 2, AT_ONCE).await?;
        owner.delete(&path).await?.expect(200)?;
        next(&mut heard, &channel, 3, AT_ONCE).await?;
        owner.post(&format!("{path}/rollback"), json!({"version": 1})).await?.expect(201)?;
        next(&mut heard, &channel, 4, AT_ONCE).await?;

        // What was refused is not announced; the next message is the next change.
        owner.put(&format!("{path}/schema"), json!({"type": "number"})).await?.expect(204)?;
        owner.put(&path, json!({"value": "text"})).await?.problem(422)?;
        owner.put(&path, json!({"value": 1})).await?.expect(200)?;
        next(&mut heard, &channel, 5, AT_ONCE).await?;
        outbox_empty(platform, &organization).await?;
        assert!(heard.try_recv().is_err(), "each change once");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_never_travel_through_redis() -> Result<()> {
    with_organization(|platform, email, organization| async move {
        let owner = Api::at(platform.provisioner_url())?.login(&email, None).await?;
        let observer = redis_client(platform.data(), &platform.data().redis_url(RedisLogin::Observer))?;
        let mut monitor = observer.get_async_monitor().await?.into_on_message::<String>();
        let mark = format!("secret-{}", uuid::Uuid::new_v4().simple());
        let (configs, hidden) =
            (organization.configs(), json!({"value": {"password": mark}, "reason": mark}));
        owner.put(&format!("{configs}/ai/a"), hidden.clone()).await?.expect(201)?;
        owner.put(&format!("{configs}/ai/a"), hidden).await?.expect(200)?;
        let changes: Vec<_> =
            (0..20).map(|n| json!({"service": "ai", "key": format!("b{n}"), "value": mark})).collect();
        owner.post(&format!("{configs}/batch"), json!({"changes": changes})).await?.expect(200)?;
        owner.delete(&format!("{configs}/ai/a?reason={mark}")).await?.expect(200)?;
        owner.post(&format!("{configs}/ai/a/rollback"), json!({"version": 1})).await?.expect(201)?;
        outbox_empty(platform, &organization).await?;

        let mut ours = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(500), monitor.next()).await {
            assert!(!line.contains(&mark), "a value in Redis: {line}");
            if line.contains(&organization.id) {
                ours.push(line);
            }
        }
        assert!(ours.len() >= 24, "the control: the announcements were seen, {}", ours.len());
        for line in ours {
            let words: Vec<&str> = line.split('"').collect();
            assert!(words[1].eq_ignore_ascii_case("PUBLISH"), "{line}");
            contract::channel::parse(words[3])?;
            contract::channel::decode_version(words[5].as_bytes())?;
        }
        Ok(())
    })
    .await
}

/// Between commit and announcement: a provisioner that cannot reach Redis answers, is killed, and another one announces.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_program_dies_after_the_commit() -> Result<()> {
    with_organization(|platform, email, organization| async move {
        outbox_empty(platform, &organization).await?;
        let mut heard = listen(platform, &organization).await?;
        let away = "rediss://publisher:x@127.0.0.1:1";
        let mut process = Process::start(platform, &[("REDIS_URL", away)]).await?;
        let owner = process.api.login(&email, None).await?;
        let path = format!("{}/ai/orphan", organization.configs());
        for version in 1..=5 {
            let asked = Instant::now();
            let answer = owner.put(&path, json!({"value": version})).await?;
            assert!(answer.status.is_success(), "{}", answer.text);
            assert!(asked.elapsed() < Duration::from_secs(2), "a write does not wait for Redis");
        }
        process.program.kill().await?;
        let channel = format!("config:{}:ai:orphan", organization.id);
        for version in 1..=5 {
            next(&mut heard, &channel, version, OUTBOX_MAX).await.context("in the order of the commits")?;
        }
        outbox_empty(platform, &organization).await
    })
    .await
}

/// A way to Redis that can be cut: TLS goes through it unread.
struct Way {
    address: SocketAddr,
    cut: CancellationToken,
}

impl Way {
    async fn open(address: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let (address, cut) = (listener.local_addr()?, CancellationToken::new());
        let ended = cut.clone();
        tokio::spawn(async move {
            while let Some(Ok((mut near, _))) = ended.run_until_cancelled(listener.accept()).await {
                let ended = ended.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(to).await else { return };
                    let copying = tokio::io::copy_bidirectional(&mut near, &mut far);
                    let _ = ended.run_until_cancelled(copying).await;
                });
            }
        });
        Ok(Self { address, cut })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_redis_is_found_again() -> Result<()> {
    with_organization(|platform, email, organization| async move {
        let redis: SocketAddr = platform.data().tenant_redis_address().parse()?;
        let way = Way::open("127.0.0.1:0".parse()?, redis).await?;
        let url = platform
            .data()
            .redis_url(RedisLogin::Publisher)
            .replace(&redis.to_string(), &way.address.to_string());
        let process = Process::start(platform, &[("REDIS_URL", &url)]).await?;
        let owner = process.api.login(&email, None).await?;
        outbox_empty(platform, &organization).await?;
        let mut heard = listen(platform, &organization).await?;
        let path = format!("{}/ai/x", organization.configs());
        let channel = format!("config:{}:ai:x", organization.id);
        let put = async |value: u64| {
            let answer = owner.put(&path, json!({"value": value})).await?;
            ensure!(answer.status.is_success(), "{}", answer.text);
            anyhow::Ok(Instant::now())
        };
        put(1).await?;
        next(&mut heard, &channel, 1, OUTBOX_MAX).await?;

        way.cut.cancel();
        for value in 2..=4 {
            let asked = Instant::now();
            put(value).await?;
            assert!(asked.elapsed() < Duration::from_secs(2), "a write does not wait for Redis");
        }
        for version in 2..=4 {
            next(&mut heard, &channel, version, OUTBOX_MAX).await?;
        }

        let _back = Way::open(way.address, redis).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        for value in 5.. {
            put(value).await?;
            let answered = Instant::now();
            let at = next(&mut heard, &channel, value, OUTBOX_MAX).await?;
            if at.saturating_duration_since(answered) < AT_ONCE / 3 {
                break;
            }
            ensure!(Instant::now() < deadline, "the connection does not come back");
        }
        outbox_empty(platform, &organization).await
    })
    .await
}
