//! Two tenants: one whose login attacks, and one whose data has marks found nowhere else.

use anyhow::{Context as _, Result};
use contract::OrganizationId;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::data::{DataServices, Login, RedisLogin, options};

/// An organization made straight in PostgreSQL and Redis, with its sidecar's logins.
#[derive(Clone, Debug)]
pub struct TestTenant {
    /// Its organization.
    pub organization: OrganizationId,
    /// Its PostgreSQL login.
    pub role: String,
    /// The password of both logins.
    pub password: String,
    /// Its Redis user.
    pub redis_user: String,
    mark: String,
}

impl TestTenant {
    /// Makes the organization with one configuration value, a PostgreSQL role and a Redis user.
    pub async fn create(services: &DataServices) -> Result<Self> {
        let organization = OrganizationId(Uuid::new_v4());
        let mark = format!("m{}", Uuid::new_v4().simple());
        let password = Uuid::new_v4().simple().to_string();
        let verifier = scram_verifier(services, &password).await?;
        let mut platform = PgConnection::connect_with(&services.options(Login::Platform)?).await?;
        insert_organization(&mut platform, organization, &mark).await?;
        let role = sqlx::query_scalar("SELECT tenant_role_create($1, 0::smallint, $2)")
            .bind(organization.0)
            .bind(verifier)
            .fetch_one(&mut platform)
            .await
            .context("make the tenant's role")?;
        let tenant = Self {
            organization,
            role,
            password,
            redis_user: contract::redis_acl::user_name(organization, 0),
            mark,
        };
        tenant.write(&mut platform, serde_json::json!(format!("value-{}", tenant.mark))).await?;
        platform.close().await?;
        tenant.create_redis_user(services).await?;
        Ok(tenant)
    }

    /// Removes everything that [`TestTenant::create`] made.
    pub async fn remove(&self, services: &DataServices) -> Result<()> {
        let mut platform = PgConnection::connect_with(&services.options(Login::Platform)?).await?;
        sqlx::query("SELECT tenant_role_drop($1)").bind(self.organization.0).execute(&mut platform).await?;
        sqlx::query("SELECT organization_purge($1, 'tests', 'the test is over')")
            .bind(self.organization.0)
            .execute(&mut platform)
            .await?;
        platform.close().await?;
        let mut admin = redis_connection(services, &services.redis_url(RedisLogin::AclAdmin)).await?;
        redis::cmd("ACL").arg("DELUSER").arg(&self.redis_user).query_async::<()>(&mut admin).await?;
        Ok(())
    }

    /// Writes the tenant's one value.
    pub async fn write(&self, platform: &mut PgConnection, value: serde_json::Value) -> Result<()> {
        sqlx::query("SELECT config_write($1, 'ai', $2, $3, NULL, $4, $5)")
            .bind(self.organization.0)
            .bind(self.key())
            .bind(value)
            .bind(format!("actor-{}", self.mark))
            .bind(format!("reason-{}", self.mark))
            .execute(platform)
            .await
            .context("write a configuration value")?;
        Ok(())
    }

    /// The key of its one value.
    pub fn key(&self) -> String {
        format!("key-{}", self.mark)
    }

    /// What only its data holds: in its name, its namespace, its key, its value, who changed it and why.
    pub fn marks(&self) -> Vec<String> {
        vec![self.mark.clone()]
    }

    /// Its login at `address` (`host:port/database`).
    pub fn options(&self, services: &DataServices, address: &str) -> Result<PgConnectOptions> {
        options(&format!("postgres://{}:{}@{address}", self.role, self.password), services.ca_file())
    }

    /// Its Redis URL.
    pub fn redis_url(&self, services: &DataServices) -> String {
        format!("rediss://{}:{}@{}", self.redis_user, self.password, services.tenant_redis_address())
    }

    async fn create_redis_user(&self, services: &DataServices) -> Result<()> {
        let mut admin = redis_connection(services, &services.redis_url(RedisLogin::AclAdmin)).await?;
        let rules = contract::redis_acl::rules(self.organization, &self.password);
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&self.redis_user).arg(rules);
        command.query_async::<()>(&mut admin).await.context("make the tenant's Redis user")
    }
}

/// An attacker and its victim.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Whose credentials are used.
    pub attacker: TestTenant,
    /// Whose data is wanted.
    pub victim: TestTenant,
}

impl Pair {
    /// Makes both.
    pub async fn create(services: &DataServices) -> Result<Self> {
        Ok(Self {
            attacker: TestTenant::create(services).await?,
            victim: TestTenant::create(services).await?,
        })
    }

    /// Removes both.
    pub async fn remove(&self, services: &DataServices) -> Result<()> {
        self.attacker.remove(services).await?;
        self.victim.remove(services).await
    }

    /// A statement with the names in it.
    pub fn fill(&self, statement: &str) -> String {
        statement
            .replace("{victim}", &self.victim.organization.to_string())
            .replace("{victim_role}", &self.victim.role)
            .replace("{own}", &self.attacker.organization.to_string())
            .replace("{own_role}", &self.attacker.role)
    }
}

/// A connection to Redis, verified against the platform's authority.
pub async fn redis_connection(
    services: &DataServices,
    url: &str,
) -> Result<redis::aio::MultiplexedConnection> {
    redis_client(services, url)?.get_multiplexed_async_connection().await.context("connect to Redis")
}

/// A Redis client, verified against the platform's authority.
pub fn redis_client(services: &DataServices, url: &str) -> Result<redis::Client> {
    let root = std::fs::read(services.ca_file()).context("read the authority's certificate")?;
    let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(root) };
    redis::Client::build_with_tls(url, certificates).context("read a Redis URL")
}

async fn insert_organization(
    platform: &mut PgConnection,
    organization: OrganizationId,
    mark: &str,
) -> Result<()> {
    let insert = "INSERT INTO organizations (id, name, slug, namespace, owner_email, status, operation_id, committed_at)
         VALUES ($1, $2, $3, $4, $5, 'COMMITTED', $6, now())";
    sqlx::query(insert)
        .bind(organization.0)
        .bind(format!("name-{mark}"))
        .bind(format!("slug-{mark}"))
        .bind(format!("org-{mark}"))
        .bind(format!("{mark}@example.org"))
        .bind(Uuid::new_v4())
        .execute(platform)
        .await
        .context("insert an organization")?;
    Ok(())
}

/// The verifier of a password, as PostgreSQL itself makes it: of a role that is never committed.
pub async fn scram_verifier(services: &DataServices, password: &str) -> Result<String> {
    let mut superuser = PgConnection::connect_with(&services.options(Login::Superuser)?).await?;
    let mut transaction = superuser.begin().await?;
    let role = format!("scratch_{}", Uuid::new_v4().simple());
    let create = AssertSqlSafe(format!("CREATE ROLE {role} PASSWORD '{password}'"));
    sqlx::raw_sql(create).execute(&mut *transaction).await?;
    let verifier = sqlx::query_scalar("SELECT rolpassword FROM pg_authid WHERE rolname = $1")
        .bind(role)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    superuser.close().await?;
    Ok(verifier)
}
