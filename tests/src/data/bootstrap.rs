//! What an administrator does once before the first migration: database, roles, passwords.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::{DATABASE, DataServices, Login};
use crate::workspace;

/// PostgreSQL accepts connections before it serves them.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes the database and runs `migrations/bootstrap` in it.
pub async fn run(services: &DataServices) -> Result<()> {
    let options = services.options(Login::Superuser)?;
    let mut administration = connect(&options.clone().database("postgres")).await?;
    let known = sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
    if !known.bind(DATABASE).fetch_one(&mut administration).await? {
        execute(&mut administration, format!("CREATE DATABASE {DATABASE}")).await?;
    }
    administration.close().await?;

    let mut database = connect(&options).await?;
    for file in ["roles.sql", "database.sql"] {
        let path = workspace::root().join("migrations/bootstrap").join(file);
        let script = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        execute(&mut database, script).await.with_context(|| format!("run {}", path.display()))?;
    }
    let pooler = (contract::sql::POOLER, services.secrets.pooler.as_str());
    let logins = [Login::Migrator, Login::Platform, Login::Service].map(|login| services.credentials(login));
    for (role, password) in logins.into_iter().chain([pooler]) {
        // Generated passwords need no quoting.
        execute(&mut database, format!("ALTER ROLE {role} PASSWORD '{password}'")).await?;
    }
    database.close().await.context("close the connection")
}

async fn execute(connection: &mut PgConnection, statements: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match options.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => return Err(error).context("connect to PostgreSQL"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
