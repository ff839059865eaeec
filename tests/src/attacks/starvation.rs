//! A tenant that takes all it can get, and what another notices of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::{Pair, reply_to};
use crate::data::{DataServices, Login};

/// What the sidecar sends after an announcement.
const RELOAD: &str = "SELECT service, key, value::text, version, epoch, revision, deleted, updated_at \
     FROM service_configs WHERE revision > 0 ORDER BY revision";

/// Connections that the greedy tenant opens.
pub const CONNECTIONS: usize = 1000;

/// How many of them are made at a time: the attacker's own machine has an end too.
const AT_ONCE: usize = 32;

/// How long the tenant may take to open them, and how long it then begins transactions and holds them.
const OPENING: Duration = Duration::from_mins(1);
const HOLDING: Duration = Duration::from_secs(8);

/// Connects and reads again and again until told to stop; gives the slowest round.
fn reload_until(
    stop: &Arc<AtomicBool>,
    login: PgConnectOptions,
) -> std::thread::JoinHandle<Result<Duration>> {
    let stop = Arc::clone(stop);
    // A thread and a runtime of its own: the attacker's work in this process must not pass for a slow server.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let mut session = login.connect().await.context("the other tenant cannot connect")?;
                let reply = reply_to(&mut session, RELOAD).await;
                slowest = slowest.max(start.elapsed());
                anyhow::ensure!(reply.error.is_none(), "the other tenant cannot read: {reply:?}");
                session.close().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(slowest)
        })
    })
}

/// Begins a transaction without limits of its own and holds it as long as it is let; again and again.
async fn hold(login: PgConnectOptions, mut session: PgConnection) {
    let begun = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; BEGIN; \
         SELECT key FROM service_configs";
    loop {
        if !reply_to(&mut session, begun).await.ended {
            tokio::time::sleep(HOLDING).await;
        }
        if let Ok(another) = login.connect().await {
            session = another;
        }
    }
}

/// Lets the attacker hold all the connections it gets while the victim reloads; gives the victim's slowest reload,
/// connecting included, and how many connections the attacker had at once.
pub async fn greedy(services: &DataServices, pair: &Pair) -> Result<(Duration, usize)> {
    let address = services.tenant_database_address();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = reload_until(&stop, pair.victim.options(services, &address)?);
    let login = pair.attacker.options(services, &address)?;
    let connecting = stream::iter(0..CONNECTIONS).map(|_| login.connect()).buffer_unordered(AT_ONCE);
    let opened = tokio::time::timeout(OPENING, connecting.try_collect::<Vec<_>>()).await;
    let mut holders = JoinSet::new();
    let opened = match opened {
        Ok(opened) => opened.context("open the attacker's connections")?,
        Err(_) => Vec::new(),
    };
    let count = opened.len();
    for session in opened {
        holders.spawn(hold(login.clone(), session));
    }
    tokio::time::sleep(HOLDING).await;
    stop.store(true, Ordering::Relaxed);
    holders.shutdown().await;
    let slowest = tokio::task::spawn_blocking(move || reader.join()).await?;
    let slowest = slowest.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok((slowest, count))
}

/// How long the server lets `statements` go on, one a pause, within one transaction without own limits.
async fn lifetime(login: &PgConnectOptions, pause: Duration, most: Duration) -> Result<Duration> {
    let mut session = login.connect().await?;
    let start = Instant::now();
    let begun = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; BEGIN";
    anyhow::ensure!(reply_to(&mut session, begun).await.error.is_none());
    while start.elapsed() < most {
        tokio::time::sleep(pause).await;
        if reply_to(&mut session, "SELECT 1").await.error.is_some() {
            break;
        }
    }
    Ok(start.elapsed())
}

/// How long two transactions live: an idle one, which ends by the pooler, and one of many short statements,
/// which ends by the function that the watchdog calls.
pub async fn endings(services: &DataServices, pair: &Pair) -> Result<(Duration, Duration)> {
    let pooled = pair.attacker.options(services, &services.tenant_database_address())?;
    let direct = pair.attacker.options(services, &services.direct_database_address())?;
    let mut platform = PgConnection::connect_with(&services.options(Login::Platform)?).await?;
    let watchdog = tokio::spawn(async move {
        loop {
            sqlx::query("SELECT tenant_transactions_end('5 s')").execute(&mut platform).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        #[allow(unreachable_code, reason = "gives the block its type")]
        anyhow::Ok(())
    });
    let most = Duration::from_secs(15);
    let idle = lifetime(&pooled, Duration::from_secs(8), most);
    let busy = lifetime(&direct, Duration::from_millis(200), most);
    let (idle, busy) = tokio::join!(idle, busy);
    watchdog.abort();
    Ok((idle?, busy?))
}
