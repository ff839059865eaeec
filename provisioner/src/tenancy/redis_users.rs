//! Redis users behind a port, so that one shared user can take the place of one user a tenant.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use futures::future::{BoxFuture, FutureExt};
use redis::{AsyncConnectionConfig, Client, Cmd, TlsCertificates, aio::MultiplexedConnection, cmd};
use tokio::sync::Mutex;

use super::Failure;

/// Makes and removes Redis users. Both can be done again.
pub trait RedisUsers: Send + Sync {
    /// Makes a user, or gives it these rules and no other; the user survives a restart of Redis.
    fn set<'a>(&'a self, name: &'a str, rules: &'a [String]) -> BoxFuture<'a, Result<(), Failure>>;
    /// Removes a user, if there is one.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Users in Redis's own access control list, saved to its ACL file at each change.
#[derive(Clone)]
pub struct AclUsers {
    client: Client,
    config: AsyncConnectionConfig,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl AclUsers {
    /// Users of the Redis at `url`; with a CA the server's certificate and name are verified.
    pub fn new(url: &str, ca_file: Option<&Path>, call_max: Duration) -> anyhow::Result<Self> {
        let client = match ca_file {
            Some(path) if url.starts_with("rediss://") => {
                let pem = std::fs::read(path).with_context(|| format!("CA file {}", path.display()))?;
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(pem) })
            }
            _ => Client::open(url),
        }
        .context("Redis administrator's URL")?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(call_max))
            .set_response_timeout(Some(call_max));
        Ok(Self { client, config, connection: Arc::default() })
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Failure> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref() {
            return Ok(connection.clone());
        }
        let made = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let made = made.map_err(|error| failed(&error))?;
        Ok(kept.insert(made).clone())
    }

    /// Sends commands in one go. A connection that fails is not used again.
    async fn send(&self, commands: &[Cmd]) -> Result<(), Failure> {
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        for command in commands {
            pipeline.add_command(command.clone()).ignore();
        }
        let sent: Result<(), redis::RedisError> = pipeline.query_async(&mut connection).await;
        if let Err(error) = sent {
            *self.connection.lock().await = None;
            return Err(failed(&error));
        }
        Ok(())
    }
}

/// Every failure of Redis is worth another try: what is refused today (loading, read-only, a renewed password) may pass
/// within the operation's time. The error's code alone is kept, for its text can repeat the command and its password.
fn failed(error: &redis::RedisError) -> Failure {
    let code = error.code().unwrap_or_else(|| error.category());
    Failure::transient(format!("Redis: {code}"))
}

impl RedisUsers for AclUsers {
    fn set<'a>(&'a self, name: &'a str, rules: &'a [String]) -> BoxFuture<'a, Result<(), Failure>> {
        let set = cmd("ACL").arg("SETUSER").arg(name).arg(rules).take();
        async move { self.send(&[set, acl_save()]).await }.boxed()
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        let remove = cmd("ACL").arg("DELUSER").arg(name).take();
        async move { self.send(&[remove, acl_save()]).await }.boxed()
    }
}

fn acl_save() -> Cmd {
    cmd("ACL").arg("SAVE").take()
}
