//! S3: what was missed is caught up on, and what nobody announced is found.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tests::configured::{Server, with_platform, with_tenant, without};

const LIMIT: Duration = Duration::from_secs(30);

fn hears(status: &Value) -> bool {
    status["connections"]["redis"]["up"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_changes_while_redis_is_stopped_are_there_a_second_after_the_reconnect() -> Result<()> {
    with_platform(async |platform, tenant| {
        // Nothing but the reconnect may bring the changes.
        let sidecar = tenant.sidecar(&["--deaf-poll", "10m"]).await?;
        let first = tenant.change("threshold", json!(0)).await?;
        sidecar.reaches("threshold", first.version, Duration::from_secs(5)).await?;
        sidecar
            .hammered(async {
                without(platform, Server::Redis, async {
                    sidecar.until("deaf", LIMIT, |status| !hears(status)).await?;
                    // The one read after the loss is past.
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    for number in 1..=10 {
                        tenant.write_unheard("threshold", json!(number)).await?;
                    }
                    assert_eq!(sidecar.value("threshold").await?, (json!(0), 1), "the last good value stays");
                    let status = sidecar.status().await?;
                    assert!(status["staleness_seconds"].as_f64() > Some(0.5), "{status}");
                    assert!(status["connections"]["redis"]["error"].is_string(), "{status}");
                    Ok(())
                })
                .await?;
                let reconnected = sidecar.until("subscribed again", Duration::from_secs(70), hears).await?;
                let caught_up = sidecar.reaches("threshold", 11, LIMIT).await?;
                let took = caught_up.saturating_duration_since(reconnected);
                assert!(took < Duration::from_secs(1), "{took:?}");
                assert_eq!(sidecar.value("threshold").await?.0, json!(10));
                sidecar.until("up to date", LIMIT, |status| status["staleness_seconds"] == 0.0).await?;
                Ok(())
            })
            .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_of_redis_is_over_within_a_second() -> Result<()> {
    with_platform(async |platform, tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        // A link that has stood for a while is tried again at once.
        tokio::time::sleep(Duration::from_secs(6)).await;
        without(platform, Server::Redis, async { Ok(()) }).await?;
        sidecar
            .until("subscribed again", Duration::from_secs(5), |status| {
                hears(status) && status["connections"]["redis"]["reconnects"].as_u64() > Some(0)
            })
            .await?;
        let change = tenant.change("threshold", json!(1)).await?;
        sidecar.reaches("threshold", change.version, Duration::from_secs(1)).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_a_new_subscription_and_its_read_is_not_lost() -> Result<()> {
    with_platform(async |platform, tenant| {
        let pause = ["--deaf-poll", "10m", "--enable-fault-points", "--fault-pause-after-subscribe", "2500"];
        let sidecar = tenant.sidecar(&pause).await?;
        without(platform, Server::Redis, async {
            sidecar.until("deaf", LIMIT, |status| !hears(status)).await?;
            tokio::time::sleep(Duration::from_millis(1500)).await;
            Ok(())
        })
        .await?;
        sidecar.until("subscribed again", Duration::from_secs(70), hears).await?;
        let change = tenant.write_unheard("threshold", json!(1)).await?;
        sidecar.reaches("threshold", change.version, Duration::from_secs(10)).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_changes_still_arrive_within_the_poll() -> Result<()> {
    with_platform(async |platform, tenant| {
        let sidecar = tenant.sidecar(&["--deaf-poll", "1s"]).await?;
        without(platform, Server::Redis, async {
            sidecar.until("deaf", LIMIT, |status| !hears(status)).await?;
            let change = tenant.write_unheard("threshold", json!(1)).await?;
            sidecar.reaches("threshold", change.version, Duration::from_secs(4)).await?;
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_announced_is_found_by_the_reconcile() -> Result<()> {
    with_platform(async |_, tenant| {
        let sidecar = tenant.sidecar(&["--reconcile-min", "1s", "--reconcile-max", "2s"]).await?;
        let change = tenant.write_unheard("threshold", json!(1)).await?;
        sidecar.reaches("threshold", change.version, Duration::from_secs(5)).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_comes_before_its_row_is_asked_for_again() -> Result<()> {
    with_platform(async |_, tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        let first = tenant.change("threshold", json!(1)).await?;
        sidecar.reaches("threshold", first.version, Duration::from_secs(5)).await?;
        tenant.announce("threshold", 2).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sidecar.value("threshold").await?, (json!(1), 1), "the last good value stays");
        let change = tenant.write_unheard("threshold", json!(2)).await?;
        let seen = sidecar.reaches("threshold", 2, Duration::from_secs(5)).await?;
        let took = seen.saturating_duration_since(change.at);
        assert!(took < Duration::from_secs(1), "{took:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_died_without_a_word_is_noticed_and_made_anew() -> Result<()> {
    with_tenant(async |tenant| {
        let proxy = tenant.through_proxy(Server::Redis).await?;
        let sidecar = tenant.sidecar(&["--heartbeat", "500ms", "--deaf-poll", "10m"]).await?;
        proxy.stall();
        let change = tenant.change("threshold", json!(1)).await?;
        let noticed = sidecar.until("deaf", Duration::from_secs(3), |status| !hears(status)).await?;
        // The read after the loss brings what was announced meanwhile.
        let seen = sidecar.reaches("threshold", change.version, Duration::from_secs(3)).await?;
        assert!(seen.saturating_duration_since(noticed) < Duration::from_secs(2));
        proxy.flow();
        sidecar.until("subscribed again", Duration::from_secs(70), hears).await?;
        let change = tenant.change("threshold", json!(2)).await?;
        sidecar.reaches("threshold", change.version, Duration::from_secs(1)).await?;
        Ok(())
    })
    .await
}
