//! Provisioners as processes of this machine, on a database of their own: no other replica resumes what they leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use contract::OrganizationId;
use kube::api::{Api as KubeApi, DeleteParams};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::{Remains, remains};
use crate::api::Api;
use crate::data::{DATABASE, Login, options};
use crate::deploy::settings;
use crate::{Platform, Program};

/// How long a replica may take to serve.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long an operation may take to end, deletion of a namespace and waiting for leases included.
const END_LIMIT: Duration = Duration::from_secs(90);

/// A database of its own, and the platform's rest.
pub struct Rig {
    platform: &'static Platform,
    database: String,
    kubeconfig: PathBuf,
}

/// A provisioner that runs on this machine.
pub struct Replica {
    /// The process.
    pub program: Program,
    /// Its API.
    pub api: Api,
}

/// How an operation ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `COMMITTED` or `FAILED`.
    pub state: String,
    /// The organization.
    pub organization: OrganizationId,
    /// What requests with its key are answered.
    pub answer: Value,
}

impl Rig {
    /// Makes the database, with its schema.
    pub async fn create() -> Result<Self> {
        let platform = Platform::shared().await?;
        let kubeconfig = platform.service_account_kubeconfig("provisioner").await?;
        let database = format!("rig_{}", Uuid::new_v4().simple());
        let rig = Self { platform, database, kubeconfig };
        let mut administration = PgConnection::connect_with(&rig.options(DATABASE)?).await?;
        execute(&mut administration, format!("CREATE DATABASE {}", rig.database)).await?;
        let mut own = rig.administrator().await?;
        let script = crate::workspace::root().join("migrations/bootstrap/database.sql");
        execute(&mut own, std::fs::read_to_string(script)?).await.context("bootstrap the database")?;
        let migration = rig.environment(settings::migration(platform));
        let mut migrate = Program::spawn("provisioner", &["migrate"], &migration)?;
        let status = migrate.wait(READY_LIMIT).await?;
        ensure!(status.success(), "migrate: {}", migrate.log());
        Ok(rig)
    }

    /// The platform.
    pub fn platform(&self) -> &'static Platform {
        self.platform
    }

    /// A kubeconfig of the provisioner's own account.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// An administrator's connection to the database.
    pub async fn administrator(&self) -> Result<PgConnection> {
        PgConnection::connect_with(&self.options(&self.database)?)
            .await
            .context("connect to the rig's database")
    }

    fn options(&self, database: &str) -> Result<sqlx::postgres::PgConnectOptions> {
        let services = self.platform.data();
        Ok(options(&services.database_url(Login::Superuser), services.ca_file())?.database(database))
    }

    /// Settings with the database's name put in.
    fn environment(&self, mut settings: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (name, value) in &mut settings {
            if name.ends_with("DATABASE_URL") {
                *value = value.replace(&format!("/{DATABASE}?"), &format!("/{}?", self.database));
            }
        }
        settings
    }

    /// Starts a replica and waits until it serves. `changes` go over its settings.
    pub async fn replica(&self, changes: &[(&str, &str)]) -> Result<Replica> {
        let listen = free_address()?;
        let mut environment = self.environment(settings::provisioner_process(self.platform));
        environment.insert("LISTEN".into(), listen.clone());
        environment.insert("KUBECONFIG".into(), self.kubeconfig.to_string_lossy().into_owned());
        environment.insert("DATABASE_CONNECTIONS".into(), "3".into());
        // Short, for tests wait for it; not too short, for this machine may be busy.
        environment.insert("LEASE_MILLISECONDS".into(), "6000".into());
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut arguments = vec!["serve"];
        if environment.contains_key("FAULT_POINT") {
            // It meets its fault in its own operation, and not in one that another left.
            arguments.extend(["--enable-fault-points", "--no-resume"]);
        }
        let mut program = Program::spawn("provisioner", &arguments, &environment)?;
        program.ready(&format!("http://{listen}/readyz"), READY_LIMIT).await?;
        Ok(Replica { program, api: Api::at(format!("http://{listen}"))? })
    }

    /// Runs `provisioner admin` with arguments and variables; what it prints.
    pub async fn admin(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
        let mut command = tokio::process::Command::new(crate::workspace::binary("provisioner")?);
        command.arg("admin").args(arguments).env_clear();
        command
            .envs(self.environment(settings::provisioner_process(self.platform)))
            .envs(variables.iter().copied());
        let output = command.output().await.context("run provisioner admin")?;
        ensure!(output.status.success(), "provisioner admin: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits for the end of the operation with this idempotency key.
    pub async fn outcome(&self, key: &str) -> Result<Outcome> {
        let mut database = self.administrator().await?;
        let deadline = Instant::now() + END_LIMIT;
        loop {
            let row: Option<(String, Uuid, Option<Value>)> =
                sqlx::query_as("SELECT state, org_id, answer FROM operations WHERE idempotency_key = $1")
                    .bind(key)
                    .fetch_optional(&mut database)
                    .await?;
            match row {
                Some((state, organization, Some(answer))) => {
                    return Ok(Outcome { state, organization: OrganizationId(organization), answer });
                }
                row if Instant::now() > deadline => bail!("{key}: no end after {END_LIMIT:?}: {row:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// What is there of an organization.
    pub async fn remains(&self, organization: OrganizationId) -> Result<Remains> {
        let client = self.platform.client().await?;
        remains(&client, self.platform.data(), &mut self.administrator().await?, organization).await
    }

    /// Whether the operation ended whole or without a trace; what is wrong otherwise.
    pub async fn judge(&self, key: &str, namespace: &str) -> Result<Outcome> {
        let outcome = self.outcome(key).await?;
        let remains = self.remains(outcome.organization).await?;
        let expected = match outcome.state.as_str() {
            "COMMITTED" => Remains::whole(namespace),
            "FAILED" => Remains::default(),
            state => bail!("{key} ended {state}"),
        };
        ensure!(remains == expected, "{key} ended {} and left {remains:#?}", outcome.state);
        Ok(outcome)
    }

    /// Removes the tenants and the database.
    pub async fn remove(self) -> Result<()> {
        let mut own = self.administrator().await?;
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT id, namespace FROM organizations WHERE status = 'COMMITTED'")
                .fetch_all(&mut own)
                .await?;
        let namespaces: KubeApi<k8s_openapi::api::core::v1::Namespace> =
            KubeApi::all(self.platform.client().await?);
        for (organization, namespace) in rows {
            sqlx::query("SELECT tenant_role_drop($1)").bind(organization).execute(&mut own).await?;
            let _ = namespaces.delete(&namespace, &DeleteParams::background()).await;
        }
        own.close().await?;
        let mut administration = PgConnection::connect_with(&self.options(DATABASE)?).await?;
        execute(&mut administration, format!("DROP DATABASE {} WITH (FORCE)", self.database)).await
    }
}

async fn execute(connection: &mut PgConnection, statements: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}

/// An address of this machine that nothing listens on.
fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.to_string())
}
