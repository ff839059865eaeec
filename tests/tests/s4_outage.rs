//! S4, S6: outages of PostgreSQL and changed credentials, without a restart and without a wrong answer.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::configured::{Configured, Server, Sidecar, with_platform, with_tenant, without};

const LIMIT: Duration = Duration::from_secs(90);

fn reads(status: &Value) -> bool {
    status["connections"]["postgresql"]["up"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_stopped_the_old_values_go_on_and_their_age_is_told() -> Result<()> {
    with_platform(async |platform, tenant| {
        let sidecar = tenant.sidecar(&["--reconcile-min", "1s", "--reconcile-max", "1s"]).await?;
        let change = tenant.change("threshold", json!(0.75)).await?;
        sidecar.reaches("threshold", change.version, Duration::from_secs(5)).await?;
        sidecar
            .hammered(async {
                without(platform, Server::Postgres, async {
                    sidecar.until("failing", LIMIT, |status| !reads(status)).await?;
                    let before = sidecar.status().await?["age_seconds"].as_f64().context("an age")?;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    assert_eq!(sidecar.value("threshold").await?, (json!(0.75), 1));
                    let status = sidecar.status().await?;
                    assert!(status["age_seconds"].as_f64() >= Some(before + 1.9), "{status}");
                    assert!(status["staleness_seconds"].as_f64() >= Some(1.9), "{status}");
                    let probe = reqwest::get(format!("{}/readyz", sidecar.pod_url)).await?;
                    assert_eq!(probe.status(), StatusCode::OK, "it stays ready");
                    let metrics = reqwest::get(format!("{}/metrics", sidecar.pod_url)).await?.text().await?;
                    assert!(metrics.contains("config_link_up{peer=\"postgresql\"} 0"), "{metrics}");
                    Ok(())
                })
                .await?;
                let change = written(tenant).await?;
                sidecar.reaches("threshold", change, LIMIT).await?;
                Ok(())
            })
            .await
    })
    .await
}

/// A change, as soon as the database takes one again.
async fn written(tenant: &Configured) -> Result<u64> {
    let mut last = None;
    for _ in 0..50 {
        match tenant.change("threshold", json!(0.9)).await {
            Ok(change) => return Ok(change.version),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(last.context("no attempt")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sidecar_waits_for_postgresql_and_is_ready_by_itself() -> Result<()> {
    with_platform(async |platform, tenant| {
        tenant.write_unheard("threshold", json!(1)).await?;
        let mut sidecar = without(platform, Server::Postgres, async {
            let sidecar = Sidecar::start(tenant.credentials_dir(), &[])?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(sidecar.get("/readyz").await?.0, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(sidecar.get("/healthz").await?.0, StatusCode::OK);
            Ok(sidecar)
        })
        .await?;
        sidecar.ready().await?;
        assert_eq!(sidecar.value("threshold").await?, (json!(1), 1));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_credentials_are_taken_up_without_a_restart() -> Result<()> {
    with_platform(async |_, tenant| {
        let mut sidecar = tenant.sidecar(&[]).await?;
        let slot = tenant.second_slot().await?;
        tenant.put_credentials(&slot.database_url, &slot.redis_url)?;
        tenant.end_first_slot().await?;
        sidecar
            .until("subscribed with the new credentials", LIMIT, |status| {
                status["connections"]["redis"]["reconnects"].as_u64() > Some(0)
                    && status["connections"]["redis"]["up"] == true
            })
            .await?;
        let change = tenant.change("threshold", json!(1)).await?;
        sidecar.reaches("threshold", change.version, LIMIT).await?;
        let log = sidecar.program().log();
        for secret in [&tenant.tenant.password, &slot.password] {
            assert!(!log.contains(secret.as_str()), "a password is in the log");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_no_longer_answers_is_given_up_and_reached_anew() -> Result<()> {
    with_tenant(async |tenant| {
        let proxy = tenant.through_proxy(Server::Postgres).await?;
        let sidecar = tenant.sidecar(&[]).await?;
        let first = tenant.change("threshold", json!(1)).await?;
        sidecar.reaches("threshold", first.version, Duration::from_secs(5)).await?;
        proxy.stall();
        let change = tenant.change("threshold", json!(2)).await?;
        sidecar.until("failing", Duration::from_secs(20), |status| !reads(status)).await?;
        assert_eq!(sidecar.value("threshold").await?, (json!(1), 1));
        assert!(sidecar.status().await?["staleness_seconds"].as_f64() > Some(1.0));
        proxy.flow();
        sidecar.reaches("threshold", change.version, LIMIT).await?;
        Ok(())
    })
    .await
}
