//! S6, S9: a tenant that takes all it can get does not keep another from its configuration.

use std::time::Duration;

use tests::attacks::{Pair, starvation};

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
async fn a_transaction_without_limits_of_its_own_ends_all_the_same() {
    let services = tests::data::shared().await.unwrap();
    let pair = Pair::create(&services).await.unwrap();
    let result = starvation::endings(&services, &pair).await;
    pair.remove(&services).await.unwrap();
    let (idle, busy) = result.unwrap();
    assert!(idle < LONGEST_TRANSACTION, "an idle transaction lived {idle:?}");
    assert!(busy < LONGEST_TRANSACTION, "a busy transaction lived {busy:?}");
}
