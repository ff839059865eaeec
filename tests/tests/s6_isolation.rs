//! S6, D2: with a tenant's credentials, and with those of our own programs, nobody reaches another tenant's data.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::attacks::{
    self, Pair, catalogue, redis_client, redis_connection, redis_list, reply_to, service_list, tenant_list,
};
use tests::data::{DataServices, Login, RedisLogin};

/// The data services with the schema, two tenants on them, and the tenants' removal whatever the test came to.
async fn with_tenants<F: Future<Output = Result<()>>>(
    test: impl FnOnce(DataServices, Pair) -> F,
) -> Result<()> {
    let services = tests::data::shared().await?;
    let pair = Pair::create(&services).await?;
    let result = test(services.clone(), pair.clone()).await;
    pair.remove(&services).await?;
    result
}

/// Runs attacks, and fails unless the victim's data and the schema are as before.
async fn unharmed(
    services: &DataServices,
    pair: &Pair,
    attack: impl Future<Output = Result<Vec<String>>>,
) -> Result<()> {
    let mut superuser = PgConnection::connect_with(&services.options(Login::Superuser)?).await?;
    let before = attacks::fingerprint(&mut superuser, &pair.victim).await?;
    let mut defects = attack.await?;
    if attacks::fingerprint(&mut superuser, &pair.victim).await? != before {
        defects.push("the victim's data, the schema or a role is not what it was".to_owned());
    }
    assert!(defects.is_empty(), "{defects:#?}");
    Ok(())
}

async fn try_all(
    services: DataServices,
    pair: Pair,
    login: PgConnectOptions,
    list: Vec<attacks::Attack>,
) -> Result<()> {
    assert!(list.len() >= 40, "only {} attacks", list.len());
    unharmed(&services, &pair, attacks::run(&list, &login, &pair)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reaches_nothing_through_the_pooler() -> Result<()> {
    with_tenants(|services, pair| async move {
        let login = pair.attacker.options(&services, &services.tenant_database_address())?;
        try_all(services, pair, login, tenant_list::all()).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reaches_nothing_without_the_pooler() -> Result<()> {
    with_tenants(|services, pair| async move {
        let login = pair.attacker.options(&services, &services.direct_database_address())?;
        try_all(services, pair, login, tenant_list::all()).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_role_cannot_widen_itself() -> Result<()> {
    with_tenants(|services, pair| async move {
        let login = services.options(Login::Service)?;
        let list = [service_list::ESCALATIONS, service_list::COORDINATION].concat();
        try_all(services, pair, login, list).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_role_cannot_widen_itself() -> Result<()> {
    with_tenants(|services, pair| async move {
        let login = services.options(Login::Platform)?;
        try_all(services, pair, login, service_list::ESCALATIONS.to_vec()).await
    })
    .await
}

/// The control: own rows are seen, the same statement shows a superuser the victim's, and the judge says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_attacks_would_be_noticed_if_they_worked() -> Result<()> {
    with_tenants(|services, pair| async move {
        let read = tenant_list::READS[0];
        for address in [services.tenant_database_address(), services.direct_database_address()] {
            let mut session =
                PgConnection::connect_with(&pair.attacker.options(&services, &address)?).await?;
            let reply = reply_to(&mut session, read.statements[0]).await;
            assert!(reply.text.contains(&pair.attacker.key()), "{reply:?}");
            assert_eq!(reply.text.matches("key-").count(), 1, "{reply:?}");
        }
        let superuser = services.options(Login::Superuser)?;
        assert_eq!(attacks::run(&[read], &superuser, &pair).await?.len(), 1);
        let become_owner = tenant_list::IDENTITIES[1];
        assert_eq!(attacks::run(&[become_owner], &superuser, &pair).await?.len(), 1);
        Ok(())
    })
    .await
}

/// D2: over every table with an organization, a query without a WHERE clause stays in the transaction's organization.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_stays_in_one_organization_on_every_table() -> Result<()> {
    with_tenants(|services, pair| async move {
        let mut superuser = PgConnection::connect_with(&services.options(Login::Superuser)?).await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
             WHERE a.attname = 'org_id' AND c.relkind = 'r'
               AND has_any_column_privilege('agent_ready_service', c.oid, 'SELECT')",
        )
        .fetch_all(&mut superuser)
        .await?;
        assert!(tables.len() >= 5, "{tables:?}");
        let mut service = PgConnection::connect_with(&services.options(Login::Service)?).await?;
        for table in tables {
            let count = |filter: &str| AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE {filter}"));
            let without: i64 = sqlx::query_scalar(count("true")).fetch_one(&mut service).await?;
            assert_eq!(without, 0, "{table} is read without an organization");
            let mut transaction = service.begin().await?;
            sqlx::query("SELECT set_config('app.current_org', $1, true)")
                .bind(pair.attacker.organization.to_string())
                .execute(&mut *transaction)
                .await?;
            let foreign = count(&format!("org_id <> '{}'", pair.attacker.organization));
            let foreign: i64 = sqlx::query_scalar(foreign).fetch_one(&mut *transaction).await?;
            assert_eq!(foreign, 0, "{table} shows another organization");
            transaction.rollback().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_keeps_the_rules() {
    let services = tests::data::shared().await.unwrap();
    let mut superuser =
        PgConnection::connect_with(&services.options(Login::Superuser).unwrap()).await.unwrap();
    assert_eq!(catalogue::offenders(&mut superuser).await.unwrap(), Vec::<String>::new());
    // The control: a table that breaks most rules is found.
    let mut transaction = superuser.begin().await.unwrap();
    let broken = "CREATE TABLE broken (org_id uuid); GRANT SELECT ON broken TO PUBLIC;
         CREATE POLICY p ON broken USING (true);
         CREATE FUNCTION broken() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    sqlx::raw_sql(broken).execute(&mut *transaction).await.unwrap();
    assert!(catalogue::offenders(&mut transaction).await.unwrap().len() >= 6);
    transaction.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_does_nothing_in_redis_but_subscribe_to_its_own() -> Result<()> {
    with_tenants(|services, pair| async move {
        let defects = redis_list::run(&services, &pair).await?;
        assert!(defects.is_empty(), "{defects:#?}");
        Ok(())
    })
    .await
}

/// The control: what the contract gives works, and no more arrives than the tenant's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_hears_its_own_announcements() -> Result<()> {
    use futures::StreamExt as _;

    with_tenants(|services, pair| async move {
        let client = redis_client(&services, &pair.attacker.redis_url(&services))?;
        let mut feed = client.get_async_pubsub().await?;
        feed.psubscribe(contract::channel::pattern(pair.attacker.organization)).await?;
        let mut publisher = redis_connection(&services, &services.redis_url(RedisLogin::Publisher)).await?;
        for organization in [pair.victim.organization, pair.attacker.organization] {
            let channel = contract::channel::channel(organization, &"ai".parse()?, &"threshold".parse()?);
            redis::cmd("PUBLISH").arg(channel).arg("version=2").query_async::<i64>(&mut publisher).await?;
        }
        let heard = tokio::time::timeout(Duration::from_secs(5), feed.on_message().next()).await?;
        let channel = heard.map(|message| message.get_channel_name().to_owned());
        assert!(channel.is_some_and(|name| name.contains(&pair.attacker.organization.to_string())));
        Ok(())
    })
    .await
}
