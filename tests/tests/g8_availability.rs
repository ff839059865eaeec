//! G8: replicas that are replaced, killed and struck under constant load. Alone in its binary, because it takes replicas away
//! from everyone. `make chaos` runs the last of these for ten minutes.

mod gate;

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use gate::Gate;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::deploy;
use tests::load::{Fault, Load, Namespaces, Outcome, Webhook};

/// The availability run within `make test`; `AVAILABILITY_SECONDS` says otherwise.
const RUN: Duration = Duration::from_secs(75);
/// Stages of an authority's rotation, short enough for a run.
const OVERLAP: &str = "CA_OVERLAP_SECONDS=4";

/// Who writes labels by the version before: one more than by this one.
const WRITERS_BEFORE: &str = "system:serviceaccount:agent-ready-system:provisioner,before@journey.example";
/// Of the webhook.
const REPLICAS: u32 = 2;

/// Namespaces under load, and who may write to them.
struct Field {
    gate: Gate,
    namespaces: Namespaces,
    admin: kube::Client,
    writer: kube::Client,
}

impl Field {
    /// Nothing where no pods run: then there are no replicas to strike.
    async fn new() -> Result<Option<Self>> {
        let gate = Gate::shared().await?;
        if !gate.platform.has_node() {
            eprintln!("NOT PROVED: no pods run here ({})", gate.platform.no_node());
            return Ok(None);
        }
        let namespaces = Namespaces {
            bare: vec![gate.namespace().await?],
            complete: vec![gate.baseline().await?],
            ready: vec![gate.ready().await?, gate.ready().await?],
            changing: vec![gate.baseline().await?],
        };
        let admin = gate.platform.client().await?;
        let kubeconfig = gate.platform.service_account_kubeconfig("provisioner").await?;
        let writer = tests::platform::client_of(&kubeconfig).await?;
        Ok(Some(Self { gate, namespaces, admin, writer }))
    }

    fn load(&self) -> Load {
        Load::start(&self.admin, &self.writer, &self.namespaces)
    }

    async fn end(&self) -> Result<()> {
        let Namespaces { bare, complete, ready, changing } = &self.namespaces;
        let all: Vec<&str> =
            [bare, complete, ready, changing].into_iter().flatten().map(String::as_str).collect();
        self.gate.delete(&all).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_under_load_fails_no_admission() -> Result<()> {
    let Some(field) = Field::new().await? else { return Ok(()) };
    let load = field.load();
    let rolled = Webhook::on(field.gate.platform).roll().await;
    // The replicas that leave are still leaving.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let report = load.end().await?;
    println!("a rolling update:\n{report}");
    rolled?;
    ensure!(report.violations().is_empty(), "{:?}", report.violations());
    for outcome in [Outcome::Unreachable, Outcome::Unknown] {
        ensure!(report.of(outcome) == 0, "{outcome:?}: {}", report.of(outcome));
    }
    ensure!(report.of(Outcome::Refused) > 50 && report.of(Outcome::Ready) > 50, "no load");
    field.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_version_before_to_this_one_no_admission_fails() -> Result<()> {
    let Some(field) = Field::new().await? else { return Ok(()) };
    let (platform, say) = (field.gate.platform, |line: &str| println!("{line}"));
    let webhook = Webhook::on(platform);
    let load = field.load();
    let outcome = async {
        // Registered otherwise, so that the two versions have something to disagree about.
        deploy::deploy_before(platform, &[("LABEL_WRITERS", WRITERS_BEFORE)], &say).await?;
        registered(&field.gate, true).await
    }
    .await;
    let upgraded = async {
        deploy::deploy(platform, &say).await?;
        webhook.settled(REPLICAS).await?;
        registered(&field.gate, false).await
    }
    .await;
    let report = load.end().await?;
    println!("the version before, and this one over it:\n{report}");
    outcome.context("the version before")?;
    upgraded.context("this version")?;
    ensure!(report.violations().is_empty(), "{:?}", report.violations());
    for outcome in [Outcome::Unreachable, Outcome::Unknown] {
        ensure!(report.of(outcome) == 0, "{outcome:?}: {}", report.of(outcome));
    }
    ensure!(report.of(Outcome::Refused) > 50 && report.of(Outcome::Ready) > 50, "no load");
    field.end().await
}

/// Waits until the registration is that of the version before, or is not.
async fn registered(gate: &Gate, before: bool) -> Result<()> {
    let (_, writer) = WRITERS_BEFORE.split_once(',').context("a writer of its own")?;
    gate::eventually("the registration of the version that runs", async || {
        let configuration = gate.admin.get("validatingwebhookconfiguration agent-ready-gate").await?;
        Ok((configuration.to_string().contains(writer) == before).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_lets_no_ungated_pod_in() -> Result<()> {
    let Some(field) = Field::new().await? else { return Ok(()) };
    let load = field.load();
    let (webhook, mut random) = (Webhook::on(field.gate.platform), StdRng::seed_from_u64(1));
    let killed = async {
        for _ in 0..2 {
            webhook.strike(Fault::Kill, &load, &mut random).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        anyhow::Ok(())
    }
    .await;
    let report = load.end().await?;
    println!("two replicas killed:\n{report}");
    killed?;
    ensure!(report.violations().is_empty(), "{:?}", report.violations());
    ensure!(report.of(Outcome::Refused) > 20 && report.of(Outcome::Ready) > 20, "no load");
    webhook.roll().await?;
    field.end().await
}

/// The availability run.
#[tokio::test(flavor = "multi_thread")]
async fn under_every_fault_the_gate_is_shut_and_ready_tenants_deploy() -> Result<()> {
    let Some(field) = Field::new().await? else { return Ok(()) };
    let seed = env::var("AVAILABILITY_SEED").ok().map(|seed| seed.parse()).transpose()?;
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    let length = env::var("AVAILABILITY_SECONDS").ok().map(|length| length.parse()).transpose()?;
    let length = length.map_or(RUN, Duration::from_secs);
    let webhook = Webhook::on(field.gate.platform);
    println!("seed {seed}, {length:?}");
    webhook.set(3, OVERLAP).await?;
    let load = field.load();
    let struck = strike(&webhook, &load, length, &mut StdRng::seed_from_u64(seed)).await;
    let report = load.end().await?;
    let reset = webhook.set(2, "CA_OVERLAP_SECONDS-").await;
    println!("{} pods asked for; faults: {struck:?}\n{report}", report.all());
    struck.with_context(|| format!("seed {seed}"))?;
    reset?;
    ensure!(report.violations().is_empty(), "seed {seed}: {:?}", report.violations());
    ensure!(report.of(Outcome::Refused) > 50 && report.of(Outcome::Ready) > 50, "no load");
    field.end().await
}

/// Strikes until the time is over, each fault at least once; how often each struck.
async fn strike(
    webhook: &Webhook<'_>,
    load: &Load,
    length: Duration,
    random: &mut StdRng,
) -> Result<BTreeMap<Fault, u32>> {
    let (started, mut struck) = (Instant::now(), BTreeMap::new());
    let mut left: Vec<Fault> = Vec::new();
    while started.elapsed() < length || struck.len() < Fault::ALL.len() {
        if left.is_empty() {
            left = Fault::ALL.to_vec();
        }
        let fault = left.swap_remove(random.random_range(0..left.len()));
        eprintln!("{:>6.1?} s  {fault:?}", started.elapsed().as_secs_f32());
        webhook.strike(fault, load, random).await.with_context(|| format!("{fault:?}"))?;
        *struck.entry(fault).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3000))).await;
    }
    Ok(struck)
}
