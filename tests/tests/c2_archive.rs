//! C2: history is append-only for everybody; purge and import of a whole organization are the two ways round it, and both
//! leave an entry.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::attacks::TestTenant;
use tests::data::{DataServices, Login};
use uuid::Uuid;

/// Values that JSON and SQL tell apart differently: null is a value, a tombstone has none.
const VALUES: [&str; 6] = ["1", "1.50", "null", "{\"a\": [1, \"x\"]}", "\"text\"", "true"];

struct Archive {
    services: DataServices,
    tenant: TestTenant,
    superuser: PgConnection,
    platform: PgConnection,
}

impl Archive {
    /// An organization with some history: values, a tombstone, a value after it.
    async fn create() -> Result<Self> {
        let services = tests::data::shared().await?;
        let tenant = TestTenant::create(&services).await?;
        let superuser = PgConnection::connect_with(&services.options(Login::Superuser)?).await?;
        let platform = PgConnection::connect_with(&services.options(Login::Platform)?).await?;
        let mut archive = Self { services, tenant, superuser, platform };
        for value in VALUES {
            archive.write(Some(value)).await?;
        }
        archive.write(None).await?;
        archive.write(Some("null")).await?;
        Ok(archive)
    }

    fn id(&self) -> Uuid {
        self.tenant.organization.0
    }

    async fn write(&mut self, value: Option<&str>) -> Result<()> {
        sqlx::query("SELECT config_write($1, 'ai', 'archived', $2::jsonb, NULL, 'somebody', 'a reason')")
            .bind(self.id())
            .bind(value)
            .execute(&mut self.platform)
            .await?;
        Ok(())
    }

    /// The first entry that does not fit the chain.
    async fn broken(&mut self) -> Result<Option<i64>> {
        let query = sqlx::query_scalar("SELECT config_history_verify($1)").bind(self.id());
        Ok(query.fetch_one(&mut self.superuser).await?)
    }

    /// Everything that an archive holds, as `organization_import` takes it: text, because 1.50 and 1.5 hash differently.
    async fn export(&mut self) -> Result<String> {
        let rows = |table: &str| {
            format!(
                "(SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]') FROM {table} AS t WHERE org_id = $1)"
            )
        };
        let query = format!(
            "SELECT jsonb_build_object('configs', {}, 'history', {}, 'schemas', {}, 'quota_changes', {})::text",
            rows("service_configs"),
            rows("config_history"),
            rows("config_schemas"),
            rows("quota_changes")
        );
        Ok(sqlx::query_scalar(AssertSqlSafe(query)).bind(self.id()).fetch_one(&mut self.superuser).await?)
    }

    /// What the organization's row says that its configuration takes.
    async fn usage(&mut self) -> Result<(i64, i64)> {
        let query = sqlx::query_as("SELECT config_keys, config_bytes FROM organizations WHERE id = $1");
        Ok(query.bind(self.id()).fetch_one(&mut self.superuser).await?)
    }

    async fn purge(&mut self, reason: &str) -> sqlx::Result<()> {
        sqlx::query("SELECT tenant_role_drop($1)").bind(self.id()).execute(&mut self.platform).await?;
        let purge = sqlx::query("SELECT organization_purge($1, 'an operator', $2)");
        purge.bind(self.id()).bind(reason).execute(&mut self.platform).await.map(drop)
    }

    async fn import(&mut self, archive: &str) -> sqlx::Result<()> {
        self.import_changed(archive, "$2::jsonb").await
    }

    /// Imports what `change` makes of the archive, `$2::jsonb`.
    async fn import_changed(&mut self, archive: &str, change: &str) -> sqlx::Result<()> {
        let import = format!("SELECT organization_import($1, {change}, 'an operator', 'restored')");
        let import = sqlx::query(AssertSqlSafe(import)).bind(self.id()).bind(archive);
        import.execute(&mut self.platform).await.map(drop)
    }

    /// The organization's row, without anything below it.
    async fn insert(&mut self) -> Result<()> {
        let insert = "INSERT INTO organizations (id, name, slug, namespace, owner_email, operation_id)
             VALUES ($1, 'again', $1::text, 'org-again', 'again@example.org', $1)";
        sqlx::query(insert).bind(self.id()).execute(&mut self.platform).await?;
        Ok(())
    }

    async fn remove(mut self) -> Result<()> {
        let here = sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM organizations WHERE id = $1)");
        if !here.bind(self.id()).fetch_one(&mut self.superuser).await? {
            self.insert().await?;
        }
        self.tenant.remove(&self.services).await
    }
}

fn parse(archive: &str) -> Value {
    serde_json::from_str(archive).unwrap_or_default()
}

fn code(result: sqlx::Result<()>) -> Option<String> {
    result.err()?.as_database_error()?.code().map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_organization_comes_back_as_it_was_in_a_later_epoch() -> Result<()> {
    let mut archive = Archive::create().await?;
    assert_eq!(archive.broken().await?, None);
    let (before, used) = (archive.export().await?, archive.usage().await?);
    assert_eq!(used.0, 2, "the one of every test tenant, and the one here");
    archive.purge("offboarded").await?;
    assert_eq!(parse(&archive.export().await?)["history"], json!([]));
    archive.insert().await?;
    assert_eq!(archive.usage().await?, (0, 0));
    archive.import(&before).await?;

    assert_eq!(archive.usage().await?, used);
    assert_eq!(archive.broken().await?, None);
    let (before, after) = (parse(&before), parse(&archive.export().await?));
    assert_eq!(after["history"], before["history"]);
    assert_eq!(without_order(&after["configs"]), without_order(&before["configs"]));
    let epochs = after["configs"].as_array().context("configs")?.iter().map(|row| row["epoch"].as_i64());
    assert!(epochs.into_iter().all(|epoch| epoch == Some(2)), "{after}");
    // What comes after goes on with versions and chain.
    archive.write(Some("2")).await?;
    assert_eq!(archive.broken().await?, None);

    let audited: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT action, reason, entries FROM archive_audit WHERE subject_id = $1 ORDER BY id")
            .bind(archive.id())
            .fetch_all(&mut archive.platform)
            .await?;
    let entries = i64::try_from(VALUES.len())? + 3;
    let (purge, import) = (("purge", "offboarded"), ("import", "restored"));
    let expected = [purge, import].map(|(action, reason)| (action.to_owned(), reason.to_owned(), entries));
    assert_eq!(audited, expected);
    archive.remove().await
}

/// Current values without what an import numbers anew.
fn without_order(configs: &Value) -> Vec<Value> {
    let mut rows = configs.as_array().cloned().unwrap_or_default();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.remove("epoch");
        row.remove("revision");
    }
    rows.sort_by_key(|row| row["key"].to_string());
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_whole_and_its_own_or_nothing() -> Result<()> {
    let mut archive = Archive::create().await?;
    let whole = archive.export().await?;
    assert_eq!(code(archive.import(&whole).await).as_deref(), Some("AR409"), "over a history");
    assert_eq!(code(archive.purge("").await).as_deref(), Some("23514"), "without a reason");
    archive.purge("offboarded").await?;
    archive.insert().await?;

    let changes = [
        ("a changed entry", "jsonb_set($2::jsonb, '{history,1,reason}', '\"another\"')"),
        ("a removed entry", "$2::jsonb #- '{history,0}'"),
        (
            "a row of another organization",
            "jsonb_set($2::jsonb, '{configs,0,org_id}', to_jsonb(gen_random_uuid()))",
        ),
        ("another current value", "jsonb_set($2::jsonb, '{configs,0,value}', '\"another\"')"),
        ("another current version", "jsonb_set($2::jsonb, '{configs,0,version}', '99')"),
        ("another author", "jsonb_set($2::jsonb, '{configs,0,updated_by}', '\"another\"')"),
        ("a missing current value", "$2::jsonb #- '{configs,0}'"),
        (
            "a current value without a history",
            "jsonb_insert($2::jsonb, '{configs,0}', jsonb_set($2::jsonb #> '{configs,0}', '{key}', '\"more\"'))",
        ),
    ];
    for (name, change) in changes {
        assert_eq!(code(archive.import_changed(&whole, change).await).as_deref(), Some("AR400"), "{name}");
    }
    assert_eq!(parse(&archive.export().await?)["history"], json!([]));
    // The control: unchanged, it is taken.
    archive.import(&whole).await?;
    archive.remove().await
}

/// Not even a superuser changes history by a slip of the hand; who takes the trigger away is found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_history_is_refused_and_otherwise_evident() -> Result<()> {
    let mut archive = Archive::create().await?;
    let id = archive.id();
    let change = format!("UPDATE config_history SET reason = 'x' WHERE org_id = '{id}' AND seq = 3");
    let removal = format!("DELETE FROM config_history WHERE org_id = '{id}' AND seq = 5");
    for statement in [&change, &removal, "TRUNCATE config_history"] {
        let refused =
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut archive.superuser).await;
        assert_eq!(code(refused.map(drop)).as_deref(), Some("42501"), "{statement}");
    }
    for (statement, first) in [(change, 3), (removal, 6)] {
        let mut transaction = archive.superuser.begin().await?;
        // For this transaction alone: other journeys share the table.
        sqlx::raw_sql("SET LOCAL session_replication_role = replica").execute(&mut *transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        let broken: Option<i64> = sqlx::query_scalar("SELECT config_history_verify($1)")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        assert_eq!(broken, Some(first));
        transaction.rollback().await?;
    }
    archive.remove().await
}
