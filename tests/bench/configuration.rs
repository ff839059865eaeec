//! A configuration write, and its way to localhost in a pod.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contract::names::credentials;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api as KubeApi, Client};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tests::Platform;
use tests::api::{Api, Owned};
use tests::data::{Login, RedisLogin};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::process::{Process, free_port, mib};
use crate::report::{Aim, against, figure, ratio, section};
use crate::stats::Samples;

/// Changes measured each way, in turns.
const ROUNDS: u32 = 200;

/// Runs the section on writes.
pub async fn writes(platform: &Platform, provisioner: &Api) -> Result<()> {
    section("Configuration write: PUT .../configs/ai/threshold until the answer");
    let owner = Owned::create(provisioner, "bench").await?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(platform.data().options(Login::Service)?)
        .await?;
    let mut redis = publisher(platform).await?;
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 10 {
        let started = Instant::now();
        bare(&pool, &mut redis, &owner, round).await?;
        let floor = started.elapsed();
        let started = Instant::now();
        owner.put("ai", "threshold", &json!(f64::from(round) / 1000.0)).await?;
        let elapsed = started.elapsed();
        if round >= 10 {
            floors.push(floor);
            ours.push(elapsed);
        }
    }
    let (floors, ours) = (Samples::new(floors), Samples::new(ours));
    figure("bare SQL transaction plus PUBLISH (floor)", &floors);
    figure("PUT with token, history, outbox and PUBLISH", &ours);
    against("write against the floor, p50", ratio(ours.p50(), floors.p50()), Aim::AtMost(1.5));
    Ok(())
}

/// What any program would have to send for the same change: the organization, the value, the announcement.
async fn bare(
    pool: &PgPool,
    redis: &mut redis::aio::MultiplexedConnection,
    owner: &Owned,
    round: u32,
) -> Result<()> {
    let id: uuid::Uuid = owner.organization.parse()?;
    let mut transaction = pool.begin().await?;
    let set = "SELECT set_config('app.current_org', $1, true), set_config('app.actor', 'bench', true)";
    sqlx::query(set).bind(&owner.organization).execute(&mut *transaction).await?;
    let lock = "UPDATE organizations SET revision = revision + 1 WHERE id = $1 RETURNING epoch, revision";
    let (epoch, revision): (i64, i64) = sqlx::query_as(lock).bind(id).fetch_one(&mut *transaction).await?;
    let write = "INSERT INTO service_configs (org_id, service, key, value, version, epoch, revision, updated_by) \
                 VALUES ($1, 'bench', 'floor', $2, 1, $3, $4, 'bench') ON CONFLICT (org_id, service, key) DO UPDATE \
                 SET value = excluded.value, version = service_configs.version + 1, revision = excluded.revision, \
                 updated_at = clock_timestamp() RETURNING version";
    let query = sqlx::query_scalar(write).bind(id).bind(json!(round)).bind(epoch).bind(revision);
    let version: i64 = query.fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    let channel = format!("config:{}:bench:floor", owner.organization);
    redis::cmd("PUBLISH").arg(channel).arg(format!("version={version}")).query_async::<i64>(redis).await?;
    Ok(())
}

async fn publisher(platform: &Platform) -> Result<redis::aio::MultiplexedConnection> {
    let certificates =
        redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(platform.ca_file())?) };
    let url = platform.data().redis_url(RedisLogin::Publisher);
    Ok(redis::Client::build_with_tls(url, certificates)?.get_multiplexed_async_connection().await?)
}

/// Runs the section on the sidecar: from commit to localhost, and what it weighs.
pub async fn reloads(client: &Client, provisioner: &Api, folder: &Path) -> Result<()> {
    section("Sidecar: from the commit of a change to its value on localhost");
    let owner = Owned::create(provisioner, "bench").await?;
    let mut version = owner.put("ai", "threshold", &json!(0)).await?;
    write_credentials(client, &owner, folder).await?;

    let (listen, pod_listen) = (free_port()?, free_port()?);
    let binary = tests::workspace::binary("sidecar")?;
    let size = std::fs::metadata(&binary)?.len();
    let mut command = Command::new(&binary);
    command.arg("serve").arg("--credentials-dir").arg(folder);
    command.args(["--listen", &listen.to_string(), "--pod-listen", &pod_listen.to_string()]);
    let started = Instant::now();
    let process = Process::start(&mut command, &folder.join("sidecar.log"))?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    while !http
        .get(format!("http://{listen}/readyz"))
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(10), "the sidecar is not ready within 10 s");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ready = started.elapsed();

    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        let path = format!("http://{listen}/v1/config/ai/threshold?after_version={version}&wait=10s");
        let waiting = tokio::spawn(http.get(path).send());
        tokio::time::sleep(Duration::from_millis(10)).await;
        owner.put("ai", "threshold", &json!(round)).await?;
        let seen: Value = waiting.await??.error_for_status()?.json().await?;
        let now = OffsetDateTime::now_utc();
        let written =
            OffsetDateTime::parse(seen["updated_at"].as_str().context("a value has its time")?, &Rfc3339)?;
        version = seen["version"].as_u64().context("a value has its version")?;
        samples.push(Duration::try_from(now - written).unwrap_or_default());
    }
    let samples = Samples::new(samples);
    figure("the row's own time, just before its commit, until read", &samples);
    against("commit to localhost, p50, ms", samples.p50().as_secs_f64() * 1000.0, Aim::AtMost(10.0));
    figure("start to ready", format!("{ready:.1?}"));
    figure("resident memory", mib(process.resident()?));
    figure("program size", mib(size));
    let list = format!("/api/organizations/{}/configs", owner.organization);
    owner.api.get(&list).await?.expect(200).context("the tenant's configuration cannot be listed")?;
    Ok(())
}

/// The tenant's Secret as the pod's volume would show it.
async fn write_credentials(client: &Client, owner: &Owned, folder: &Path) -> Result<()> {
    let secrets: KubeApi<Secret> = KubeApi::namespaced(client.clone(), &owner.namespace);
    let secret = secrets.get(contract::names::SECRET_NAME).await?.data.unwrap_or_default();
    for key in [credentials::DATABASE_URL, credentials::REDIS_URL, credentials::CA, credentials::ORGANIZATION]
    {
        let value = secret.get(key).with_context(|| format!("the Secret has no {key}"))?;
        std::fs::write(folder.join(key), &value.0)?;
    }
    Ok(())
}
