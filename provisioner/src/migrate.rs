//! `provisioner migrate`: brings the schema up to date, under a login that may become the schema's owner.

use std::path::Path;

use anyhow::Context;
use sqlx::{AssertSqlSafe, ConnectOptions, migrate::Migrator};

use crate::{settings::MigrateSettings, state::connect_options};

/// The migrations, compiled in.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Applies what is missing. Doing it twice is doing it once; two at a time wait for each other.
pub async fn run(settings: &MigrateSettings) -> anyhow::Result<()> {
    apply(&settings.migration_database_url, settings.ca_file.as_deref()).await
}

async fn apply(url: &str, ca_file: Option<&Path>) -> anyhow::Result<()> {
    let mut connection =
        connect_options(url, ca_file)?.connect().await.context("connecting to PostgreSQL")?;
    sqlx::raw_sql(AssertSqlSafe(format!("SET ROLE {}", contract::sql::OWNER)))
        .execute(&mut connection)
        .await
        .context("becoming the schema's owner")?;
    MIGRATIONS.run(&mut connection).await.context("migrating")?;
    tracing::info!(migrations = MIGRATIONS.iter().count(), "the schema is up to date");
    Ok(())
}
