//! What a tenant tries in Redis with its sidecar's user.

use std::time::Duration;

use anyhow::Result;

use super::{Pair, redis_connection};
use crate::data::DataServices;

/// A refusal takes microseconds; a subscription that was allowed has no answer that ends.
const LIMIT: Duration = Duration::from_secs(5);

/// One command that must be refused with NOPERM. `{victim}` and `{own}` stand for the organizations.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What is tried, in words.
    pub name: &'static str,
    /// The command's words.
    pub words: &'static [&'static str],
}

const fn command(name: &'static str, words: &'static [&'static str]) -> Command {
    Command { name, words }
}

/// Whether Redis refused a command: to the user, or to everybody by its configuration.
fn is_refusal(error: &redis::RedisError) -> bool {
    error.code() == Some("NOPERM") || error.to_string().contains("command not allowed")
}

/// Whether a user gets as far as a PING. The client sends no empty password, and a connection alone proves nothing.
async fn logs_in(services: &DataServices, url: &str) -> bool {
    match redis_connection(services, url).await {
        Ok(mut session) => redis::cmd("PING").query_async::<String>(&mut session).await.is_ok(),
        Err(_) => false,
    }
}

/// All of them.
pub const ALL: &[Command] = &[
    command("publish to its own channel", &["PUBLISH", "config:{own}:ai:threshold", "version=9"]),
    command("publish to the victim's channel", &["PUBLISH", "config:{victim}:ai:threshold", "version=9"]),
    command("publish to a shard", &["SPUBLISH", "config:{own}:ai:threshold", "version=9"]),
    command("subscribe to the victim's channel", &["SUBSCRIBE", "config:{victim}:ai:threshold"]),
    command("subscribe to the victim's pattern", &["PSUBSCRIBE", "config:{victim}:*"]),
    command("subscribe to everything", &["PSUBSCRIBE", "*"]),
    command("subscribe to all organizations", &["PSUBSCRIBE", "config:*"]),
    command("subscribe to a wider pattern of its own", &["PSUBSCRIBE", "config:{own}*"]),
    command("subscribe to both", &["SUBSCRIBE", "config:{own}:ai:threshold", "config:{victim}:ai:threshold"]),
    command("subscribe to key events", &["PSUBSCRIBE", "__keyspace@0__:*"]),
    command("subscribe to a shard", &["SSUBSCRIBE", "config:{own}:ai:threshold"]),
    command("list channels", &["PUBSUB", "CHANNELS"]),
    command("count subscribers", &["PUBSUB", "NUMSUB", "config:{victim}:ai:threshold"]),
    command("read a key", &["GET", "k"]),
    command("write a key", &["SET", "k", "v"]),
    command("delete a key", &["DEL", "k"]),
    command("list keys", &["KEYS", "*"]),
    command("walk keys", &["SCAN", "0"]),
    command("empty the database", &["FLUSHALL"]),
    command("another database", &["SELECT", "1"]),
    command("list clients", &["CLIENT", "LIST"]),
    command("kill clients", &["CLIENT", "KILL", "TYPE", "pubsub"]),
    command("pause clients", &["CLIENT", "PAUSE", "1000"]),
    command("its client id", &["CLIENT", "ID"]),
    command("a client name", &["CLIENT", "SETNAME", "publisher"]),
    command("not to be evicted", &["CLIENT", "NO-EVICT", "on"]),
    command("invalidation of the victim's keys", &["CLIENT", "TRACKING", "on", "BCAST"]),
    command("read the configuration", &["CONFIG", "GET", "*"]),
    command("write the configuration", &["CONFIG", "SET", "maxclients", "1"]),
    command("list users", &["ACL", "LIST"]),
    command("read a user", &["ACL", "GETUSER", "publisher"]),
    command("its own name", &["ACL", "WHOAMI"]),
    command("widen itself", &["ACL", "SETUSER", "t-{own}-0", "allchannels"]),
    command("remove the victim", &["ACL", "DELUSER", "t-{victim}-0"]),
    command("reload users", &["ACL", "LOAD"]),
    command("refusals of others", &["ACL", "LOG"]),
    command("watch everything", &["MONITOR"]),
    command("server information", &["INFO"]),
    command("slow commands", &["SLOWLOG", "GET"]),
    command("latency", &["LATENCY", "LATEST"]),
    command("memory", &["MEMORY", "STATS"]),
    command("a script", &["EVAL", "return redis.call('PUBLISH', 'config:{victim}:a:b', 'version=9')", "0"]),
    command("a function", &["FUNCTION", "LIST"]),
    command("a module", &["MODULE", "LOAD", "/tmp/x.so"]),
    command("a transaction", &["MULTI"]),
    command("become a replica", &["REPLICAOF", "127.0.0.1", "1"]),
    command("follow the replication", &["PSYNC", "?", "-1"]),
    command("copy keys away", &["MIGRATE", "127.0.0.1", "1", "k", "0", "1"]),
    command("save to disk", &["BGSAVE"]),
    command("sleep", &["DEBUG", "SLEEP", "1"]),
    command("stop the server", &["SHUTDOWN", "NOSAVE"]),
    command("list commands", &["COMMAND"]),
    command("the clock", &["TIME"]),
];

/// Logins that must fail: the user that everybody has in a fresh Redis, and ours with guessed passwords.
pub const LOGINS: &[(&str, &str)] = &[
    ("default", ""),
    ("default", "redis"),
    ("publisher", "publisher"),
    ("acl-admin", ""),
    ("observer", "observer"),
];

/// Tries all commands and logins with the attacker's user, and gives the defects found, in words.
pub async fn run(services: &DataServices, pair: &Pair) -> Result<Vec<String>> {
    let mut defects = Vec::new();
    for command in ALL {
        let mut session = redis_connection(services, &pair.attacker.redis_url(services)).await?;
        let mut sent = redis::Cmd::new();
        for word in command.words {
            sent.arg(pair.fill(word));
        }
        match tokio::time::timeout(LIMIT, sent.query_async::<redis::Value>(&mut session)).await {
            Ok(Err(error)) if is_refusal(&error) => {}
            other => defects.push(format!("{}: {other:?}", command.name)),
        }
    }
    for (user, password) in LOGINS {
        let url = format!("rediss://{user}:{password}@{}", services.tenant_redis_address());
        if logs_in(services, &url).await {
            defects.push(format!("{user} logs in with {password:?}"));
        }
    }
    Ok(defects)
}
