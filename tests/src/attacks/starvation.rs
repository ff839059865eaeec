//! A tenant that takes all it can get, and what another notices of it.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::{Pair, TestTenant, redis_client, reply_to};
use crate::data::{DATABASE, DataServices, Login, postgres};

/// What the sidecar sends after an announcement.
const RELOAD: &str = "SELECT service, key, value::text, version, epoch, revision, deleted, updated_at \
     FROM service_configs WHERE revision > 0 ORDER BY revision";

/// Connections that the greedy tenant has at once.
pub const CONNECTIONS: usize = 1000;

/// Connections that it opens: a few may be thrown out before the last is there.
const OPENED: usize = 1050;

/// Connections to Redis that are being opened at once.
const HANDSHAKES: usize = 16;

/// How long the attack may take: opening them on a busy machine, then holding on until the limits end the last.
const ATTACK: Duration = Duration::from_mins(2);

/// A transaction without limits of its own, held as long as it is let.
const HOLD: &str = "SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
BEGIN;
SELECT key FROM service_configs;
\\sleep 20 s
";

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

/// Lets the attacker hold all the connections it gets while the victim reloads; gives the victim's slowest reload,
/// connecting included, and how many connections there were at once.
pub async fn greedy(services: &DataServices, pair: &Pair) -> Result<(Duration, usize)> {
    let stop = Arc::new(AtomicBool::new(false));
    let login = pair.victim.options(services, &services.tenant_database_address())?;
    let reader = reload_until(&stop, login);
    let attacked = attack(services, &pair.attacker).await;
    stop.store(true, Ordering::Relaxed);
    let slowest = tokio::task::spawn_blocking(move || reader.join()).await?;
    let slowest = slowest.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok((slowest, attacked?))
}

/// Runs pgbench, which opens connections with less work than a driver in a test program, until all its clients were
/// thrown out; gives the most connections seen at once.
async fn attack(services: &DataServices, attacker: &TestTenant) -> Result<usize> {
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(HOLD.as_bytes())?;
    let pooler = services.pgbouncer;
    let mut command = tokio::process::Command::new(postgres::binaries()?.join("pgbench"));
    command.args(["--no-vacuum", "--jobs=2", "--time=15"]).arg(format!("--client={OPENED}"));
    command.arg("--file").arg(script.path());
    command.arg(format!("--host={}", pooler.ip())).arg(format!("--port={}", pooler.port()));
    command.arg(format!("--username={}", attacker.role)).arg(DATABASE);
    command.env("PGPASSWORD", &attacker.password);
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", services.ca_file());
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut flood = command.spawn().context("start pgbench")?;
    let deadline = Instant::now() + ATTACK;
    let mut most = 0;
    while flood.try_wait()?.is_none() && Instant::now() < deadline {
        let current = connections(pooler)?;
        // The pooler has thrown them out; the two that had a server are asleep.
        if most >= CONNECTIONS && current < CONNECTIONS / 10 {
            break;
        }
        most = most.max(current);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(most)
}

/// How many connections this machine has established to a server, by `/proc/net/tcp`: the remote address is the third
/// field (hexadecimal, in host byte order), the state the fourth (01: established).
fn connections(server: SocketAddr) -> Result<usize> {
    let IpAddr::V4(address) = server.ip() else { anyhow::bail!("{server} is not an IPv4 address") };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.octets()), server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").context("read /proc/net/tcp")?;
    let established = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next() == Some(&remote) && fields.next() == Some("01")
    };
    Ok(table.lines().filter(established).count())
}

/// Connections to Redis that a tenant holds, each with a subscription; they end with the value.
pub struct Subscribers {
    stop: Arc<AtomicBool>,
    server: SocketAddr,
}

impl Subscribers {
    /// Opens [`CONNECTIONS`] of them and holds them.
    pub async fn open(services: &DataServices, attacker: &TestTenant) -> Result<Self> {
        let server = services.tenant_redis_address().parse().context("an address")?;
        let (client, stop) = (redis_client(services, &attacker.redis_url(services))?, Arc::default());
        let pattern = contract::channel::pattern(attacker.organization);
        let subscribers = Self { stop: Arc::clone(&stop), server };
        let (told, opened) = tokio::sync::oneshot::channel();
        // A thread and a runtime of its own, as above.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let subscribe = async |_| {
                    let mut connection = client.get_async_pubsub().await?;
                    connection.psubscribe(&pattern).await?;
                    anyhow::Ok(connection)
                };
                let all = stream::iter(0..CONNECTIONS).map(subscribe).buffer_unordered(HANDSHAKES);
                let all: Result<Vec<_>> = all.try_collect().await;
                let held = told.send(all.as_ref().map(Vec::len).map_err(|error| format!("{error:#}")));
                while held.is_ok() && !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                anyhow::Ok(())
            })
        });
        opened.await?.map_err(|error| anyhow::anyhow!("the attacker cannot connect to Redis: {error}"))?;
        Ok(subscribers)
    }

    /// How many of them there are now, by the kernel's table; those of others on this machine are among them.
    pub fn count(&self) -> Result<usize> {
        connections(self.server)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
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
