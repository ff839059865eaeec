//! T1, T4: one call makes a tenant, and what the answer says is true the moment it arrives.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::{
    Api as KubeApi, Client,
    api::{DeleteParams, PostParams},
};
use provisioner::tenancy::Step;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tests::{
    Platform,
    api::{Answer, Api, Wanted},
    data::Login,
    tenants::{Remains, remains},
};
use tokio_util::sync::CancellationToken;

/// Tenants that are looked at in the moment of their answer.
const TENANTS: usize = 100;
/// Pods of the prober that come in: enough to see when, and far from the quota.
const ADMITTED_MAX: usize = 3;
/// How many are made at once: enough to hurry the controllers.
const TOGETHER: usize = 4;

async fn api() -> Result<(&'static Platform, Api)> {
    let platform = Platform::shared().await?;
    Ok((platform, Api::at(platform.provisioner_url())?))
}

/// A pod that no scheduler takes: admission alone is looked at.
fn pod(prefix: &str, resources: &Value) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "generateName": format!("{prefix}-") },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{ "name": "app", "image": "localhost/agent-ready/probe:local", "resources": resources }],
        },
    }))?)
}

async fn delete(client: &Client, namespace: &str) -> Result<()> {
    let namespaces: KubeApi<Namespace> = KubeApi::all(client.clone());
    namespaces.delete(namespace, &DeleteParams::background()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_makes_a_whole_tenant() -> Result<()> {
    let (platform, api) = api().await?;
    let wanted = Wanted::fresh("Whole");
    let answer = api.create(&wanted, None).await?.expect(201)?;
    let namespace = wanted.namespace()?;
    assert_eq!(answer.body["namespace"], json!(namespace));
    assert_eq!(answer.body["status"], "COMMITTED");
    let steps: Vec<&str> =
        answer.body["steps"].as_array().context("steps")?.iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(steps, Step::ALL.map(Step::name));
    assert!(answer.body["steps"].as_array().context("steps")?.iter().all(|step| step["state"] == "DONE"));

    let organization = answer.body["id"].as_str().context("an id")?.parse()?;
    let client = platform.client().await?;
    let mut database = PgConnection::connect_with(&platform.data().options(Login::Superuser)?).await?;
    let there = remains(&client, platform.data(), &mut database, organization).await?;
    assert_eq!(there, Remains::whole(&namespace));
    first_quota_is_of_the_commit(&mut database, organization).await?;
    pod_security_and_credentials(&client, &namespace).await?;

    let owner = api.login_owner(&wanted).await?;
    let read = owner.get(&format!("/api/organizations/{organization}")).await?.expect(200)?;
    assert_eq!(read.body["slug"], answer.body["slug"]);
    let listed = owner.get("/api/organizations?search=whole").await?.expect(200)?;
    assert_eq!(listed.body["organizations"].as_array().map(Vec::len), Some(1));
    api.get("/api/organizations").await?.expect(401)?;
    delete(&client, &namespace).await
}

/// The commit, the first quota and its mirror have one transaction's mark.
async fn first_quota_is_of_the_commit(
    database: &mut PgConnection,
    organization: contract::OrganizationId,
) -> Result<()> {
    let marks: Vec<(String, String)> = sqlx::query_as(
        "SELECT xmin::text, 'organization ' || status FROM organizations WHERE id = $1
         UNION ALL SELECT xmin::text, 'operation ' || state FROM operations WHERE org_id = $1
         UNION ALL SELECT xmin::text, 'change ' || cpu || ' ' || memory || ' ' || storage FROM quota_changes WHERE org_id = $1
         UNION ALL SELECT xmin::text, key || ' ' || (value #>> '{}') FROM service_configs WHERE org_id = $1 ORDER BY 2",
    )
    .bind(organization.0)
    .fetch_all(database)
    .await?;
    let rows: Vec<&str> = marks.iter().map(|(_, row)| row.as_str()).collect();
    let expected = [
        "change 10 20Gi 10Gi",
        "operation COMMITTED",
        "organization COMMITTED",
        "quota.cpu 10",
        "quota.memory 20Gi",
        "quota.storage 10Gi",
    ];
    assert_eq!(rows, expected);
    assert!(marks.iter().all(|(mark, _)| *mark == marks[0].0), "one transaction: {marks:?}");
    Ok(())
}

async fn pod_security_and_credentials(client: &Client, namespace: &str) -> Result<()> {
    let namespaces: KubeApi<Namespace> = KubeApi::all(client.clone());
    let labels = namespaces.get(namespace).await?.metadata.labels.unwrap_or_default();
    for (mode, level) in [("enforce", "baseline"), ("warn", "restricted"), ("audit", "restricted")] {
        assert_eq!(
            labels.get(&format!("{}{mode}", names::POD_SECURITY_PREFIX)).map(String::as_str),
            Some(level)
        );
    }
    let secrets: KubeApi<Secret> = KubeApi::namespaced(client.clone(), namespace);
    let data = secrets.get(names::SECRET_NAME).await?.data.unwrap_or_default();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ca.crt", "database-url", "organization", "redis-url"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_moment_the_answer_arrives_everything_is_enforced() -> Result<()> {
    let (platform, api) = api().await?;
    let client = platform.client().await?;
    let made: usize = stream::iter(0..TENANTS)
        .map(|_| ready_in_the_moment(&api, &client))
        .buffer_unordered(TOGETHER)
        .try_fold(0, async |made, ()| Ok(made + 1))
        .await?;
    assert_eq!(made, TENANTS);
    Ok(())
}

/// Makes a tenant while a prober hammers its namespace, and looks at once.
async fn ready_in_the_moment(api: &Api, client: &Client) -> Result<()> {
    let wanted = Wanted::fresh("Moment");
    let namespace = wanted.namespace()?;
    let stop = CancellationToken::new();
    let prober = tokio::spawn(hammer(client.clone(), namespace.clone(), stop.clone()));
    api.create(&wanted, None).await?.expect(201)?;

    let pods: KubeApi<Pod> = KubeApi::namespaced(client.clone(), &namespace);
    let over = pod("over", &json!({ "requests": { "cpu": "11" }, "limits": { "cpu": "11" } }))?;
    let refusal =
        pods.create(&PostParams::default(), &over).await.err().context("a pod over quota was admitted")?;
    ensure!(refusal.to_string().contains("exceeded quota"), "{namespace}: {refusal}");
    pods.create(&PostParams::default(), &pod("plain", &json!({}))?)
        .await
        .with_context(|| format!("{namespace}: plain"))?;

    stop.cancel();
    let admitted = prober.await??;
    let namespaces: KubeApi<Namespace> = KubeApi::all(client.clone());
    // Nothing changes the namespace after its label, and versions are one sequence for all objects.
    let opened: u64 =
        namespaces.get(&namespace).await?.metadata.resource_version.context("a version")?.parse()?;
    for (name, version) in admitted {
        ensure!(version > opened, "{namespace}: {name} came in at {version}, the gate opened at {opened}");
    }
    delete(client, &namespace).await
}

/// Creates pods as fast as it can; those that came in, with their versions.
async fn hammer(client: Client, namespace: String, stop: CancellationToken) -> Result<Vec<(String, u64)>> {
    let pods: KubeApi<Pod> = KubeApi::namespaced(client, &namespace);
    let probe = pod("probe", &json!({ "requests": { "cpu": "1m", "memory": "1Mi" } }))?;
    let mut admitted = Vec::new();
    while !stop.is_cancelled() && admitted.len() < ADMITTED_MAX {
        if let Ok(pod) = pods.create(&PostParams::default(), &probe).await {
            let version = pod.metadata.resource_version.context("a version")?.parse()?;
            admitted.push((pod.metadata.name.unwrap_or_default(), version));
        }
    }
    Ok(admitted)
}

fn problem(answer: &Answer, kind: &str) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    assert_eq!(answer.body["type"], json!(format!("urn:agent-ready:{kind}")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_fields_have_clear_rules() -> Result<()> {
    let (_, api) = api().await?;
    let with = |name: &str, email: &str, password: &str| Wanted {
        name: name.into(),
        email: email.into(),
        password: Some(password.into()),
    };
    let long = "x".repeat(201);
    for (wanted, field) in [
        (with("", "a@example.org", "correct horse"), "name"),
        (with("  ", "a@example.org", "correct horse"), "name"),
        (with("日本", "a@example.org", "correct horse"), "name"),
        (with("default", "a@example.org", "correct horse"), "name"),
        (with("kube-system", "a@example.org", "correct horse"), "name"),
        (with(&long, "a@example.org", "correct horse"), "name"),
        (with("fine", "nobody", "correct horse"), "owner_email"),
        (with("fine", "a@example.org", "short"), "password"),
    ] {
        let answer = api.create(&wanted, None).await?.expect(422)?;
        problem(&answer, "invalid-organization");
        assert_eq!(answer.body["errors"][0]["field"], field, "{wanted:?}");
    }
    let path = "/api/organizations";
    let post =
        |content_type: &'static str, body: String| api.send_raw(Method::POST, path, content_type, body);
    problem(&post("application/json", "{".into()).await?.expect(400)?, "invalid-json");
    problem(&post("text/plain", "{}".into()).await?.expect(415)?, "unsupported-content-type");
    problem(&api.post(path, json!({ "name": 1 })).await?.expect(422)?, "invalid-body");
    post("application/json", " ".repeat(20 << 10)).await?.expect(413)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_any_script_become_namespaces() -> Result<()> {
    let (platform, api) = api().await?;
    let client = Arc::new(platform.client().await?);
    let random = uuid::Uuid::new_v4().simple().to_string();
    let mark = &random[..8];
    for (name, slug) in [
        (format!("Müller & Söhne {mark}"), format!("muller-sohne-{mark}")),
        (format!("{mark} {}", "y".repeat(191)), format!("{mark}-{}", "y".repeat(31))),
    ] {
        let wanted = Wanted { name, ..Wanted::fresh("Script") };
        let answer = api.create(&wanted, None).await?.expect(201)?;
        assert_eq!(answer.body["slug"], json!(slug));
        assert_eq!(answer.body["name"], json!(wanted.name));
        delete(&client, &format!("org-{slug}")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_to_wait_is_told_where_to_look() -> Result<()> {
    let (platform, api) = api().await?;
    let wanted = Wanted::fresh("Later");
    let prefer = [("prefer", "respond-async")];
    let answer = api.send(Method::POST, "/api/organizations", &prefer, &wanted.body()).await?.expect(202)?;
    let location = answer.header("location").to_owned();
    let end = loop {
        let operation = api.get(&location).await?.expect(200)?.body;
        if operation["state"] != "RUNNING" {
            break operation;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(end["state"], "COMMITTED");
    let stranger = Wanted::fresh("Stranger");
    api.create(&stranger, None).await?.expect(201)?;
    api.login_owner(&stranger).await?.get(&location).await?.expect(404)?;
    api.login_owner(&wanted).await?.get(&location).await?.expect(200)?;
    let client = platform.client().await?;
    delete(&client, &wanted.namespace()?).await?;
    delete(&client, &stranger.namespace()?).await
}
