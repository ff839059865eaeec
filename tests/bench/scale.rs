//! What a large cluster costs the gate: ten thousand namespaces and fifty thousand pods in its watch store and its audit. The
//! webhook is the real program; the API server is a made-up one, which serves lists of that size.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::apiserver::PODS_EACH;
use crate::process::{Process, free_port, mib, wait_for_port};
use crate::report::{Aim, against, figure, ratio, section};
use crate::wrk;

/// Namespaces of the small and of the large cluster.
const SIZES: [usize; 2] = [10, 10_000];
/// How long the program may take to know the large cluster.
const READY_TIME_MAX: Duration = Duration::from_mins(2);
/// Seconds of load per figure.
const SECONDS: u32 = 10;

/// The webhook in a cluster of one size.
struct Gate {
    _api: Process,
    webhook: Process,
    url: String,
    ready: Duration,
}

/// Runs the section.
pub fn run(folder: &Path) -> Result<()> {
    section("Scale: the real webhook program, an API server that only says it has this many objects");
    let (small, large) = (start(SIZES[0], folder)?, start(SIZES[1], folder)?);
    let review = folder.join("scale.json");
    std::fs::write(&review, crate::admission::pod_review("shop"))?;
    let urls = [small.url.as_str(), large.url.as_str()];
    for url in urls {
        wrk::post(url, &review, 32, 1)?;
    }
    let single = wrk::in_turns(urls, &review, 1, SECONDS)?;
    let many = wrk::in_turns(urls, &review, 32, SECONDS)?;
    for (at, (namespaces, gate)) in SIZES.into_iter().zip([&small, &large]).enumerate() {
        let pods = namespaces * PODS_EACH;
        figure(&format!("{namespaces} namespaces, {pods} pods: ready after"), format!("{:?}", gate.ready));
        let (resident, most) = (gate.webhook.resident()?, gate.webhook.resident_most()?);
        figure("  resident, and the most ever", format!("{}, {}", mib(resident), mib(most)));
        figure("  refusal with its live read, 1 connection", &single[at]);
        figure("  refusal with its live read, 32 connections", &many[at]);
    }
    against("large cluster, ready within seconds", large.ready.as_secs_f64(), Aim::AtMost(5.0));
    #[allow(clippy::cast_precision_loss, reason = "for print")]
    let most = large.webhook.resident_most()? as f64 / f64::from(1 << 20);
    against("large cluster, most resident, MiB", most, Aim::AtMost(64.0));
    let p50 = ratio(single[1].p50, single[0].p50);
    against("decision, p50 of the large cluster against the small", p50, Aim::AtMost(1.1));
    let share = many[1].requests_per_second / many[0].requests_per_second;
    against("decisions per second, large against small", share, Aim::AtLeast(0.9));
    Ok(())
}

/// Starts an API server of this size and the webhook beside it, and waits until the webhook knows all of it.
fn start(namespaces: usize, folder: &Path) -> Result<Gate> {
    let address = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "apiserver", &address.to_string(), &namespaces.to_string()]);
    let api = Process::start(&mut command, &folder.join(format!("apiserver-{namespaces}.log")))?;
    wait_for_port(address)?;
    let kubeconfig = folder.join(format!("kubeconfig-{namespaces}"));
    std::fs::write(&kubeconfig, kubeconfig_of(&format!("http://{address}")))?;
    let (https, plain) = (free_port()?, free_port()?);
    let log = folder.join(format!("webhook-{namespaces}.log"));
    let mut command = Command::new(tests::workspace::binary("webhook")?);
    command.args(["serve", "--listen", &https.to_string(), "--plain-listen", &plain.to_string()]);
    command.args(["--webhook-url", &format!("https://{https}")]).env("KUBECONFIG", &kubeconfig);
    let started = Instant::now();
    let webhook = Process::start(&mut command, &log)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ready = runtime
        .block_on(known(&format!("http://{plain}"), namespaces, started))
        .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    Ok(Gate { _api: api, webhook, url: format!("https://{https}/validate"), ready })
}

/// Waits until the program is ready and knows all pods; how long it took.
async fn known(plain: &str, namespaces: usize, started: Instant) -> Result<Duration> {
    let client = tests::http::unverified()?;
    let counted =
        format!("agent_ready_webhook_watch_objects{{resource=\"pods\"}} {}", namespaces * PODS_EACH);
    while started.elapsed() < READY_TIME_MAX {
        let get = async |path: &str| client.get(format!("{plain}{path}")).send().await;
        let ready = get("/readyz").await.is_ok_and(|answer| answer.status().is_success());
        if ready && get("/metrics").await?.text().await?.contains(&counted) {
            return Ok(started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the webhook does not know {namespaces} namespaces after {READY_TIME_MAX:?}")
}

fn kubeconfig_of(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
    .to_string()
}
