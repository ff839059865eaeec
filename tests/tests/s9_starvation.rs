//! S6, S9: a tenant that takes all it can get does not keep another from its configuration.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::attacks::{Pair, TestTenant, starvation};
use tests::configured::{Configured, Sidecar, with_tenant};

/// How long a reload may take, connecting included.
const LIMIT: Duration = Duration::from_secs(2);

/// The limits are 5 s; the pooler and the watchdog look every second or so.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_hold_transactions_delay_nobody() {
    let services = tests::data::shared().await.unwrap();
    let pair = Pair::create(&services).await.unwrap();
    let result = starvation::greedy(&services, &pair).await;
    pair.remove(&services).await.unwrap();
    let (slowest, opened) = result.unwrap();
    assert!(opened >= starvation::CONNECTIONS, "the attack opened only {opened} connections");
    println!("1,000 connections held: the slowest reload of another tenant took {slowest:?}");
    assert!(slowest <= LIMIT, "a reload took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_postgresql_and_redis_does_not_delay_the_reload_of_anothers_sidecar() -> Result<()> {
    let services = tests::data::shared().await?;
    with_tenant(async |tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        let attacker = TestTenant::create(&services).await?;
        let result = async {
            let subscribers = starvation::Subscribers::open(&services, &attacker).await?;
            let mut reloads = Vec::new();
            let opened = tokio::select! {
                opened = starvation::attack(&services, &attacker) => opened?,
                failed = reload_for_ever(tenant, &sidecar, &mut reloads) => failed?,
            };
            ensure!(opened >= starvation::CONNECTIONS, "only {opened} connections to PostgreSQL");
            let subscribed = subscribers.count()?;
            ensure!(subscribed >= starvation::CONNECTIONS, "only {subscribed} connections to Redis are left");
            Ok(reloads)
        }
        .await;
        attacker.remove(&services).await?;
        let reloads: Vec<Duration> = result?;
        let slowest = reloads.iter().max().copied().unwrap_or(Duration::MAX);
        println!("{} reloads of another tenant under the flood, the slowest {slowest:?}", reloads.len());
        ensure!(reloads.len() >= 20, "too few reloads to say anything: {reloads:?}");
        ensure!(slowest <= LIMIT, "a reload took {slowest:?}");
        let redis = &sidecar.status().await?["connections"]["redis"];
        ensure!(redis["reconnects"] == 0, "the flood cost the sidecar its subscription: {redis}");
        Ok(())
    })
    .await
}

/// Changes a value again and again; how long each change took from its commit to the sidecar's localhost.
async fn reload_for_ever<T>(
    tenant: &Configured,
    sidecar: &Sidecar,
    reloads: &mut Vec<Duration>,
) -> Result<T> {
    for number in 1_u64.. {
        let change = tenant.change("threshold", json!(number)).await?;
        let seen = sidecar.reaches("threshold", change.version, 5 * LIMIT).await?;
        reloads.push(seen.saturating_duration_since(change.at));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("there is always another number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_without_limits_of_its_own_ends_all_the_same() {
    let services = tests::data::shared().await.unwrap();
    let pair = Pair::create(&services).await.unwrap();
    let result = starvation::endings(&services, &pair).await;
    pair.remove(&services).await.unwrap();
    let (idle, busy) = result.unwrap();
    assert!(idle < LONGEST_TRANSACTION, "an idle transaction lived {idle:?}");
    assert!(busy < LONGEST_TRANSACTION, "a busy transaction lived {busy:?}");
}
