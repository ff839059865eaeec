//! S1, S2: all values before ready, and a change on localhost in milliseconds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::configured::{SERVICE, Sidecar, with_tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_everything_is_loaded() -> Result<()> {
    with_tenant(async |tenant| {
        for number in 1..=20 {
            tenant.write_unheard(&format!("key-{number}"), json!(number)).await?;
        }
        let pause = ["--enable-fault-points", "--fault-pause-after-subscribe", "700"];
        let mut sidecar = Sidecar::start(tenant.credentials_dir(), &pause)?;
        let mut refusals = 0;
        let loaded = loop {
            match sidecar.get("/v1/config").await {
                Ok((StatusCode::OK, body)) => break body,
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => {
                    refusals += 1;
                    let probe = reqwest::get(format!("{}/readyz", sidecar.pod_url)).await?;
                    // Between the two questions it may have become ready.
                    assert!(
                        probe.status() == StatusCode::SERVICE_UNAVAILABLE
                            || sidecar.get("/v1/config").await?.0 == StatusCode::OK
                    );
                }
                Ok((status, body)) => anyhow::bail!("{status}: {body}"),
                // It does not listen yet.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(refusals > 0, "the pause left time to see it unready");
        let configs = loaded["configs"].as_array().context("a list")?;
        let values = configs.iter().filter(|entry| entry["service"] == SERVICE).count();
        assert_eq!(values, 20);
        sidecar.ready().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_localhost_in_milliseconds() -> Result<()> {
    with_tenant(async |tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        let mut latencies = Vec::new();
        for number in 1..=50_u64 {
            let (change, seen) = tokio::join!(
                tenant.change("threshold", json!(number)),
                sidecar.reaches("threshold", number, Duration::from_secs(5))
            );
            latencies.push(seen?.saturating_duration_since(change?.at));
            assert_eq!(sidecar.value("threshold").await?, (json!(number), number));
        }
        latencies.sort_unstable();
        let median = latencies[latencies.len() / 2];
        eprintln!("commit to localhost: median {median:?}, slowest {:?}", latencies[latencies.len() - 1]);
        assert!(median < Duration::from_millis(100), "{latencies:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_subscription_and_load_is_not_lost() -> Result<()> {
    with_tenant(async |tenant| {
        tenant.write_unheard("threshold", json!(1)).await?;
        let pause = ["--enable-fault-points", "--fault-pause-after-subscribe", "2500"];
        let mut sidecar = Sidecar::start(tenant.credentials_dir(), &pause)?;
        let subscribed =
            |status: &Value| status["connections"]["redis"]["up"] == true && status["ready"] == false;
        let deadline = Instant::now() + Duration::from_secs(10);
        // Until it listens there is no answer.
        while !sidecar.status().await.is_ok_and(|status| subscribed(&status)) {
            assert!(Instant::now() < deadline, "never seen between subscription and load");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let change = tenant.change("threshold", json!(2)).await?;
        assert!(subscribed(&sidecar.status().await?), "the change came too late to show anything");
        sidecar.ready().await?;
        assert_eq!(sidecar.value("threshold").await?, (json!(2), change.version));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_changes_in_a_second_end_at_the_newest() -> Result<()> {
    with_tenant(async |tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        sidecar
            .hammered(async {
                let (mut last, mut announcing) = (0, FuturesUnordered::new());
                for number in 1..=500_u64 {
                    last = tenant.write_unheard("burst", json!(number)).await?.version;
                    // Announcements overtake one another.
                    announcing.push(tenant.announce("burst", last));
                }
                while let Some(announced) = announcing.next().await {
                    announced?;
                }
                sidecar.reaches("burst", last, Duration::from_secs(1)).await?;
                assert_eq!(sidecar.value("burst").await?, (json!(500), 500));
                Ok(())
            })
            .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_the_value_away_and_an_event_tells_it() -> Result<()> {
    with_tenant(async |tenant| {
        let sidecar = tenant.sidecar(&[]).await?;
        let mut events = reqwest::get(format!("{}/v1/events", sidecar.url)).await?.bytes_stream();
        let first = tenant.change("flag", json!(true)).await?;
        sidecar.reaches("flag", first.version, Duration::from_secs(5)).await?;
        let deletion = tenant.delete("flag").await?;
        let mut text = String::new();
        while !text.contains("\"deleted\":true") {
            let chunk = tokio::time::timeout(Duration::from_secs(5), events.next()).await?;
            text.push_str(std::str::from_utf8(&chunk.context("the stream ended")??)?);
        }
        let (status, body) = sidecar.get(&format!("/v1/config/{SERVICE}/flag")).await?;
        assert_eq!((status, body["version"].as_u64()), (StatusCode::NOT_FOUND, Some(deletion.version)));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_travels_through_redis() -> Result<()> {
    with_tenant(async |tenant| {
        let secret = "a-value-that-is-nowhere-else";
        let work = async {
            let sidecar = tenant.sidecar(&[]).await?;
            let change = tenant.change("secret", json!(secret)).await?;
            sidecar.reaches("secret", change.version, Duration::from_secs(5)).await?;
            // What MONITOR sends arrives after the fact.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(())
        };
        let (seen, ()) = tenant.monitored(work).await?;
        let organization = tenant.tenant.organization;
        assert!(seen.contains(&format!("config:{organization}:{SERVICE}:secret")), "{seen}");
        assert!(seen.contains("version=1") && !seen.contains(secret), "{seen}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_points_its_name_at_localhost_reads_nothing() -> Result<()> {
    with_tenant(async |tenant| {
        tenant.write_unheard("secret", json!("kept-from-strangers")).await?;
        let sidecar = tenant.sidecar(&[]).await?;
        let address = sidecar.url.trim_start_matches("http://");
        let requests = [
            "GET /v1/config HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(),
            "GET /v1/config HTTP/1.1\r\nHost: localhost.evil.example\r\nConnection: close\r\n\r\n".to_owned(),
            "GET http://evil.example/v1/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                .to_owned(),
            "GET /v1/config HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
                .to_owned(),
            "GET /v1/config HTTP/1.0\r\n\r\n".to_owned(),
        ];
        for request in requests {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "421"].contains(&status), "{request:?}: {answer}");
            assert!(!answer.contains("kept-from-strangers"), "{request:?}");
        }
        let pod = reqwest::get(format!("{}/v1/config", sidecar.pod_url)).await?;
        assert_eq!(pod.status(), StatusCode::NOT_FOUND);
        Ok(())
    })
    .await
}
