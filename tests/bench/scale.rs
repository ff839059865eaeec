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
use crate::wrk::{self, Load};

/// Namespaces of the small and of the large cluster.
const SIZES: [usize; 2] = [10, 10_000];
/// How long the program may take to know the large cluster.
const READY_TIME_MAX: Duration = Duration::from_mins(2);
/// Seconds of load per figure.
const SECONDS: u32 = 5;

/// What was measured at one size.
struct Measured {
    ready: Duration,
    resident: u64,
    resident_most: u64,
    single: Load,
    many: Load,
}

/// Runs the section.
pub fn run(folder: &Path) -> Result<()> {
    section("Scale: the real webhook program, an API server that only says it has this many objects");
    let mut measured = Vec::new();
    for namespaces in SIZES {
        let at = measure(namespaces, folder)?;
        let pods = namespaces * PODS_EACH;
        figure(&format!("{namespaces} namespaces, {pods} pods: ready after"), format!("{:?}", at.ready));
        figure("  resident, and the most ever", format!("{}, {}", mib(at.resident), mib(at.resident_most)));
        figure("  refusal with its live read, 1 connection", &at.single);
        figure("  refusal with its live read, 32 connections", &at.many);
        measured.push(at);
    }
    let [small, large] = measured.as_slice() else { bail!("two sizes") };
    against("large cluster, ready within seconds", large.ready.as_secs_f64(), Aim::AtMost(5.0));
    #[allow(clippy::cast_precision_loss, reason = "for print")]
    let most = large.resident_most as f64 / f64::from(1 << 20);
    against("large cluster, most resident, MiB", most, Aim::AtMost(64.0));
    let p50 = ratio(large.single.p50, small.single.p50);
    against("decision, p50 of the large cluster against the small", p50, Aim::AtMost(1.1));
    let share = large.many.requests_per_second / small.many.requests_per_second;
    against("decisions per second, large against small", share, Aim::AtLeast(0.9));
    Ok(())
}

fn measure(namespaces: usize, folder: &Path) -> Result<Measured> {
    let api = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "apiserver", &api.to_string(), &namespaces.to_string()]);
    let _api = Process::start(&mut command, &folder.join(format!("apiserver-{namespaces}.log")))?;
    wait_for_port(api)?;
    let kubeconfig = folder.join(format!("kubeconfig-{namespaces}"));
    std::fs::write(&kubeconfig, kubeconfig_of(&format!("http://{api}")))?;
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
    let review = folder.join("scale.json");
    std::fs::write(&review, crate::admission::pod_review("shop"))?;
    let load = |connections| wrk::post(&format!("https://{https}/validate"), &review, connections, SECONDS);
    wrk::post(&format!("https://{https}/validate"), &review, 32, 1)?;
    let (single, many) = (load(1)?, load(32)?);
    let (resident, resident_most) = (webhook.resident()?, webhook.resident_most()?);
    Ok(Measured { ready, resident, resident_most, single, many })
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
