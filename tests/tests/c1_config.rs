//! C1: typed values with versions, optimistic concurrency, schemas, many changes in one transaction; and no tenant
//! reaches another's.

use std::collections::BTreeSet;
use std::future::Future;

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tests::Platform;
use tests::api::{Answer, Api, Organization};
use tests::data::Login;

/// An organization and its owner's session, and its removal whatever the test came to.
async fn with_owner<F: Future<Output = Result<()>>>(test: impl FnOnce(Api, Organization) -> F) -> Result<()> {
    let platform = Platform::shared().await?;
    let organization = Organization::create(platform.data()).await?;
    let api = Api::at(platform.provisioner_url())?;
    let result = async {
        let owner = api.login(&organization.member("owner").await?, None).await?;
        test(owner, organization.clone()).await
    }
    .await;
    organization.remove().await?;
    result
}

/// PUT with one more header.
async fn put_if(api: &Api, path: &str, header: (&str, &str), value: Value) -> Result<Answer> {
    api.send(Method::PUT, path, &[header], &json!({"value": value})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_json_type_comes_back_as_it_was_written() -> Result<()> {
    with_owner(|owner, organization| async move {
        let path = format!("{}/ai/value", organization.configs());
        let values = [
            "null",
            "true",
            "0.90",
            "-7",
            "12345678901234567890123",
            "\"text\"",
            "[1, \"a\", null]",
            "{\"a\": {\"b\": []}}",
        ];
        for (index, text) in values.into_iter().enumerate() {
            // As text: parsed and written again, a number may lose digits.
            let body = format!("{{\"value\":{text},\"reason\":\"try\"}}");
            let answer = owner.send_raw(Method::PUT, &path, "application/json", body).await?;
            let version = index + 1;
            let answer = answer.expect(if index == 0 { 201 } else { 200 })?;
            assert_eq!(answer.header("etag"), format!("\"{version}\""));
            let read = owner.get(&path).await?.expect(200)?;
            assert_eq!(read.header("etag"), format!("\"{version}\""));
            assert!(read.text.contains(&format!("\"value\":{text},")), "{text} came back as {}", read.text);
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_keep_writers_from_overwriting_each_other() -> Result<()> {
    with_owner(|owner, organization| async move {
        let path = format!("{}/ai/threshold", organization.configs());
        put_if(&owner, &path, ("if-match", "*"), json!(0)).await?.problem(412)?;
        put_if(&owner, &path, ("if-match", "\"1\""), json!(0)).await?.problem(412)?;
        put_if(&owner, &path, ("if-none-match", "*"), json!(0.75)).await?.expect(201)?;
        let exists = put_if(&owner, &path, ("if-none-match", "*"), json!(0)).await?.problem(412)?;
        assert_eq!(exists["current_version"], 1);
        put_if(&owner, &path, ("if-match", "\"1\""), json!(0.90)).await?.expect(200)?;
        put_if(&owner, &path, ("if-match", "\"1\""), json!(0)).await?.problem(412)?;
        put_if(&owner, &path, ("if-match", "W/\"2\""), json!(0)).await?.problem(412)?;
        put_if(&owner, &path, ("if-match", "2"), json!(0)).await?.problem(400)?;

        let same =
            owner.send(Method::GET, &path, &[("if-none-match", "\"2\"")], &Value::Null).await?.expect(304)?;
        assert_eq!((same.header("etag"), same.text.as_str()), ("\"2\"", ""));
        owner.send(Method::GET, &path, &[("if-none-match", "\"1\"")], &Value::Null).await?.expect(200)?;

        owner.send(Method::DELETE, &path, &[("if-match", "\"1\"")], &Value::Null).await?.problem(412)?;
        let gone = owner.delete(&format!("{path}?reason=over")).await?.expect(200)?;
        assert_eq!((gone.header("etag"), &gone.json()["deleted"]), ("\"3\"", &json!(true)));
        owner.get(&path).await?.problem(404)?;
        owner.delete(&path).await?.problem(404)?;
        let back = put_if(&owner, &path, ("if-none-match", "*"), json!(1)).await?.expect(201)?;
        assert_eq!(back.header("etag"), "\"4\"", "versions go on after a deletion");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_writers_with_one_etag_one_wins() -> Result<()> {
    with_owner(|owner, organization| async move {
        let path = format!("{}/ai/contended", organization.configs());
        owner.put(&path, json!({"value": "first"})).await?.expect(201)?;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..20 {
            let (owner, path) = (owner.clone(), path.clone());
            writers.spawn(async move { put_if(&owner, &path, ("if-match", "\"1\""), json!(writer)).await });
        }
        let mut statuses = Vec::new();
        while let Some(answer) = writers.join_next().await {
            statuses.push(answer??.status.as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200], vec![412; 19]].concat());

        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..40 {
            let (owner, path) = (owner.clone(), path.clone());
            writers.spawn(async move { owner.put(&path, json!({"value": writer})).await });
        }
        let mut versions = BTreeSet::new();
        while let Some(answer) = writers.join_next().await {
            versions.insert(answer??.expect(200)?.json()["version"].as_i64().context("a version")?);
        }
        assert_eq!(versions, (3..=42).collect(), "strictly increasing, none twice, none left out");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_guards_its_key() -> Result<()> {
    with_owner(|owner, organization| async move {
        let path = format!("{}/ai/limits", organization.configs());
        let schema = json!({
            "type": "object", "required": ["max"],
            "properties": {"max": {"type": "number", "maximum": 1}, "tags": {"items": {"type": "string"}}},
        });
        owner.put(&path, json!({"value": {"max": 5}})).await?.expect(201)?;
        let unfit = owner.put(&format!("{path}/schema"), schema.clone()).await?.problem(422)?;
        assert_eq!(unfit["violations"][0]["path"], "/max", "a value that is there must fit: {unfit}");
        owner.put(&path, json!({"value": {"max": 0.5}})).await?.expect(200)?;
        owner.put(&format!("{path}/schema"), schema.clone()).await?.expect(204)?;
        assert_eq!(owner.get(&format!("{path}/schema")).await?.expect(200)?.json(), schema);

        let bad = owner.put(&path, json!({"value": {"max": 2, "tags": ["a", 7]}})).await?.problem(422)?;
        let paths: BTreeSet<_> = bad["violations"]
            .as_array()
            .context("a list")?
            .iter()
            .filter_map(|one| one["path"].as_str())
            .collect();
        assert_eq!(paths, BTreeSet::from(["/max", "/tags/1"]));
        let back = json!({"version": 1, "reason": "back"});
        owner.post(&format!("{path}/rollback"), back).await?.problem(422)?;
        assert_eq!(owner.get(&path).await?.json()["version"], 2, "nothing was written");

        for refused in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#"}),
            json!({"type": "nonsense"}),
            json!({"title": "x".repeat(40_000)}),
            json!(["no", "schema"]),
        ] {
            owner.put(&format!("{path}/schema"), refused).await?.problem(422)?;
        }
        // Each fits its own limits, and together they would take seconds under the organization's lock.
        let many = json!({"allOf": vec![json!({"items": {"type": "number"}}); 1_000]});
        let large = format!("{}/ai/large", organization.configs());
        owner.put(&format!("{large}/schema"), many).await?.expect(204)?;
        owner.put(&large, json!({"value": vec![0; 100]})).await?.expect(201)?;
        let refused = owner.put(&large, json!({"value": vec![0; 30_000]})).await?.problem(422)?;
        assert_eq!(refused["type"], "urn:agent-ready:schema-and-value-too-large", "{refused}");

        owner.delete(&format!("{path}/schema")).await?.expect(204)?;
        owner.delete(&format!("{path}/schema")).await?.problem(404)?;
        owner.put(&path, json!({"value": "anything"})).await?.expect(200)?;
        Ok(())
    })
    .await
}

/// A schema and a value that it refuses, sent at once: one of the two is refused, whichever comes second.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_and_a_schema_do_not_slip_past_each_other() -> Result<()> {
    with_owner(|owner, organization| async move {
        let (mut value_won, mut schema_won) = (0, 0);
        for round in 0..30 {
            let path = format!("{}/race/k{round}", organization.configs());
            owner.put(&path, json!({"value": 1})).await?.expect(201)?;
            let schema = format!("{path}/schema");
            let (value, schema) = tokio::join!(
                owner.put(&path, json!({"value": "text"})),
                owner.put(&schema, json!({"type": "number"}))
            );
            match (value?.status.as_u16(), schema?.status.as_u16()) {
                (200, 422) => value_won += 1,
                (422, 204) => schema_won += 1,
                both => anyhow::bail!("value and schema: {both:?}"),
            }
        }
        assert_eq!(value_won + schema_won, 30);
        Ok(())
    })
    .await
}

/// sqlx's `begin()` is not cancel-safe: requests that are given up must leave no transaction behind, nor an organization set
/// in one.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_take_nothing_with_them() -> Result<()> {
    with_owner(|owner, organization| async move {
        let platform = Platform::shared().await?;
        let path = format!("{}/ai/left", organization.configs());
        // On a slow machine no write of those who leave need get through: the rollbacks have a version to go to.
        owner.put(&path, json!({"value": "at first"})).await?.expect(201)?;
        let mut leaving = tokio::task::JoinSet::new();
        for number in 0..300_u64 {
            let (owner, path) = (owner.clone(), path.clone());
            leaving.spawn(async move {
                let asked = async {
                    match number % 3 {
                        0 => owner.get(&path).await,
                        1 => owner.put(&path, json!({"value": number})).await,
                        _ => owner.post(&format!("{path}/rollback"), json!({"version": 1})).await,
                    }
                };
                let patience = std::time::Duration::from_micros(500 * (number % 60));
                let _ = tokio::time::timeout(patience, asked).await;
            });
        }
        while leaving.join_next().await.is_some() {}
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let mut superuser = PgConnection::connect_with(&platform.data().options(Login::Superuser)?).await?;
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ready_service'
             AND state LIKE 'idle in transaction%' AND state_change < now() - interval '500 ms'",
        )
        .fetch_one(&mut superuser)
        .await?;
        assert_eq!(open, 0, "transactions that nobody ends");
        let last = owner.put(&path, json!({"value": "still here"})).await?.expect(200)?.json();
        let broken: Option<i64> = sqlx::query_scalar("SELECT config_history_verify($1)")
            .bind(organization.tenant.organization.0)
            .fetch_one(&mut superuser)
            .await?;
        assert_eq!(broken, None);
        let recorded: i64 =
            sqlx::query_scalar("SELECT count(*) FROM config_history WHERE org_id = $1 AND key = 'left'")
                .bind(organization.tenant.organization.0)
                .fetch_one(&mut superuser)
                .await?;
        assert_eq!(last["version"].as_i64(), Some(recorded), "each version is recorded");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_all_or_nothing() -> Result<()> {
    with_owner(|owner, organization| async move {
        let (batch, configs) = (format!("{}/batch", organization.configs()), organization.configs());
        let changes: Vec<_> = (0..50)
            .map(|number| json!({"service": "bulk", "key": format!("k{number:02}"), "value": number}))
            .collect();
        let done =
            owner.post(&batch, json!({"changes": changes, "reason": "start"})).await?.expect(200)?.json();
        let revisions: Vec<_> = done["changes"]
            .as_array()
            .context("a list")?
            .iter()
            .filter_map(|one| one["revision"].as_i64())
            .collect();
        assert_eq!(revisions.len(), 50);
        assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "in the order they were sent");

        let set = |key: &str, value: i64| json!({"service": "bulk", "key": key, "value": value});
        let failing = [
            (json!({"service": "bulk", "key": "k01", "value": 1, "if_version": 9}), 412),
            (json!({"service": "bulk", "key": "absent", "delete": true}), 404),
            (json!({"service": "platform", "key": "quota", "value": 1}), 403),
            (json!({"service": "bulk", "key": "k00", "value": 2}), 422),
            (json!({"service": "bulk", "key": "k03"}), 422),
            (json!({"service": "bulk", "key": "k04", "value": 1, "delete": true}), 422),
            (json!({"service": "bulk", "key": "k05", "value": "x".repeat(70_000)}), 422),
        ];
        for (change, status) in failing {
            let refused =
                owner.post(&batch, json!({"changes": [set("k00", -1), change]})).await?.problem(status)?;
            assert_eq!(refused["change"], 1, "{refused}");
        }
        owner.post(&batch, json!({"changes": []})).await?.problem(422)?;
        let history =
            owner.get(&format!("/api/organizations/{}/history?limit=1", organization.id)).await?.json();
        let newest = done["changes"][49]["revision"].as_i64();
        assert_eq!(history["items"][0]["revision"].as_i64(), newest, "no failed batch left a trace");

        let mixed = json!({"changes": [
            {"service": "bulk", "key": "k00", "delete": true},
            {"service": "bulk", "key": "k01", "value": null, "if_version": 1},
            {"service": "bulk", "key": "new", "value": {"a": 1}, "if_version": 0},
        ]});
        owner.post(&batch, mixed).await?.expect(200)?;
        owner.get(&format!("{configs}/bulk/k00")).await?.problem(404)?;
        assert!(
            owner.get(&format!("{configs}/bulk/k01")).await?.expect(200)?.text.contains("\"value\":null")
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_by_service() -> Result<()> {
    with_owner(|owner, organization| async move {
        let configs = organization.configs();
        let changes: Vec<_> = (0..7)
            .flat_map(|number| {
                ["a", "b"].map(|service| json!({"service": service, "key": format!("k{number}"), "value": 1}))
            })
            .collect();
        owner.post(&format!("{configs}/batch"), json!({"changes": changes})).await?.expect(200)?;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = owner.get(&format!("{configs}?service=b&limit=3{cursor}")).await?.expect(200)?.json();
            let items = page["items"].as_array().context("a list")?.clone();
            assert!(items.len() <= 3 && items.iter().all(|item| item["service"] == "b"));
            seen.extend(items.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, (0..7).map(|number| format!("k{number}")).collect::<Vec<_>>());
        owner.get(&format!("{configs}?cursor=rubbish")).await?.problem(400)?;
        owner.get(&format!("{configs}?limit=0")).await?.problem(400)?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_value_is_refused() -> Result<()> {
    with_owner(|owner, organization| async move {
        let path = format!("{}/ai/value", organization.configs());
        let nested = (0..80).fold(json!(1), |inner, _| json!([inner]));
        for bad in [json!("x".repeat(64 * 1024)), json!("a\u{0}b"), nested] {
            owner.put(&path, json!({"value": bad})).await?.problem(422)?;
        }
        // PostgreSQL would write all digits: 54 KB become 98 MB.
        let bomb = format!("{{\"value\": [{}1]}}", "1e-16383,".repeat(6_000));
        let refused = owner.send_raw(Method::PUT, &path, "application/json", bomb).await?.problem(422)?;
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("64 digits")), "{refused}");
        let batch = json!({"changes": [{"service": "ai", "key": "value", "value": {"a": [1e-300]}}]});
        owner.post(&format!("{}/batch", organization.configs()), batch).await?.problem(422)?;
        owner.put(&format!("{path}/schema"), json!({"enum": [1e300]})).await?.problem(422)?;
        owner.put(&path, json!({"reason": "no value"})).await?.problem(422)?;
        owner.put(&path, json!({"value": 1, "valeu": 2})).await?.problem(422)?;
        owner.put(&path, json!({"value": 1, "reason": "x".repeat(501)})).await?.problem(422)?;
        for name in ["Ai/x", "ai/a:b", "ai/a*", "1ai/x", "ai/.x", "ai/%00"] {
            owner
                .put(&format!("{}/{name}", organization.configs()), json!({"value": 1}))
                .await?
                .problem(400)?;
        }
        let reserved = format!("{}/platform/quota.cpu", organization.configs());
        owner.put(&reserved, json!({"value": "100"})).await?.problem(403)?;
        owner.put(&format!("{reserved}/schema"), json!({})).await?.problem(403)?;
        owner.put(&path, json!({"value": "x".repeat(64 * 1024 - 2)})).await?.expect(201)?;
        Ok(())
    })
    .await
}

/// Every route, with a token of another organization, with one that is too weak, and with none.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_reaches_another_organization() -> Result<()> {
    with_owner(|owner, organization| async move {
        let platform = Platform::shared().await?;
        let api = Api::at(platform.provisioner_url())?;
        let viewer = api.login(&organization.member("viewer").await?, None).await?;
        let stranger_home = Organization::create(platform.data()).await?;
        let stranger = api.login(&stranger_home.member("owner").await?, None).await?;
        let (configs, base) = (organization.configs(), format!("/api/organizations/{}", organization.id));
        owner.put(&format!("{configs}/ai/secret"), json!({"value": "only ours"})).await?.expect(201)?;
        let routes = [
            (Method::GET, configs.clone(), Value::Null, false),
            (Method::GET, format!("{configs}/ai/secret"), Value::Null, false),
            (Method::GET, format!("{configs}/ai/secret/schema"), Value::Null, false),
            (Method::GET, format!("{configs}/ai/secret/history"), Value::Null, true),
            (Method::GET, format!("{base}/history"), Value::Null, true),
            (Method::GET, format!("{base}/history?format=csv"), Value::Null, true),
            (Method::PUT, format!("{configs}/ai/secret"), json!({"value": "theirs"}), true),
            (Method::DELETE, format!("{configs}/ai/secret"), Value::Null, true),
            (Method::POST, format!("{configs}/ai/secret/rollback"), json!({"version": 1}), true),
            (Method::PUT, format!("{configs}/ai/secret/schema"), json!({}), true),
            (Method::DELETE, format!("{configs}/ai/secret/schema"), Value::Null, true),
            (
                Method::POST,
                format!("{configs}/batch"),
                json!({"changes": [{"service": "ai", "key": "secret", "delete": true}]}),
                true,
            ),
        ];
        let nowhere = uuid::Uuid::new_v4().to_string();
        let result = async {
            for (method, path, body, needs_more_than_viewing) in routes {
                let theirs = stranger.send(method.clone(), &path, &[], &body).await?.problem(404)?;
                let absent = path.replace(&organization.id, &nowhere);
                let none = stranger.send(method.clone(), &absent, &[], &body).await?.problem(404)?;
                assert_eq!(theirs, none, "another organization looks like none: {method} {path}");
                api.send(method.clone(), &path, &[], &body).await?.problem(401)?;
                if needs_more_than_viewing {
                    viewer.send(method.clone(), &path, &[], &body).await?.problem(403)?;
                }
            }
            let kept = owner.get(&format!("{configs}/ai/secret")).await?.expect(200)?.json();
            assert_eq!((&kept["value"], &kept["version"]), (&json!("only ours"), &json!(1)));
            // Where the stranger may write, the same names are another value.
            stranger
                .put(&format!("{}/ai/secret", stranger_home.configs()), json!({"value": "own"}))
                .await?
                .expect(201)?;
            assert_eq!(owner.get(&format!("{configs}/ai/secret")).await?.json()["value"], "only ours");
            Ok(())
        }
        .await;
        stranger_home.remove().await?;
        result
    })
    .await
}
