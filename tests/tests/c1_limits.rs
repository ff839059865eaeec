//! C1: how much configuration one organization may have, and how much of it one answer carries.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tests::Platform;
use tests::api::{Api, Organization, Process};
use tests::data::Login;

/// An organization, and its owner's session with a provisioner that has these settings.
async fn limited(keys: usize, bytes: usize) -> Result<(Organization, Api, Process)> {
    let platform = Platform::shared().await?;
    let organization = Organization::create(platform.data()).await?;
    let owner =
        Api::at(platform.provisioner_url())?.login(&organization.member("owner").await?, None).await?;
    let present = owner.get(&organization.configs()).await?.expect(200)?.body;
    let present = present["items"].as_array().context("a list")?.len();
    let (keys, bytes) = ((present + keys).to_string(), bytes.to_string());
    let process =
        Process::start(platform, &[("CONFIG_KEYS_MAX", &keys), ("CONFIG_BYTES_MAX", &bytes)]).await?;
    let owner = process.api.with_token(owner.token());
    Ok((organization, owner, process))
}

/// How many of the answers were made, and how many refused for want of room.
async fn race(writes: Vec<impl Future<Output = Result<tests::api::Answer>>>) -> Result<(usize, usize)> {
    let (mut made, mut full) = (0, 0);
    for answer in futures::future::try_join_all(writes).await? {
        if answer.status == 201 {
            made += 1;
        } else {
            let problem = answer.problem(409)?;
            assert_eq!(problem["type"], "urn:agent-ready:configuration-full", "{problem}");
            full += 1;
        }
    }
    Ok((made, full))
}

/// What the organization is said to have is what its rows add up to.
async fn is_counted_right(organization: &Organization) -> Result<()> {
    let options = Platform::shared().await?.data().options(Login::Superuser)?;
    let mut superuser = sqlx::PgConnection::connect_with(&options).await?;
    let query = "SELECT o.config_keys, o.config_bytes, count(*) FILTER (WHERE NOT c.deleted),
             sum(256 + octet_length(c.service) + octet_length(c.key) + coalesce(octet_length(c.value::text), 0))::bigint
         FROM organizations AS o JOIN service_configs AS c ON c.org_id = o.id WHERE o.id = $1::uuid GROUP BY o.id";
    let (keys, bytes, counted_keys, counted_bytes): (i64, i64, i64, i64) =
        sqlx::query_as(query).bind(&organization.id).fetch_one(&mut superuser).await?;
    assert_eq!((keys, bytes), (counted_keys, counted_bytes));
    Ok(superuser.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_do_not_get_over_the_limit_of_keys() -> Result<()> {
    let (organization, owner, process) = limited(5, 4 << 20).await?;
    let configs = organization.configs();
    let paths: Vec<_> = (0..20).map(|number| format!("{configs}/room/k{number}")).collect();
    let writes = paths.iter().map(|path| owner.put(path, json!({"value": 1}))).collect();
    assert_eq!(race(writes).await?, (5, 15));

    let batch = json!({"changes": [{"service": "room", "key": "x", "value": 1}]});
    owner.post(&format!("{configs}/batch"), batch).await?.problem(409)?;
    let kept = owner.get(&format!("{configs}?service=room")).await?.expect(200)?.body;
    let kept = kept["items"].as_array().context("a list")?.clone();
    assert_eq!(kept.len(), 5, "what is refused leaves nothing behind");
    let one = format!("{configs}/room/{}", kept[0]["key"].as_str().context("a key")?);
    owner.put(&one, json!({"value": 2})).await?.expect(200)?;
    owner.delete(&one).await?.expect(200)?;
    owner.put(&format!("{configs}/room/x"), json!({"value": 1})).await?.expect(201)?;
    owner.post(&format!("{one}/rollback"), json!({"version": 1})).await?.problem(409)?;
    // All changes of a batch together have to have room, in whatever order they come.
    let instead = json!({"changes": [
        {"service": "room", "key": "y", "value": 1},
        {"service": "room", "key": "x", "delete": true},
        {"service": "room", "key": kept[1]["key"], "value": "longer than before"},
    ]});
    owner.post(&format!("{configs}/batch"), instead).await?.expect(200)?;
    let two = json!({"changes": [
        {"service": "room", "key": "y", "value": 1}, {"service": "room", "key": "z", "value": 1},
    ]});
    owner.post(&format!("{configs}/batch"), two).await?.problem(409)?;
    is_counted_right(&organization).await?;
    drop(process);
    organization.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_do_not_get_over_the_limit_of_bytes() -> Result<()> {
    let (organization, owner, process) = limited(100, 100_000).await?;
    let configs = organization.configs();
    let paths: Vec<_> = (0..10).map(|number| format!("{configs}/room/k{number}")).collect();
    let value = json!({"value": "x".repeat(30_000)});
    let writes = paths.iter().map(|path| owner.put(path, value.clone())).collect();
    assert_eq!(race(writes).await?, (3, 7));
    owner.put(&format!("{configs}/room/small"), json!({"value": 1})).await?.expect(201)?;
    is_counted_right(&organization).await?;
    drop(process);
    organization.remove().await
}

/// All items of a list, page by page, and how many pages it took.
async fn walk(owner: &Api, path: &str) -> Result<(Vec<Value>, usize)> {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let answer = owner.get(&format!("{path}?limit=200{cursor}")).await?.expect(200)?;
        assert!(answer.text.len() < 1_500_000, "a page of {} bytes", answer.text.len());
        items.extend(answer.body["items"].as_array().context("a list")?.clone());
        pages += 1;
        let next = &answer.body["next_cursor"];
        if next.is_null() {
            return Ok((items, pages));
        }
        cursor = format!("&cursor={}", next.as_str().map_or_else(|| next.to_string(), str::to_owned));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_end_early_where_values_are_long() -> Result<()> {
    let (organization, owner, process) = limited(100, 4 << 20).await?;
    let configs = organization.configs();
    for number in 0..40 {
        let value = json!({"value": "x".repeat(60_000)});
        owner.put(&format!("{configs}/long/k{number:02}"), value).await?.expect(201)?;
    }
    let (values, pages) = walk(&owner, &configs).await?;
    let keys: Vec<_> = values.iter().filter(|one| one["service"] == "long").map(|one| &one["key"]).collect();
    assert_eq!(
        keys,
        (0..40).map(|number| json!(format!("k{number:02}"))).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    assert!((3..=4).contains(&pages), "{pages} pages");

    let history = format!("/api/organizations/{}/history", organization.id);
    let (entries, pages) = walk(&owner, &history).await?;
    assert_eq!(entries.iter().filter(|entry| entry["service"] == "long").count(), 40);
    assert!((3..=4).contains(&pages), "{pages} pages");
    let csv = owner.get(&format!("{history}?format=csv")).await?.expect(200)?.text;
    assert_eq!(
        csv.lines().filter(|line| line.contains(",long,")).count(),
        40,
        "none is left out of a stream"
    );
    drop(process);
    organization.remove().await
}
