//! PostgreSQL, Redis and PgBouncer as components, with TLS from the platform's authority and generated passwords.

mod bootstrap;
mod pgbouncer;
pub(crate) mod postgres;
mod redis;
mod secrets;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};

use crate::host::Host;
use crate::pki::{Authority, write_secret};
use secrets::Secrets;

/// The database of the product.
pub const DATABASE: &str = "agent_ready";

/// Usual ports, by which [`Host::port`] gives the used ones.
const POSTGRES_PORT: u16 = 5432;
const REDIS_PORT: u16 = 6379;
const PGBOUNCER_PORT: u16 = 6432;

/// A PostgreSQL login of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// For tests' controls only: nothing of ours ever uses it.
    Superuser,
    /// `provisioner migrate`.
    Migrator,
    /// The provisioner across organizations.
    Platform,
    /// The provisioner within one organization.
    Service,
}

/// A Redis user of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisLogin {
    /// Announces changes: PUBLISH on configuration channels.
    Publisher,
    /// Makes and removes tenants' users.
    AclAdmin,
    /// For tests: MONITOR, INFO, CLIENT LIST, CONFIG GET.
    Observer,
}

/// The data services of a platform, and how to reach each of them.
#[derive(Clone, Debug)]
pub struct DataServices {
    secrets: Secrets,
    ca_file: PathBuf,
    postgres: SocketAddr,
    redis: SocketAddr,
    pub(crate) pgbouncer: SocketAddr,
}

impl DataServices {
    /// Starts the three and makes roles and database; the schema comes with `provisioner migrate`.
    pub async fn start(host: &Host, authority: &Authority) -> Result<Self> {
        let services = Self::describe(host, authority, Secrets::create(host.state())?);
        let (first, second) = tokio::join!(
            postgres::start(host, authority, &services),
            redis::start(host, authority, &services)
        );
        first.context("start PostgreSQL")?;
        second.context("start Redis")?;
        pgbouncer::start(host, authority, &services).await.context("start PgBouncer")?;
        Ok(services)
    }

    /// The data services of a platform that was started before.
    pub fn attach(host: &Host, authority: &Authority) -> Result<Self> {
        Ok(Self::describe(host, authority, Secrets::read(host.state())?))
    }

    fn describe(host: &Host, authority: &Authority, secrets: Secrets) -> Self {
        Self {
            secrets,
            ca_file: authority.certificate_file(),
            postgres: host.address(POSTGRES_PORT),
            redis: host.address(REDIS_PORT),
            pgbouncer: host.address(PGBOUNCER_PORT),
        }
    }

    /// Connection URL of a login; the caller's CA file is asked for by `sslmode=verify-full`, see [`Self::ca_file`].
    pub fn database_url(&self, login: Login) -> String {
        let (user, password) = self.credentials(login);
        format!("postgres://{user}:{password}@{}/{DATABASE}?sslmode=verify-full", self.postgres)
    }

    /// Connection URL of a login with the path of the CA file in it, for psql and `.local/env`.
    pub fn database_url_with_ca(&self, login: Login) -> String {
        format!("{}&sslrootcert={}", self.database_url(login), self.ca_file.display())
    }

    /// Where tenants' sessions go: the pooler, as `host:port/database`.
    pub fn tenant_database_address(&self) -> String {
        format!("{}/{DATABASE}", self.pgbouncer)
    }

    /// Where tenants' sessions would go without the pooler, for attacks on it: `host:port/database`.
    pub fn direct_database_address(&self) -> String {
        format!("{}/{DATABASE}", self.postgres)
    }

    /// Where tenants' subscriptions go, as `host:port`.
    pub fn tenant_redis_address(&self) -> String {
        self.redis.to_string()
    }

    /// Connection URL of a Redis user.
    pub fn redis_url(&self, login: RedisLogin) -> String {
        let (user, password) = match login {
            RedisLogin::Publisher => ("publisher", &self.secrets.redis_publisher),
            RedisLogin::AclAdmin => ("acl-admin", &self.secrets.redis_acl_admin),
            RedisLogin::Observer => ("observer", &self.secrets.redis_observer),
        };
        format!("rediss://{user}:{password}@{}", self.redis)
    }

    /// The certificate that all three servers' certificates are signed by.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Brings the schema up to date as `provisioner migrate` does; there is nothing to do where it ran.
    pub async fn migrate(&self) -> Result<()> {
        let mut connection = PgConnection::connect_with(&self.options(Login::Migrator)?).await?;
        let migrations = Migrator::new(crate::workspace::root().join("migrations")).await?;
        migrations.run(&mut connection).await.context("migrate")?;
        connection.close().await.context("close the connection")
    }

    /// Connection options of a login, with the CA file.
    pub fn options(&self, login: Login) -> Result<PgConnectOptions> {
        options(&self.database_url(login), &self.ca_file)
    }

    fn credentials(&self, login: Login) -> (&'static str, &str) {
        match login {
            Login::Superuser => ("postgres", &self.secrets.superuser),
            Login::Migrator => (contract::sql::MIGRATOR, &self.secrets.migrator),
            Login::Platform => (contract::sql::PLATFORM, &self.secrets.platform),
            Login::Service => (contract::sql::SERVICE, &self.secrets.service),
        }
    }
}

/// Connection options of a URL, verified against `ca_file`.
pub fn options(url: &str, ca_file: &Path) -> Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse().context("read a database URL")?;
    Ok(options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca_file))
}

/// The user a server runs as when the platform is root.
fn server_user(name: &str) -> &str {
    if crate::supervisor::ids(name).is_ok() { name } else { "nobody" }
}

/// Puts `server.crt`, `server.key` and `ca.crt` into a server's folder, for `user`.
fn install_certificate(host: &Host, authority: &Authority, folder: &Path, user: &str) -> Result<()> {
    let (node, machine) = (host.node_ip().to_string(), host.host_ip().to_string());
    let name = folder.file_name().and_then(|name| name.to_str()).context("a server's folder has a name")?;
    let issued = authority.issue(name, name, &[], &[&node, &machine, "127.0.0.1", "localhost"])?;
    let key = folder.join("server.key");
    write_secret(&key, &issued.key)?;
    host.give(&key, user)?;
    fs::write(folder.join("server.crt"), &issued.certificate)?;
    fs::copy(authority.certificate_file(), folder.join("ca.crt"))
        .context("copy the authority's certificate")?;
    Ok(())
}

/// The data services of the journeys' platform, with the schema.
pub async fn shared() -> Result<DataServices> {
    let services = crate::Platform::shared().await?.data().clone();
    services.migrate().await?;
    Ok(services)
}
