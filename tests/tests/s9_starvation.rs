//! S6, S9: a tenant that takes all it can get does not keep another from its configuration.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::attacks::{Pair, starvation};
use tests::configured::{Configured, Sidecar, with_tenant};

/// How long a reload may take, connecting included.
const LIMIT: Duration = Duration::from_secs(2);

/// The limits are 5 s; the pooler and the watchdog look every second or so.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_floods_postgresql_and_redis_delays_no_reload_of_another() -> Result<()> {
    let services = tests::data::shared().await?;
    with_tenant(async |tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        let pair = Pair::create(&services).await?;
        let result = async {
            let mut reloads = Vec::new();
            let flood = async {
                let subscribers = starvation::Subscribers::open(&services, &pair.attacker).await?;
                let (read, opened) = starvation::greedy(&services, &pair).await?;
                anyhow::Ok((read, opened, subscribers.count()?))
            };
            let (read, opened, subscribed) = tokio::select! {
                flooded = flood => flooded?,
                failed = reload_for_ever(tenant, &sidecar, &mut reloads) => failed?,
            };
            ensure!(opened >= starvation::CONNECTIONS, "only {opened} connections to PostgreSQL");
            ensure!(subscribed >= starvation::CONNECTIONS, "only {subscribed} connections to Redis are left");
            Ok((read, reloads))
        }
        .await;
        pair.remove(&services).await?;
        let (read, reloads): (Duration, Vec<Duration>) = result?;
        let slowest = reloads.iter().max().copied().unwrap_or(Duration::MAX);
        println!("1,000 transactions and 1,000 subscriptions held by another tenant:");
        println!("slowest of {} reloads {slowest:?}, slowest login and read {read:?}", reloads.len());
        ensure!(reloads.len() >= 20, "too few reloads to say anything: {reloads:?}");
        ensure!(slowest <= LIMIT, "a reload took {slowest:?}");
        ensure!(read <= LIMIT, "a login and read took {read:?}");
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
        let change = tenant.write_unheard("threshold", json!(number)).await?;
        // The provisioner's outbox, too, announces until it has succeeded.
        while let Err(error) = tenant.announce("threshold", change.version).await {
            ensure!(change.at.elapsed() < 5 * LIMIT, "{error:#}");
        }
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
