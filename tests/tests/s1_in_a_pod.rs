//! S1, S3, S4 as a pod's app sees them: through the API, the real sidecar and the pod's own localhost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use contract::channel;
use serde_json::{Value, json};
use tests::Platform;
use tests::attacks::redis_connection;
use tests::configured::{SERVICE, Server, restore, without};
use tests::data::RedisLogin;
use tests::pods::{Inhabited, pod, with_pods};
use tokio::sync::Mutex;

const LIMIT: Duration = Duration::from_secs(90);

fn hears(status: &Value) -> bool {
    status["connections"]["redis"]["up"] == true
}

fn reads(status: &Value) -> bool {
    status["connections"]["postgresql"]["up"] == true
}

/// One journey at a time, because they stop servers; whatever it came to, the platform is whole again after it.
async fn alone(test: impl AsyncFnOnce(&Platform, &Inhabited) -> Result<()>) -> Result<()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let platform = Platform::shared().await?;
    let result = with_pods(platform, async |tenant| {
        tenant.run(&pod("app", &["sleep"])).await?;
        test(platform, tenant).await
    })
    .await;
    for server in [Server::Redis, Server::Postgres] {
        restore(platform, server).await?;
    }
    result
}

/// A change through the API, as soon as the provisioner takes one again.
async fn put_eventually(tenant: &Inhabited, value: Value) -> Result<u64> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match tenant.put("threshold", value.clone()).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
            result => return result,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_the_api_is_read_in_the_pod_with_its_version() -> Result<()> {
    alone(async |_, tenant| {
        let first = tenant.put("threshold", json!(0.75)).await?;
        let forwarded = tenant.forward("app").await?;
        forwarded.view.reaches("threshold", first, LIMIT).await?;
        ensure!(tenant.value("app", "threshold").await? == (json!(0.75), first), "another value");
        let second = tenant.put("threshold", json!(0.9)).await?;
        let answered = Instant::now();
        ensure!(second > first, "{second} after {first}");
        let took = forwarded.view.reaches("threshold", second, LIMIT).await?.duration_since(answered);
        eprintln!("from the API's answer to the pod's localhost: {took:?}");
        ensure!(took < Duration::from_secs(1), "{took:?}");
        ensure!(tenant.value("app", "threshold").await? == (json!(0.9), second), "another value");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_changes_while_redis_is_stopped_are_in_the_pod_a_second_after_the_reconnect() -> Result<()> {
    alone(async |platform, tenant| {
        let first = tenant.put("threshold", json!(0)).await?;
        let forwarded = tenant.forward("app").await?;
        let view = &forwarded.view;
        view.reaches("threshold", first, LIMIT).await?;
        view.hammered(async {
            let newest = without(platform, Server::Redis, async {
                view.until("deaf", LIMIT, |status| !hears(status)).await?;
                let mut newest = first;
                for number in 1..=10 {
                    newest = tenant.put("threshold", json!(number)).await?;
                }
                Ok(newest)
            })
            .await?;
            ensure!(newest == first + 10, "ten changes from {first} to {newest}");
            let reconnected = view.until("subscribed again", LIMIT, hears).await?;
            let caught_up = view.reaches("threshold", newest, LIMIT).await?;
            let took = caught_up.saturating_duration_since(reconnected);
            eprintln!("from the reconnect to the newest of ten values: {took:?}");
            ensure!(took < Duration::from_secs(1), "{took:?}");
            ensure!(tenant.value("app", "threshold").await? == (json!(10), newest), "another value");
            // Changes are announced again.
            let next = tenant.put("threshold", json!(11)).await?;
            view.reaches("threshold", next, Duration::from_secs(5)).await?;
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_stopped_the_pod_keeps_its_values_and_is_told_their_age() -> Result<()> {
    alone(async |platform, tenant| {
        let first = tenant.put("threshold", json!(0.75)).await?;
        let forwarded = tenant.forward("app").await?;
        let view = &forwarded.view;
        view.reaches("threshold", first, LIMIT).await?;
        view.hammered(async {
            without(platform, Server::Postgres, async {
                // Without news the sidecar has no reason to ask.
                announce(platform, &view.status().await?, first + 1).await?;
                view.until("failing", LIMIT, |status| !reads(status)).await?;
                let age = async || {
                    let status = tenant.read("app", "/status").await?;
                    let seconds =
                        |name: &str| status[name].as_f64().with_context(|| format!("no {name}: {status}"));
                    anyhow::Ok((seconds("age_seconds")?, seconds("staleness_seconds")?))
                };
                let before = age().await?;
                tokio::time::sleep(Duration::from_secs(2)).await;
                let after = age().await?;
                ensure!(after.0 >= before.0 + 2.0 && after.1 >= before.1 + 2.0, "{before:?}, then {after:?}");
                ensure!(tenant.value("app", "threshold").await? == (json!(0.75), first), "another value");
                if let Ok(version) = tenant.put("threshold", json!(0.8)).await {
                    bail!("version {version} was written without a database");
                }
                Ok(())
            })
            .await?;
            let second = put_eventually(tenant, json!(0.9)).await?;
            view.reaches("threshold", second, LIMIT).await?;
            ensure!(tenant.value("app", "threshold").await? == (json!(0.9), second), "another value");
            view.until("up to date", LIMIT, |status| status["staleness_seconds"] == 0.0).await?;
            let app = tenant.pod("app").await?;
            for status in ["initContainerStatuses", "containerStatuses"] {
                ensure!(app["status"][status][0]["restartCount"] == 0, "restarted: {}", app["status"]);
            }
            Ok(())
        })
        .await
    })
    .await
}

/// Announces a version that nobody has written.
async fn announce(platform: &Platform, status: &Value, version: u64) -> Result<()> {
    let organization = status["organization"].as_str().context("an organization")?.parse()?;
    let channel = channel::channel(organization, &SERVICE.parse()?, &"threshold".parse()?);
    let services = platform.data();
    let mut publisher = redis_connection(services, &services.redis_url(RedisLogin::Publisher)).await?;
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel).arg(channel::encode_version(version));
    publish.query_async::<()>(&mut publisher).await.context("announce a version")
}
