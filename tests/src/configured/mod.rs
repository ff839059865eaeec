//! A tenant whose configuration is changed, and sidecars that follow it as processes of this machine.

mod proxy;
mod sidecar;
mod view;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contract::{channel, names::credentials as files};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::attacks::{TestTenant, redis_client, redis_connection, scram_verifier};
use crate::data::{DataServices, Login, RedisLogin};
use crate::platform::Platform;
use crate::process::{Phase, Ready};

pub use proxy::Proxy;
pub use sidecar::Sidecar;
pub use view::View;

/// The service whose values are changed.
pub const SERVICE: &str = "journey";

/// A committed change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The key's version after it.
    pub version: u64,
    /// When the commit was known.
    pub at: Instant,
}

/// A tenant, and the ways to change its configuration that the provisioner has.
pub struct Configured {
    services: DataServices,
    /// The tenant.
    pub tenant: TestTenant,
    credentials: TempDir,
    writer: PgPool,
    publisher: Mutex<Option<redis::aio::MultiplexedConnection>>,
}

impl Configured {
    /// Makes a tenant straight in PostgreSQL and Redis, and the files of its Secret.
    pub async fn create(services: &DataServices) -> Result<Self> {
        let tenant = TestTenant::create(services).await?;
        let credentials = tempfile::tempdir()?;
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
        let writer = pool.connect_lazy_with(services.options(Login::Platform)?);
        let configured =
            Self { services: services.clone(), tenant, credentials, writer, publisher: Mutex::default() };
        // Users that are not in the file are gone after a restart of Redis.
        configured.administer(redis::cmd("ACL").arg("SAVE")).await?;
        configured.put_credentials(&configured.database_url(), &configured.tenant.redis_url(services))?;
        Ok(configured)
    }

    /// Removes the tenant.
    pub async fn remove(&self) -> Result<()> {
        self.writer.close().await;
        self.tenant.remove(&self.services).await
    }

    /// Writes the files of the Secret.
    pub fn put_credentials(&self, database_url: &str, redis_url: &str) -> Result<()> {
        let write = |name: &str, content: &[u8]| std::fs::write(self.credentials_dir().join(name), content);
        write(files::DATABASE_URL, database_url.as_bytes())?;
        write(files::REDIS_URL, redis_url.as_bytes())?;
        write(files::CA, &std::fs::read(self.services.ca_file())?)?;
        write(files::ORGANIZATION, self.tenant.organization.to_string().as_bytes())?;
        Ok(())
    }

    /// The directory with the files of the Secret.
    pub fn credentials_dir(&self) -> &Path {
        self.credentials.path()
    }

    /// The tenant's login at the pooler.
    pub fn database_url(&self) -> String {
        let TestTenant { role, password, .. } = &self.tenant;
        let address = self.services.tenant_database_address();
        format!("postgres://{role}:{password}@{address}?sslmode=verify-full")
    }

    /// Puts a proxy between the sidecars that start from now on and a server.
    pub async fn through_proxy(&self, server: Server) -> Result<Proxy> {
        let (mut database_url, mut redis_url) = (self.database_url(), self.tenant.redis_url(&self.services));
        let (url, address) = match server {
            Server::Redis => (&mut redis_url, self.services.tenant_redis_address()),
            Server::Postgres => (&mut database_url, self.services.tenant_database_address()),
        };
        let address = address.split('/').next().unwrap_or_default().to_owned();
        let proxy = Proxy::start(&address).await?;
        *url = url.replace(&address, &proxy.address);
        self.put_credentials(&database_url, &redis_url)?;
        Ok(proxy)
    }

    /// Commits a change and takes its announcement away: nobody hears of it.
    pub async fn write_unheard(&self, key: &str, value: Value) -> Result<Change> {
        Box::pin(self.commit(key, Some(value))).await
    }

    /// Deletes a value and announces it.
    pub async fn delete(&self, key: &str) -> Result<Change> {
        let change = Box::pin(self.commit(key, None)).await?;
        Box::pin(self.announce(key, change.version)).await?;
        Ok(change)
    }

    async fn commit(&self, key: &str, value: Option<Value>) -> Result<Change> {
        let mut transaction = self.writer.begin().await?;
        let version: i64 =
            sqlx::query_scalar("SELECT version FROM config_write($1, $2, $3, $4, NULL, 'tests', NULL)")
                .bind(self.tenant.organization.0)
                .bind(SERVICE)
                .bind(key)
                .bind(value)
                .fetch_one(&mut *transaction)
                .await
                .context("write a value")?;
        let delete = "DELETE FROM config_outbox WHERE org_id = $1";
        sqlx::query(delete).bind(self.tenant.organization.0).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Change { version: u64::try_from(version)?, at: Instant::now() })
    }

    /// Announces a version as the provisioner does.
    pub async fn announce(&self, key: &str, version: u64) -> Result<()> {
        let channel = channel::channel(self.tenant.organization, &SERVICE.parse()?, &key.parse()?);
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(channel::encode_version(version));
        let mut kept = self.publisher.lock().await;
        if let Some(connection) = kept.as_mut()
            && publish.query_async::<()>(connection).await.is_ok()
        {
            return Ok(());
        }
        let url = self.services.redis_url(RedisLogin::Publisher);
        let mut connection = redis_connection(&self.services, &url).await?;
        publish.query_async::<()>(&mut connection).await.context("announce a version")?;
        *kept = Some(connection);
        Ok(())
    }

    /// Commits a change and announces it.
    pub async fn change(&self, key: &str, value: Value) -> Result<Change> {
        let change = self.write_unheard(key, value).await?;
        Box::pin(self.announce(key, change.version)).await?;
        Ok(change)
    }

    /// Starts a sidecar and waits until it is ready.
    pub async fn sidecar(&self, flags: &[&str]) -> Result<Sidecar> {
        let mut sidecar = Sidecar::start(self.credentials_dir(), flags)?;
        sidecar.ready().await?;
        Ok(sidecar)
    }

    /// Everything that Redis is told from now on, until the future that is given ends.
    pub async fn monitored<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(String, T)> {
        use futures::StreamExt as _;
        let url = self.services.redis_url(RedisLogin::Observer);
        let monitor = redis_client(&self.services, &url)?.get_async_monitor().await?;
        let mut lines = monitor.into_on_message::<String>();
        let mut seen = String::new();
        let listening = async {
            while let Some(line) = lines.next().await {
                seen.push_str(&line);
                seen.push('\n');
            }
        };
        let result = tokio::select! {
            result = work => result?,
            () = listening => anyhow::bail!("MONITOR ended"),
        };
        Ok((seen, result))
    }
}

/// Runs a test with a tenant on the journeys' data services, and removes the tenant whatever the test came to.
pub async fn with_tenant(test: impl AsyncFnOnce(&Configured) -> Result<()>) -> Result<()> {
    let services = Box::pin(crate::data::shared()).await?;
    let tenant = Box::pin(Configured::create(&services)).await?;
    let result = test(&tenant).await;
    tenant.remove().await?;
    result
}

/// The same for a test that stops servers: one of them at a time.
pub async fn with_platform(test: impl AsyncFnOnce(&Platform, &Configured) -> Result<()>) -> Result<()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let platform = Platform::shared().await?;
    with_tenant(async |tenant| test(platform, tenant).await).await
}

/// Stops a server, does `work`, and starts the server again whatever `work` came to.
pub async fn without<T>(
    platform: &Platform,
    server: Server,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // PostgreSQL would wait for its clients to leave.
    platform.component(server.component()).kill().await?;
    let result = work.await;
    restore(platform, server).await?;
    result
}

/// Starts a server unless it runs.
pub async fn restore(platform: &Platform, server: Server) -> Result<()> {
    let name = server.component();
    if platform.status().await?.iter().any(|status| status.name == name && status.phase == Phase::Running) {
        return Ok(());
    }
    let address = match server {
        Server::Redis => platform.data().tenant_redis_address(),
        Server::Postgres => platform.data().direct_database_address(),
    };
    let address = address.split('/').next().unwrap_or_default().parse().context("an address")?;
    platform.component(name).start_ready(&Ready::Tcp(address), Duration::from_secs(30)).await
}

/// A server that a test can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Announcements.
    Redis,
    /// Values.
    Postgres,
}

impl Server {
    /// Its component of the platform.
    fn component(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// The other login slot of a tenant.
pub struct Slot {
    /// PostgreSQL URL at the pooler.
    pub database_url: String,
    /// Redis URL.
    pub redis_url: String,
    /// The password of both.
    pub password: String,
}

impl Configured {
    /// Makes the logins of the second slot.
    pub async fn second_slot(&self) -> Result<Slot> {
        let organization = self.tenant.organization;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let role: String = sqlx::query_scalar("SELECT tenant_role_create($1, 1::smallint, $2)")
            .bind(organization.0)
            .bind(scram_verifier(&self.services, &password).await?)
            .fetch_one(&self.writer)
            .await
            .context("make the role of the second slot")?;
        let user = contract::redis_acl::user_name(organization, 1);
        let rules = contract::redis_acl::rules(organization, &password);
        self.administer(redis::cmd("ACL").arg("SETUSER").arg(&user).arg(rules)).await?;
        let (database, redis) =
            (self.services.tenant_database_address(), self.services.tenant_redis_address());
        Ok(Slot {
            database_url: format!("postgres://{role}:{password}@{database}?sslmode=verify-full"),
            redis_url: format!("rediss://{user}:{password}@{redis}"),
            password,
        })
    }

    /// Ends the logins of the first slot and their sessions.
    pub async fn end_first_slot(&self) -> Result<()> {
        let TestTenant { role, redis_user, .. } = &self.tenant;
        let mut superuser = PgConnection::connect_with(&self.services.options(Login::Superuser)?).await?;
        let statements = format!(
            "ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut superuser).await?;
        superuser.close().await?;
        self.administer(redis::cmd("ACL").arg("DELUSER").arg(redis_user)).await
    }

    async fn administer(&self, command: &redis::Cmd) -> Result<()> {
        let mut admin =
            redis_connection(&self.services, &self.services.redis_url(RedisLogin::AclAdmin)).await?;
        command.query_async::<()>(&mut admin).await.context("change the Redis users")
    }
}
