//! Settings: flags, and environment variables of the same name in capitals. `--help` shows them all.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::http::HeaderName;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::tenancy::FaultPoint;

/// The control API of agent-ready-k8s.
#[derive(Debug, Parser)]
#[command(name = "provisioner", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves the API.
    Serve(Box<ServeSettings>),
    /// Brings the database's schema up to date, under a role that is not the service's.
    Migrate(MigrateSettings),
    /// Makes platform operators and invitations.
    Admin(AdminSettings),
}

/// Settings of `provisioner serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeSettings {
    /// Address to serve HTTP on.
    #[arg(long, env, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// PostgreSQL, the role for the data of one organization at a time.
    #[arg(long, env, hide_env_values = true)]
    pub database_url: String,
    /// PostgreSQL, the role for coordination across organizations.
    #[arg(long, env, hide_env_values = true)]
    pub platform_database_url: String,
    /// Most connections to PostgreSQL of each of the two roles.
    #[arg(long, env, default_value_t = 16)]
    pub database_connections: u32,
    /// Redis, the user that may only publish.
    #[arg(long, env, hide_env_values = true)]
    pub redis_url: String,
    /// Redis, the user that may only manage other users.
    #[arg(long, env, hide_env_values = true)]
    pub redis_admin_url: String,
    /// PEM bundle that the certificates of PostgreSQL and Redis chain to.
    #[arg(long, env)]
    pub ca_file: Option<PathBuf>,
    /// Directory of EC P-256 private keys in PEM; the newest file name signs, all are published.
    #[arg(long, env)]
    pub signing_keys_dir: PathBuf,
    /// File of at least 32 random bytes that tenants' credentials are derived from.
    #[arg(long, env)]
    pub master_key_file: PathBuf,
    /// `host:port/database` of the pooler, as tenants' sidecars reach it.
    #[arg(long, env)]
    pub tenant_database_address: String,
    /// `host:port` of Redis, as tenants' sidecars reach it.
    #[arg(long, env)]
    pub tenant_redis_address: String,
    /// What tenants' pods may reach: a JSON list of platform peers.
    #[arg(long, env, default_value = "[]")]
    pub platform_peers: String,
    /// What stands before an owner's email in RBAC: the apiserver's OIDC username prefix.
    #[arg(long, env, default_value = "agent-ready:")]
    pub owner_prefix: String,
    /// Who may create an organization.
    #[arg(long, env, value_enum, default_value_t = Registration::Open)]
    pub registration: Registration,
    /// Creations a minute that one owner email may ask for.
    #[arg(long, env, default_value_t = 30)]
    pub registrations_per_email: u32,
    /// Creations a minute that one client address may ask for.
    #[arg(long, env, default_value_t = 120)]
    pub registrations_per_address: u32,
    /// Failed logins in five minutes for one email address.
    #[arg(long, env, default_value_t = 10)]
    pub login_failures_per_email: u32,
    /// Failed logins in five minutes from one client address.
    #[arg(long, env, default_value_t = 100)]
    pub login_failures_per_address: u32,
    /// Most keys with a value that one organization may have.
    #[arg(long, env, default_value_t = 1_000)]
    pub config_keys_max: u32,
    /// Most bytes of configuration of one organization: names and values, and 256 for each key that was ever used. Each of
    /// its pods holds all of it in a sidecar of 64 MiB.
    #[arg(long, env, default_value_t = 4 << 20)]
    pub config_bytes_max: u32,
    /// Header in which the proxy before us tells the client's address; its last entry counts. Without it the connection's
    /// own address counts, which behind a proxy is the proxy's for everybody.
    #[arg(long, env)]
    pub client_address_header: Option<HeaderName>,
    /// Issuer of our tokens: the API's own public URL.
    #[arg(long, env, default_value = "http://localhost:8080")]
    pub issuer: String,
    /// How the saga is run.
    #[command(flatten)]
    pub saga: SagaSettings,
    /// Leaves what other replicas did not finish to others, for tests.
    #[arg(long, env, requires = "enable_fault_points", hide = true)]
    pub no_resume: bool,
    /// Where the program aborts, for tests: `abort-before:STEP`, `abort-during:STEP` or `abort-after:STEP`.
    #[arg(long, env, requires = "enable_fault_points", hide = true)]
    pub fault_point: Option<FaultPoint>,
    /// Lets `--fault-point` be set. Never in production.
    #[arg(long, hide = true)]
    pub enable_fault_points: bool,
}

/// How operations are run, given up and taken over.
#[derive(Debug, Clone, Args)]
pub struct SagaSettings {
    /// How long a replica that says nothing keeps an operation, in milliseconds.
    #[arg(long, env, default_value_t = 15_000)]
    pub lease_milliseconds: u64,
    /// How long an operation is tried before it is undone, in milliseconds since it was asked for.
    #[arg(long, env, default_value_t = 120_000)]
    pub operation_milliseconds_max: u64,
    /// How long a request waits for its operation before it is answered 202, in milliseconds.
    #[arg(long, env, default_value_t = 30_000)]
    pub wait_milliseconds_max: u64,
    /// Time limit of one Kubernetes, PostgreSQL or Redis call, in milliseconds.
    #[arg(long, env, default_value_t = 5_000)]
    pub call_milliseconds_max: u64,
}

impl SagaSettings {
    /// How long a silent replica keeps an operation.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_milliseconds)
    }

    /// How long an operation is tried before it is undone.
    pub fn operation_max(&self) -> Duration {
        Duration::from_millis(self.operation_milliseconds_max)
    }

    /// How long a request waits for its operation.
    pub fn wait_max(&self) -> Duration {
        Duration::from_millis(self.wait_milliseconds_max)
    }

    /// Time limit of one call.
    pub fn call_max(&self) -> Duration {
        Duration::from_millis(self.call_milliseconds_max)
    }
}

/// Who may create an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Everyone.
    Open,
    /// Who has an invitation code.
    Invite,
    /// Platform operators alone.
    Closed,
}

/// Settings of `provisioner migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateSettings {
    /// PostgreSQL, a login that may become the schema's owner.
    #[arg(long, env, hide_env_values = true)]
    pub migration_database_url: String,
    /// PEM bundle that PostgreSQL's certificate chains to.
    #[arg(long, env)]
    pub ca_file: Option<PathBuf>,
}

/// Settings of `provisioner admin`.
#[derive(Debug, Clone, Args)]
pub struct AdminSettings {
    /// PostgreSQL, the role for coordination across organizations.
    #[arg(long, env, hide_env_values = true)]
    pub platform_database_url: String,
    /// PEM bundle that PostgreSQL's certificate chains to.
    #[arg(long, env)]
    pub ca_file: Option<PathBuf>,
    /// What to make.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What `provisioner admin` makes.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Makes a platform operator, or gives the role to an existing user.
    Create {
        /// The operator's email address.
        #[arg(long)]
        email: String,
        /// The password; read from standard input unless given in the environment.
        #[arg(long, env = "ADMIN_PASSWORD", hide_env_values = true)]
        password: Option<String>,
    },
    /// Makes an invitation code, prints it once and keeps its hash.
    Invite {
        /// Days until it expires.
        #[arg(long, default_value_t = 7)]
        days: u32,
    },
}
