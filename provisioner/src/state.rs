//! What the handlers share: settings, pools, clients, the domain's services.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode},
};

use crate::{
    config::{Configuration, capacity::Capacity},
    identity::{Identity, throttle::LoginLimits},
    kube,
    settings::ServeSettings,
    tenancy::Tenancy,
};

/// How long a request waits for a connection to PostgreSQL.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// Connections that are kept ready: a login costs milliseconds.
const CONNECTIONS_MIN: u32 = 4;
/// How long an idle connection is taken to be alive without asking.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// Shared by all handlers; a clone is a few counters.
#[derive(Clone)]
pub struct AppState {
    /// What the program was started with.
    pub settings: Arc<ServeSettings>,
    /// PostgreSQL across organizations: organizations, operations, users, memberships, outbox.
    pub platform: PgPool,
    /// PostgreSQL within one organization: needs `app.current_org`, set with `SET LOCAL` in each transaction.
    pub service: PgPool,
    /// Passwords, tokens, keys.
    pub identity: Identity,
    /// Configuration values.
    pub config: Configuration,
    /// Creation of tenants.
    pub tenancy: Arc<Tenancy>,
}

impl AppState {
    /// Connects to what the settings name. PostgreSQL and Redis are reached lazily: what is down makes us unready, not dead.
    pub async fn connect(settings: ServeSettings) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let ca_file = settings.ca_file.as_deref();
        let platform = pool(&settings.platform_database_url, ca_file, settings.database_connections)?;
        let service = pool(&settings.database_url, ca_file, settings.database_connections)?;
        let limits = LoginLimits {
            per_email: settings.login_failures_per_email,
            per_address: settings.login_failures_per_address,
        };
        let identity =
            Identity::load(&settings.signing_keys_dir, &settings.issuer, limits).context("signing keys")?;
        let capacity =
            Capacity { keys: settings.config_keys_max.into(), bytes: settings.config_bytes_max.into() };
        let config = Configuration::new(service.clone(), &settings.redis_url, ca_file, capacity)?;
        let kube = kube::client(settings.saga.call_max()).await.context("Kubernetes client")?;
        let tenancy = Arc::new(Tenancy::new(&settings, platform.clone(), kube, identity.passwords.clone())?);
        Ok(Self { settings, platform, service, identity, config, tenancy })
    }
}

/// A pool of connections made when needed. With a CA the server's certificate and name are verified.
pub fn pool(url: &str, ca_file: Option<&Path>, connections: u32) -> anyhow::Result<PgPool> {
    let options = PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(CONNECTIONS_MIN.min(connections))
        .acquire_timeout(ACQUIRE_MAX)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                // The server may have gone while the connection lay idle; a busy one shows it by itself.
                if meta.idle_for > IDLE_TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // A future dropped inside `begin()` can leave a transaction open (sqlx issues 4385, 4393): the next user
                // of the connection must not find it, nor the organization set in it. BEGIN first: a ROLLBACK of nothing
                // would put a warning into the server's log each time.
                sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await?;
                Ok(true)
            })
        });
    Ok(options.connect_lazy_with(connect_options(url, ca_file)?))
}

/// Connection options of a URL, with TLS verified against `ca_file` where there is one.
pub fn connect_options(url: &str, ca_file: Option<&Path>) -> anyhow::Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse().context("not a PostgreSQL URL")?;
    Ok(match ca_file {
        Some(ca) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca),
        None => options,
    })
}
