//! The gate against a small model: random sequences of operations on namespaces, baselines, labels and pods, replicas
//! killed meanwhile, and the two never differ. Alone in its binary, because it kills replicas.
//!
//! A failure names the sequence's seed: `MODEL_SEED=<seed> MODEL_SEQUENCES=1` runs that sequence again.

mod gate;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use gate::Gate;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::{
    load::Webhook,
    model::{Clients, Kills, Sequence},
};
use tokio_util::sync::CancellationToken;

/// Sequences within `make test`; `MODEL_SEQUENCES` says otherwise.
const SEQUENCES: u64 = 200;
/// Sequences at once: they mostly wait for the API server's selectors and controllers.
const AT_ONCE: usize = 16;
/// How often a long run says how far it is.
const TOLD_EVERY: u64 = 500;
/// Between two kills of a replica: time enough to start again.
const BETWEEN_KILLS: Duration = Duration::from_secs(25);

fn setting(name: &str) -> Result<Option<u64>> {
    let value = std::env::var(name).ok();
    value.map(|value| value.parse().with_context(|| format!("{name}={value}"))).transpose()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_sequences_never_differ_from_the_model() -> Result<()> {
    let gate = Gate::shared().await?;
    let clients = Clients::of(gate.platform).await?;
    let sequences = setting("MODEL_SEQUENCES")?.unwrap_or(SEQUENCES);
    let first = setting("MODEL_SEED")?.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
    println!("{sequences} sequences, seeds from {first}");
    let (kills, stop, started) = (Kills::default(), CancellationToken::new(), Instant::now());
    let run = async {
        let mut operations = 0;
        let mut running = futures::stream::iter(
            (first..first + sequences).map(|seed| Sequence::run(&clients, &kills, seed)),
        )
        .buffer_unordered(AT_ONCE);
        let outcome = async {
            for ended in 1.. {
                let Some(done) = running.next().await else { break };
                operations += done?;
                if ended % TOLD_EVERY == 0 {
                    println!("{ended} sequences in {:.1} s", started.elapsed().as_secs_f32());
                }
            }
            anyhow::Ok(())
        }
        .await;
        stop.cancel();
        outcome.map(|()| operations)
    };
    let (operations, killed) = tokio::join!(run, kill(&gate, &kills, &stop, first));
    let operations = operations?;
    killed?;
    println!(
        "{operations} operations in {:.1} s, {} replicas killed",
        started.elapsed().as_secs_f32(),
        kills.count()
    );
    ensure!(operations >= 20 * usize::try_from(sequences)?, "only {operations} operations");
    Webhook::on(gate.platform).rolled_out().await
}

/// Kills a replica now and then until `stop`. Where no pods run there are none to kill, and that is said.
async fn kill(gate: &Gate, kills: &Kills, stop: &CancellationToken, seed: u64) -> Result<()> {
    if !gate.platform.has_node() {
        eprintln!("NOT PROVED: no replica is killed, for no pods run here ({})", gate.platform.no_node());
        return Ok(());
    }
    let (webhook, mut random) = (Webhook::on(gate.platform), StdRng::seed_from_u64(seed));
    while stop.run_until_cancelled(tokio::time::sleep(BETWEEN_KILLS)).await.is_some() {
        kills.note();
        webhook.kill_one(&mut random).await?;
    }
    Ok(())
}
