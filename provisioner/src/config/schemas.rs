//! The schemas that values of a key must fit.

use contract::OrganizationId;
use serde_json::{Value, value::RawValue};

use super::{
    ConfigError, ConfigName, Configuration,
    schema::{self, Schema},
    tenant::{TenantTx, detached},
};

impl Configuration {
    /// The schema of a key.
    pub async fn schema(&self, organization: OrganizationId, name: ConfigName) -> Result<Value, ConfigError> {
        let pool = self.service.clone();
        let found = detached(async move {
            let mut tx = TenantTx::begin(&pool, organization).await?;
            sqlx::query_scalar!(
                "SELECT schema FROM config_schemas WHERE org_id = $1 AND service = $2 AND key = $3",
                organization.0,
                name.service.as_str(),
                name.key.as_str(),
            )
            .fetch_optional(&mut *tx)
            .await
        })
        .await?;
        found.ok_or(ConfigError::NotFound)
    }

    /// Sets the schema of a key. A value that is there must fit it: a stored value always fits its schema.
    pub async fn set_schema(
        &self,
        organization: OrganizationId,
        name: ConfigName,
        schema: &RawValue,
    ) -> Result<(), ConfigError> {
        if name.is_reserved() {
            return Err(ConfigError::Reserved);
        }
        let schema = schema::read(schema)?;
        let this = self.clone();
        detached(async move {
            let _turn = this.turns.take(organization).await;
            let mut tx = TenantTx::begin_locked(&this.service, organization).await?;
            let present = sqlx::query_scalar!(
                r#"SELECT value AS "value!" FROM service_configs
                   WHERE org_id = $1 AND service = $2 AND key = $3 AND NOT deleted"#,
                organization.0,
                name.service.as_str(),
                name.key.as_str(),
            )
            .fetch_optional(&mut *tx)
            .await?;
            let schema = this.validate(move || fitting(schema, present)).await?;
            sqlx::query!(
                "INSERT INTO config_schemas (org_id, service, key, schema) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (org_id, service, key) DO UPDATE SET schema = excluded.schema",
                organization.0,
                name.service.as_str(),
                name.key.as_str(),
                schema,
            )
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Removes the schema of a key.
    pub async fn remove_schema(
        &self,
        organization: OrganizationId,
        name: ConfigName,
    ) -> Result<(), ConfigError> {
        let this = self.clone();
        let removed = detached(async move {
            let _turn = this.turns.take(organization).await;
            let mut tx = TenantTx::begin_locked(&this.service, organization).await?;
            let done = sqlx::query!(
                "DELETE FROM config_schemas WHERE org_id = $1 AND service = $2 AND key = $3",
                organization.0,
                name.service.as_str(),
                name.key.as_str(),
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(done.rows_affected())
        })
        .await?;
        if removed == 0 { Err(ConfigError::NotFound) } else { Ok(()) }
    }
}

/// Gives the schema back if it is one and `present` fits it.
fn fitting(schema: Value, present: Option<Value>) -> Result<Value, ConfigError> {
    let compiled = Schema::new(&schema)?;
    let violations = present.map_or(Ok(Vec::new()), |value| compiled.violations(&value))?;
    if violations.is_empty() { Ok(schema) } else { Err(ConfigError::Violations(violations)) }
}
