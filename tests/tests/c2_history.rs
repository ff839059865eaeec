//! C2: who, when, old, new, why; a rollback is a new version, a deletion a tombstone; and a chain that shows any change
//! made behind our back.

use std::future::Future;

use anyhow::{Context as _, Result};
use provisioner::config::chain::{Broken, Entry, verify};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use sqlx::{Connection as _, PgConnection};
use tests::Platform;
use tests::api::{Api, Organization};
use tests::data::Login;
use time::OffsetDateTime;

/// An organization and its owner's session and email, and its removal whatever the test came to.
async fn with_owner<F: Future<Output = Result<()>>>(
    test: impl FnOnce(Api, String, Organization) -> F,
) -> Result<()> {
    let platform = Platform::shared().await?;
    let organization = Organization::create(platform.data()).await?;
    let api = Api::at(platform.provisioner_url())?;
    let result = async {
        let email = organization.member("owner").await?;
        test(api.login(&email, None).await?, email, organization.clone()).await
    }
    .await;
    organization.remove().await?;
    result
}

/// An entry as the API gives it; values as text, digit by digit.
#[derive(Deserialize)]
struct Told {
    seq: i64,
    service: String,
    key: String,
    version: i64,
    epoch: i64,
    revision: i64,
    // An absent value is none, a null one is a value: an Option would take both for none.
    #[serde(default, deserialize_with = "present")]
    old_value: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    new_value: Option<Box<RawValue>>,
    deleted: bool,
    changed_by: String,
    #[serde(with = "time::serde::rfc3339")]
    changed_at: OffsetDateTime,
    reason: Option<String>,
    prev_hash: String,
    hash: String,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Told>,
    next_cursor: Option<i64>,
}

/// The whole history through the API, oldest first.
async fn export(owner: &Api, organization: &Organization) -> Result<Vec<Entry>> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/organizations/{}/history?limit=10{cursor}", organization.id);
        let page: Page = serde_json::from_str(&owner.get(&path).await?.expect(200)?.text)?;
        entries.extend(page.items.into_iter().map(|told| Entry {
            organization: organization.tenant.organization.0,
            seq: told.seq,
            service: told.service,
            key: told.key,
            version: told.version,
            epoch: told.epoch,
            revision: told.revision,
            old_value: told.old_value.map(|value| value.get().to_owned()),
            new_value: told.new_value.map(|value| value.get().to_owned()),
            deleted: told.deleted,
            changed_by: told.changed_by,
            changed_at: told.changed_at,
            reason: told.reason,
            prev_hash: bytes(&told.prev_hash),
            hash: bytes(&told.hash),
        }));
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    entries.reverse();
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_says_who_when_old_new_and_why() -> Result<()> {
    with_owner(|owner, email, organization| async move {
        let path = format!("{}/ai/threshold", organization.configs());
        let before = OffsetDateTime::now_utc();
        owner.put(&path, json!({"value": 0.75, "reason": "start"})).await?.expect(201)?;
        owner.put(&path, json!({"value": 0.90, "reason": "tune"})).await?.expect(200)?;
        owner.delete(&format!("{path}?reason=not%20needed")).await?.expect(200)?;
        let back = owner
            .post(&format!("{path}/rollback"), json!({"version": 1, "reason": "needed"}))
            .await?
            .expect(201)?;
        assert_eq!((back.header("etag"), &back.json()["value"]), ("\"4\"", &json!(0.75)));

        let told = owner.get(&format!("{path}/history")).await?.expect(200)?.json();
        let items = told["items"].as_array().context("a list")?;
        let summary: Vec<_> = items
            .iter()
            .map(|item| {
                (
                    item["version"].as_i64(),
                    item["old_value"].as_f64(),
                    item["new_value"].as_f64(),
                    item["reason"].as_str(),
                )
            })
            .collect();
        assert_eq!(
            summary,
            [
                (Some(4), None, Some(0.75), Some("needed")),
                (Some(3), Some(0.9), None, Some("not needed")),
                (Some(2), Some(0.75), Some(0.9), Some("tune")),
                (Some(1), None, Some(0.75), Some("start")),
            ]
        );
        assert_eq!(items[1]["deleted"], true);
        for item in items {
            assert_eq!(item["changed_by"], email);
            let at = item["changed_at"].as_str().context("a moment")?;
            let at = OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339)?;
            assert!((at - before).abs() < time::Duration::seconds(30), "{at}");
        }
        owner.post(&format!("{path}/rollback"), json!({"version": 3})).await?.problem(409)?;
        owner.post(&format!("{path}/rollback"), json!({"version": 99})).await?.problem(404)?;
        owner
            .post(&format!("{}/ai/other/rollback", organization.configs()), json!({"version": 1}))
            .await?
            .problem(404)?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_by_time_and_actor() -> Result<()> {
    with_owner(|owner, email, organization| async move {
        let platform = Platform::shared().await?;
        let second = organization.member("developer").await?;
        let developer = Api::at(platform.provisioner_url())?.login(&second, None).await?;
        let path = format!("{}/ai/x", organization.configs());
        owner.put(&path, json!({"value": 1})).await?.expect(201)?;
        let middle = owner.get(&path).await?.json()["updated_at"].as_str().context("a moment")?.to_owned();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        developer.put(&path, json!({"value": 2})).await?.expect(200)?;

        let versions = async |query: &str| {
            let told = owner.get(&format!("{path}/history?{query}")).await?.expect(200)?.json();
            let items = told["items"].as_array().context("a list")?;
            anyhow::Ok(items.iter().filter_map(|item| item["version"].as_i64()).collect::<Vec<_>>())
        };
        assert_eq!(versions(&format!("actor={second}")).await?, [2]);
        assert_eq!(versions(&format!("actor={email}")).await?, [1]);
        assert_eq!(versions(&format!("to={middle}")).await?, [0i64; 0]);
        assert_eq!(versions(&format!("from={middle}")).await?, [2, 1]);
        assert_eq!(versions("from=2099-01-01").await?, [0i64; 0]);
        assert_eq!(versions("from=2020-01-01&to=2099-01-01").await?, [2, 1]);
        owner.get(&format!("{path}/history?from=yesterday")).await?.problem(400)?;
        owner.get(&format!("{path}/history?format=pdf")).await?.problem(400)?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_csv_is_whole_and_runs_nothing() -> Result<()> {
    with_owner(|owner, _, organization| async move {
        let configs = organization.configs();
        let formula = "=HYPERLINK(\"http://evil.example\",\"x\")";
        for round in 0..5 {
            let changes: Vec<_> = (0..100)
                .map(|number| json!({"service": "bulk", "key": format!("k{number}"), "value": round}))
                .collect();
            owner
                .post(&format!("{configs}/batch"), json!({"changes": changes, "reason": formula}))
                .await?
                .expect(200)?;
        }
        let answer = owner
            .get(&format!("/api/organizations/{}/history?format=csv", organization.id))
            .await?
            .expect(200)?;
        assert!(answer.header("content-type").starts_with("text/csv"));
        assert!(answer.header("content-disposition").starts_with("attachment"));
        let lines: Vec<&str> = answer.text.split_terminator("\r\n").collect();
        assert!(lines[0].starts_with("seq,changed_at,changed_by"));
        // One more than ours: the value the organization was made with.
        assert_eq!(lines.len(), 1 + 500 + 1, "all entries, over several pages");
        let numbers: Vec<i64> =
            lines[1..].iter().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] == pair[1] + 1),
            "newest first, none twice, none left out"
        );
        assert!(
            !answer.text.contains(",=") && !answer.text.contains(",\"="),
            "a cell would run as a formula"
        );
        assert!(answer.text.contains("\"'=HYPERLINK(\"\"http://evil.example\"\",\"\"x\"\")\""));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_verifies_from_an_export_and_shows_what_was_changed() -> Result<()> {
    with_owner(|owner, _, organization| async move {
        let configs = organization.configs();
        for (key, value) in [
            ("number", json!(0.90)),
            ("text", json!("ä \"quoted\" \\ \n\t\u{1}")),
            ("object", json!({"bb": 1, "a": [null, true], "": {}})),
            ("null", json!(null)),
            ("big", json!(1e20)),
        ] {
            let reason = "why? \"because\"\nä";
            owner
                .put(&format!("{configs}/types/{key}"), json!({"value": value, "reason": reason}))
                .await?
                .expect(201)?;
            owner.put(&format!("{configs}/types/{key}"), json!({"value": 1})).await?.expect(200)?;
        }
        owner.delete(&format!("{configs}/types/null")).await?.expect(200)?;

        let entries = export(&owner, &organization).await?;
        assert_eq!(entries.len(), 12);
        let head = verify(&entries).expect("the export verifies");
        assert_eq!(head, entries[11].hash);

        let platform = Platform::shared().await?;
        let mut superuser = PgConnection::connect_with(&platform.data().options(Login::Superuser)?).await?;
        let id = organization.tenant.organization.0;
        let broken = "SELECT config_history_verify($1)";
        assert_eq!(
            sqlx::query_scalar::<_, Option<i64>>(broken).bind(id).fetch_one(&mut superuser).await?,
            None
        );
        // As whoever gets round privileges and triggers.
        for (forgery, at) in [
            ("UPDATE config_history SET new_value = '7' WHERE org_id = $1 AND seq = 5", 5),
            ("UPDATE config_history SET changed_by = 'someone@else' WHERE org_id = $1 AND seq = 7", 7),
            ("UPDATE config_history SET reason = NULL WHERE org_id = $1 AND seq = 2", 2),
            ("DELETE FROM config_history WHERE org_id = $1 AND seq = 6", 7),
        ] {
            let mut transaction = superuser.begin().await?;
            sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *transaction).await?;
            assert_eq!(sqlx::query(forgery).bind(id).execute(&mut *transaction).await?.rows_affected(), 1);
            let found =
                sqlx::query_scalar::<_, Option<i64>>(broken).bind(id).fetch_one(&mut *transaction).await?;
            assert_eq!(found, Some(at), "{forgery}");
            transaction.rollback().await?;
        }
        let mut forged = entries;
        forged[4].new_value = Some("7".into());
        assert_eq!(verify(&forged), Err(Broken::Content { seq: 5 }));
        Ok(())
    })
    .await
}
