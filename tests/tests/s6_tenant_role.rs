//! S6: a tenant's login leads to one database, and goes when the platform says so, whatever the tenant did with it.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use sqlx::error::DatabaseError;
use sqlx::{Connection as _, PgConnection};
use tests::attacks::{TestTenant, reply_to, scram_verifier};
use tests::data::{DATABASE, DataServices, Login};
use uuid::Uuid;

/// Less than what a tenant's open transaction may last: dropping its role does not wait for that.
const DROP_LIMIT: Duration = Duration::from_secs(4);

const LEAVE_BEHIND: &str = "BEGIN READ WRITE; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC";

/// A tenant, and its removal whatever the test came to.
async fn with_tenant<F: Future<Output = Result<()>>>(
    test: impl FnOnce(DataServices, TestTenant) -> F,
) -> Result<()> {
    let services = tests::data::shared().await?;
    let tenant = TestTenant::create(&services).await?;
    let result = test(services.clone(), tenant.clone()).await;
    tenant.remove(&services).await?;
    result
}

async fn connect(services: &DataServices, login: Login) -> Result<PgConnection> {
    Ok(PgConnection::connect_with(&services.options(login)?).await?)
}

async fn drop_role(platform: &mut PgConnection, tenant: &TestTenant) -> Result<()> {
    let drop = sqlx::query("SELECT tenant_role_drop($1)").bind(tenant.organization.0);
    tokio::time::timeout(DROP_LIMIT, drop.execute(platform)).await??;
    Ok(())
}

/// The SQLSTATE of making the tenant's other login, `None` when it is made.
async fn create_role(platform: &mut PgConnection, tenant: &TestTenant, verifier: &str) -> Option<String> {
    let create = sqlx::query("SELECT tenant_role_create($1, 1::smallint, $2)").bind(tenant.organization.0);
    let refused = create.bind(verifier).execute(platform).await.err()?;
    Some(refused.as_database_error().and_then(|error| Some(error.code()?.into_owned())).unwrap_or_default())
}

async fn roles(superuser: &mut PgConnection, tenant: &TestTenant) -> Result<i64> {
    let query = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1)
            + (SELECT count(*) FROM tenant_roles WHERE org_id = $2)",
    );
    Ok(query.bind(&tenant.role).bind(tenant.organization.0).fetch_one(superuser).await?)
}

/// The journal of the organization's creation, which [`TestTenant`] goes without.
async fn write_operation(platform: &mut PgConnection, tenant: &TestTenant, state: &str) -> Result<()> {
    let insert = "INSERT INTO operations (id, org_id, kind, subject, request, state)
         SELECT operation_id, id, 'create', $2, '{}', $3 FROM organizations WHERE id = $1
         ON CONFLICT (id) DO UPDATE SET state = excluded.state";
    let insert = sqlx::query(insert).bind(tenant.organization.0).bind(Uuid::new_v4().to_string()).bind(state);
    insert.execute(platform).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_cannot_keep_its_role() -> Result<()> {
    with_tenant(|services, tenant| async move {
        let options = tenant.options(&services, &services.direct_database_address())?;
        let mut session = PgConnection::connect_with(&options).await?;
        let committed = reply_to(&mut session, &format!("{LEAVE_BEHIND}; COMMIT")).await;
        assert_eq!(committed.error, None);
        let mut superuser = connect(&services, Login::Superuser).await?;
        // The control: it is there, and would keep the role.
        let plain = reply_to(&mut superuser, &format!("DROP ROLE {}", tenant.role)).await;
        assert!(plain.error.is_some_and(|error| error.starts_with("2BP01")));
        // And a lock that dropping would wait for.
        let open = reply_to(&mut session, LEAVE_BEHIND).await;
        assert_eq!(open.error, None);

        drop_role(&mut connect(&services, Login::Platform).await?, &tenant).await?;
        assert_eq!(roles(&mut superuser, &tenant).await?, 0);
        assert!(reply_to(&mut session, "SELECT 1").await.error.is_some(), "its session goes on");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_enters_no_other_database() -> Result<()> {
    with_tenant(|services, tenant| async move {
        let own = tenant.options(&services, &services.direct_database_address())?;
        // The control: its login is good.
        PgConnection::connect_with(&own).await?.close().await?;
        for (database, code) in [("postgres", "42501"), ("template1", "42501"), ("template0", "55000")] {
            let refused = PgConnection::connect_with(&own.clone().database(database)).await.err();
            let refused = refused.as_ref().and_then(sqlx::Error::as_database_error);
            assert_eq!(refused.and_then(DatabaseError::code).as_deref(), Some(code), "{database}");
            let pooler = services.tenant_database_address().replace(DATABASE, database);
            let pooled = PgConnection::connect_with(&tenant.options(&services, &pooler)?).await;
            assert!(pooled.is_err(), "{database} through the pooler");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_undone_gets_no_role() -> Result<()> {
    with_tenant(|services, tenant| async move {
        let mut platform = connect(&services, Login::Platform).await?;
        let verifier = scram_verifier(&services, "secret").await?;
        for (state, refused) in [
            ("COMPENSATING", Some("AR409")),
            ("FAILED", Some("AR409")),
            ("RUNNING", None),
            ("COMMITTED", None),
        ] {
            write_operation(&mut platform, &tenant, state).await?;
            assert_eq!(create_role(&mut platform, &tenant, &verifier).await.as_deref(), refused, "{state}");
        }
        sqlx::query("UPDATE organizations SET status = 'FAILED' WHERE id = $1")
            .bind(tenant.organization.0)
            .execute(&mut platform)
            .await?;
        assert_eq!(create_role(&mut platform, &tenant, &verifier).await.as_deref(), Some("AR409"));
        Ok(())
    })
    .await
}

/// The statement that a client gave up on: begun before the undo, it ends before or after it, and never in its midst.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_being_made_does_not_outlive_the_undo() -> Result<()> {
    with_tenant(|services, tenant| async move {
        let mut platform = connect(&services, Login::Platform).await?;
        drop_role(&mut platform, &tenant).await?;
        write_operation(&mut platform, &tenant, "RUNNING").await?;
        let verifier = scram_verifier(&services, "secret").await?;
        let mut late = connect(&services, Login::Platform).await?;
        let mut late = late.begin().await?;
        assert_eq!(create_role(&mut late, &tenant, &verifier).await, None);

        write_operation(&mut platform, &tenant, "COMPENSATING").await?;
        let (undone, made) = tokio::join!(drop_role(&mut platform, &tenant), async {
            // The drop has begun by then, or the test shows less than it could.
            tokio::time::sleep(Duration::from_millis(500)).await;
            late.commit().await
        });
        made?;
        undone?;
        assert_eq!(roles(&mut connect(&services, Login::Superuser).await?, &tenant).await?, 0);
        Ok(())
    })
    .await
}
