//! Attacks on the isolation of tenants, as data: what is sent, and what must come of it.
//!
//! An attack is judged by what came back: no cell, copied byte or error text may hold a mark that only the victim's
//! data has. One that must be refused fails the test too when the server agrees to it.

pub mod catalogue;
pub mod redis_list;
pub mod service_list;
pub mod starvation;
pub mod tenant_list;
mod victim;

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

pub use victim::{Pair, TestTenant, redis_client, redis_connection, scram_verifier};

/// Longer than every limit that a server sets for a tenant.
const LIMIT: Duration = Duration::from_secs(20);

/// What must come of an attack, beside that nothing leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last statement is an error.
    Refused,
    /// It may succeed: there is nothing in it.
    Harmless,
}

/// One attack: statements sent one after the other in one session, whatever became of those before. `{victim}`,
/// `{victim_role}` and `{own_role}` stand for the victim's organization and the two logins.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What is tried, in words.
    pub name: &'static str,
    /// The statements; one that begins with `COPY` and ends in `STDOUT` is read as a copy.
    pub statements: &'static [&'static str],
    /// What must come of it.
    pub outcome: Outcome,
}

/// Shorthand for the lists.
const fn refused(name: &'static str, statements: &'static [&'static str]) -> Attack {
    Attack { name, statements, outcome: Outcome::Refused }
}

/// Shorthand for the lists.
const fn harmless(name: &'static str, statements: &'static [&'static str]) -> Attack {
    Attack { name, statements, outcome: Outcome::Harmless }
}

/// What one statement came to: all text that the server sent back, or its error.
#[derive(Debug)]
pub struct Reply {
    /// Cells and copied bytes as text.
    pub text: String,
    /// The error, with detail and hint.
    pub error: Option<String>,
    /// Whether the error ended the session.
    pub ended: bool,
}

/// Runs a list of attacks, each in a session of its own, and gives the defects found, in words.
pub async fn run(attacks: &[Attack], login: &PgConnectOptions, pair: &Pair) -> Result<Vec<String>> {
    let mut defects = Vec::new();
    for attack in attacks {
        let replies = tokio::time::timeout(LIMIT, send(attack, login, pair))
            .await
            .with_context(|| format!("{}: no end", attack.name))?
            .with_context(|| attack.name.to_owned())?;
        defects.extend(judge(attack, &replies, pair));
    }
    Ok(defects)
}

/// The defects that the replies show.
fn judge(attack: &Attack, replies: &[Reply], pair: &Pair) -> Vec<String> {
    let mut defects = Vec::new();
    for reply in replies {
        let error = reply.error.as_deref().unwrap_or_default();
        for mark in pair.victim.marks() {
            if reply.text.contains(&mark) || error.contains(&mark) {
                defects.push(format!("{}: the victim's {mark} came back", attack.name));
            }
        }
    }
    let agreed = replies.last().is_some_and(|reply| reply.error.is_none());
    if attack.outcome == Outcome::Refused && agreed {
        defects.push(format!("{}: was not refused", attack.name));
    }
    defects
}

async fn send(attack: &Attack, login: &PgConnectOptions, pair: &Pair) -> Result<Vec<Reply>> {
    let mut session = login.connect().await.context("log in")?;
    let mut replies = Vec::new();
    for statement in attack.statements {
        let reply = reply_to(&mut session, &pair.fill(statement)).await;
        let ended = reply.ended;
        replies.push(reply);
        // A session that the server ended is a refusal; what is left of the attack has nowhere to go.
        if ended {
            return Ok(replies);
        }
    }
    // The server may have ended the session, which is as good.
    let _ = session.close().await;
    Ok(replies)
}

/// Sends one statement by the simple protocol, as a client that wants no preparation does.
pub async fn reply_to(session: &mut PgConnection, statement: &str) -> Reply {
    let answer = if statement.starts_with("COPY") && statement.ends_with("STDOUT") {
        copied(session, statement).await
    } else {
        let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(session).await;
        rows.map(|rows| rows.iter().map(cells).collect())
    };
    match answer {
        Ok(text) => Reply { text, error: None, ended: false },
        Err(error) => {
            let ended = error.as_database_error().is_none();
            Reply { text: String::new(), error: Some(words(&error)), ended }
        }
    }
}

async fn copied(session: &mut PgConnection, statement: &str) -> sqlx::Result<String> {
    let mut stream = session.copy_out_raw(statement).await?;
    let mut text = String::new();
    while let Some(bytes) = stream.try_next().await? {
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok(text)
}

fn cells(row: &PgRow) -> String {
    let cell =
        |column: usize| row.try_get_raw(column).ok().and_then(|value| value.as_str().ok().map(str::to_owned));
    (0..row.len()).filter_map(cell).fold(String::new(), |text, cell| text + &cell + "\n")
}

fn words(error: &sqlx::Error) -> String {
    match error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    {
        Some(error) => format!(
            "{} {} {} {}",
            error.code(),
            error.message(),
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}

/// A digest of what no attack may change: the victim's rows and role, the schema with its rights, the programs' roles.
pub async fn fingerprint(superuser: &mut PgConnection, victim: &TestTenant) -> Result<String> {
    const QUERY: &str = "SELECT md5(string_agg(part, '|' ORDER BY part)) FROM (
            SELECT c::text FROM service_configs AS c WHERE org_id = $1
            UNION ALL SELECT h::text FROM config_history AS h WHERE org_id = $1
            UNION ALL SELECT q::text FROM quota_changes AS q WHERE org_id = $1
            UNION ALL SELECT o::text FROM organizations AS o WHERE id = $1
            UNION ALL SELECT r::text FROM tenant_roles AS r WHERE org_id = $1
            UNION ALL SELECT p::text FROM pg_policy AS p
            UNION ALL SELECT concat(oid, relname, relowner, relacl, relrowsecurity, relforcerowsecurity)
                FROM pg_class WHERE relnamespace = 'public'::regnamespace
            UNION ALL SELECT concat(oid, proname, proowner, proacl, prosrc, proconfig)
                FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT a::text FROM pg_authid AS a WHERE rolname = $2 OR rolname LIKE 'agent\\_ready\\_%'
            UNION ALL SELECT m::text FROM pg_auth_members AS m
                WHERE roleid::regrole::text IN ($2, 'agent_ready_owner', 'agent_ready_role_admin')
            UNION ALL SELECT s::text FROM pg_db_role_setting AS s WHERE setrole::regrole::text = $2
            UNION ALL SELECT l::text FROM pg_largeobject_metadata AS l
            UNION ALL SELECT nspname::text FROM pg_namespace
            UNION ALL SELECT extname::text FROM pg_extension
        ) AS parts (part)";
    sqlx::query_scalar(QUERY)
        .bind(victim.organization.0)
        .bind(&victim.role)
        .fetch_one(superuser)
        .await
        .context("take the fingerprint")
}
