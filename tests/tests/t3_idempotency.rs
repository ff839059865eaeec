//! T3: asking twice does it once, and a name belongs to whoever had it first.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api as KubeApi,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tests::{
    Platform,
    api::{Answer, Api, Wanted},
    data::Login,
    tenants::{Remains, Rig, remains},
};
use uuid::Uuid;

/// Requests at once with one key.
const PARALLEL: usize = 20;

async fn setting() -> Result<(&'static Platform, Api, KubeApi<Namespace>)> {
    let platform = Platform::shared().await?;
    let namespaces = KubeApi::all(platform.client().await?);
    Ok((platform, Api::at(platform.provisioner_url())?, namespaces))
}

fn kind(answer: &Answer) -> String {
    answer.body["type"].as_str().unwrap_or_default().replace("urn:agent-ready:", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_organization() -> Result<()> {
    let (platform, api, namespaces) = setting().await?;
    let (wanted, key) = (Wanted::fresh("Once"), Uuid::new_v4().to_string());
    let answers = try_join_all((0..PARALLEL).map(|_| api.create(&wanted, Some(&key)))).await?;
    let mut made = BTreeSet::new();
    for answer in &answers {
        match answer.status.as_u16() {
            201 => _ = made.insert(answer.body["id"].to_string()),
            409 => {
                assert_eq!(kind(answer), "still-running");
                assert_ne!(answer.header("retry-after"), "");
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(made.len(), 1, "{answers:?}");

    let first = answers.iter().find(|answer| answer.status == 201).context("one was made")?;
    let again = api.create(&wanted, Some(&key)).await?.expect(201)?;
    assert_eq!(again.body, first.body, "the first answer again");
    let other = Wanted { name: format!("{} other", wanted.name), ..wanted.clone() };
    assert_eq!(kind(&api.create(&other, Some(&key)).await?.expect(422)?), "idempotency-key-reused");
    let other_password = Wanted { password: Some("another password".into()), ..wanted.clone() };
    assert_eq!(api.create(&other_password, Some(&key)).await?.expect(201)?.body, first.body);

    let namespace = wanted.namespace()?;
    let made = namespaces.list(&ListParams::default()).await?.items;
    let made = made
        .iter()
        .filter(|item| item.metadata.name.as_deref().is_some_and(|name| name.starts_with(&namespace)));
    assert_eq!(made.count(), 1);
    let mut database = PgConnection::connect_with(&platform.data().options(Login::Superuser)?).await?;
    let organization = first.body["id"].as_str().context("an id")?.parse()?;
    let there = remains(&platform.client().await?, platform.data(), &mut database, organization).await?;
    assert_eq!(there, Remains::whole(&namespace));
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM organizations WHERE owner_email = $1")
        .bind(&wanted.email)
        .fetch_one(&mut database)
        .await?;
    assert_eq!(rows, 1);
    namespaces.delete(&namespace, &DeleteParams::background()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_finds_the_organization_by_the_key() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    for patience in [10, 25, 50] {
        let (wanted, key) = (Wanted::fresh("Hasty"), Uuid::new_v4().to_string());
        let hasty =
            tokio::time::timeout(Duration::from_millis(patience), api.create(&wanted, Some(&key))).await;
        assert!(hasty.is_err(), "it was not to be there in {patience} ms");
        let made = loop {
            let answer = api.create(&wanted, Some(&key)).await?;
            if answer.status != 409 {
                break answer.expect(201)?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(made.body["status"], "COMMITTED");
        namespaces.delete(&wanted.namespace()?, &DeleteParams::background()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_may_ask_for_two_at_once() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let one = Wanted::fresh("One");
    let two = Wanted { email: one.email.clone(), ..Wanted::fresh("Two") };
    for answer in try_join_all([api.create(&one, None), api.create(&two, None)]).await? {
        answer.expect(201)?;
    }
    for wanted in [one, two] {
        namespaces.delete(&wanted.namespace()?, &DeleteParams::background()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_owner() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let key = Uuid::new_v4().to_string();
    for wanted in [Wanted::fresh("Mine"), Wanted::fresh("Yours")] {
        api.create(&wanted, Some(&key)).await?.expect(201)?;
        namespaces.delete(&wanted.namespace()?, &DeleteParams::background()).await?;
    }
    let long = "k".repeat(256);
    assert_eq!(
        kind(&api.create(&Wanted::fresh("Long"), Some(&long)).await?.expect(400)?),
        "invalid-idempotency-key"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_one_name_one_gets_it() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let one = Wanted::fresh("Name");
    let two = Wanted { name: one.name.to_uppercase(), ..Wanted::fresh("x") };
    let answers = try_join_all([api.create(&one, Some("one")), api.create(&two, Some("two"))]).await?;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{answers:?}");
    let (loser, key, lost) =
        if answers[0].status == 409 { (&one, "one", &answers[0]) } else { (&two, "two", &answers[1]) };
    assert_eq!(kind(lost), "name-taken");
    assert_eq!(api.create(loser, Some(key)).await?.expect(409)?.body, lost.body, "the first answer again");
    namespaces.delete(&one.namespace()?, &DeleteParams::background()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_somebody_else_stays_untouched() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let wanted = Wanted::fresh("Foreign");
    let name = wanted.namespace()?;
    let foreign: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": { "x": "y" } } }))?;
    let before = namespaces.create(&PostParams::default(), &foreign).await?;
    let answer = api.create(&wanted, None).await?.expect(409)?;
    assert_eq!(kind(&answer), "namespace-taken");
    let after = namespaces.get(&name).await?;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    namespaces.delete(&name, &DeleteParams::background()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_namespace_is_told_with_what_holds_it() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let wanted = Wanted::fresh("Ending");
    let name = wanted.namespace()?;
    let held: Namespace = serde_json::from_value(
        json!({ "metadata": { "name": name, "finalizers": ["tests.example.org/hold"] } }),
    )?;
    namespaces.create(&PostParams::default(), &held).await?;
    namespaces.delete(&name, &DeleteParams::background()).await?;
    let answer = api.create(&wanted, None).await?.expect(409)?;
    assert_eq!(kind(&answer), "namespace-terminating");
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("finalizers: tests.example.org/hold") || detail.contains("remaining"),
        "{detail}"
    );
    let free = Patch::Merge(json!({ "metadata": { "finalizers": Value::Null } }));
    namespaces.patch(&name, &PatchParams::default(), &free).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_owner_needs_their_password() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    let first = Wanted::fresh("First");
    api.create(&first, None).await?.expect(201)?;
    let second = Wanted { email: first.email.to_uppercase(), ..Wanted::fresh("Second") };
    let wrong = Wanted { password: Some("wrong horse".into()), ..second.clone() };
    assert_eq!(kind(&api.create(&wrong, None).await?.expect(403)?), "wrong-password");
    api.create(&second, None).await?.expect(201)?;
    for wanted in [first, second] {
        namespaces.delete(&wanted.namespace()?, &DeleteParams::background()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_first_creations_one_makes_the_owners_account() -> Result<()> {
    let (_, api, namespaces) = setting().await?;
    for _ in 0..5 {
        let first = Wanted::fresh("First");
        let second = Wanted {
            email: first.email.clone(),
            password: Some("wrong horse".into()),
            ..Wanted::fresh("Other")
        };
        let answers = tokio::join!(api.create(&first, None), api.create(&second, None));
        let (mut made, mut refused) = (Vec::new(), 0);
        for (wanted, answer) in [(first, answers.0?), (second, answers.1?)] {
            if answer.status == 201 {
                made.push(wanted);
            } else {
                assert_eq!(kind(&answer.expect(403)?), "wrong-password");
                refused += 1;
            }
        }
        assert_eq!((made.len(), refused), (1, 1), "a tenant belongs to who chose its owner's password");
        for wanted in made {
            api.login_owner(&wanted).await?;
            namespaces.delete(&wanted.namespace()?, &DeleteParams::background()).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_can_be_closed_invited_or_throttled() -> Result<()> {
    let rig = Rig::create().await?;
    let closed = rig.replica(&[("REGISTRATION", "closed")]).await?;
    assert_eq!(
        kind(&closed.api.create(&Wanted::fresh("Closed"), None).await?.expect(403)?),
        "registration-closed"
    );

    let invite = rig.replica(&[("REGISTRATION", "invite")]).await?;
    let code = rig.admin(&["invite"], &[]).await?;
    let mut body = Wanted::fresh("Invited").body();
    let uninvited = invite.api.post("/api/organizations", body.clone()).await?.expect(403)?;
    assert_eq!(kind(&uninvited), "invitation-invalid");
    body["invitation"] = json!(code.trim());
    invite.api.post("/api/organizations", body.clone()).await?.expect(201)?;
    let mut second = Wanted::fresh("Again").body();
    second["invitation"] = json!(code.trim());
    let used = invite.api.post("/api/organizations", second).await?.expect(403)?;
    assert_eq!(kind(&used), "invitation-invalid");

    let operator = Wanted { password: Some("operators password".into()), ..Wanted::fresh("Operator") };
    rig.admin(&["create", "--email", &operator.email], &[("ADMIN_PASSWORD", "operators password")]).await?;
    let listed = closed.api.login_owner(&operator).await?.get("/api/organizations").await?.expect(200)?;
    assert!(listed.body["organizations"].as_array().is_some_and(|all| !all.is_empty()), "{listed:?}");

    let limits = [("REGISTRATIONS_PER_EMAIL", "2"), ("REGISTRATION", "open")];
    let throttled = rig.replica(&limits).await?;
    let foreign = Wanted { name: "x".into(), ..Wanted::fresh("Many") };
    let mut last = None;
    for number in 0..8 {
        let wanted = Wanted { name: format!("Many {number} {}", Uuid::new_v4().simple()), ..foreign.clone() };
        let answer = throttled.api.create(&wanted, None).await?;
        if answer.status == 429 {
            last = Some(answer);
            break;
        }
    }
    let last = last.context("nothing was throttled")?;
    assert_eq!(kind(&last), "throttled");
    assert_ne!(last.header("retry-after"), "");
    drop((closed, invite, throttled));
    rig.remove().await
}
