//! O1: the local platform itself. It leaves nothing behind, and one never touches another.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::host::Host;
use tests::pods::{Inhabited, pod, with_pods};
use tests::process::{Component, Phase};
use tests::{Platform, Purpose};

fn say(line: &str) {
    eprintln!("{line}");
}

/// A platform beside the shared one; it ends with the value, also that of a test that failed.
struct Second {
    platform: Platform,
    state: PathBuf,
    _folder: tempfile::TempDir,
}

impl Second {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Deeper than a socket's path may be long, and closed to the users of the servers.
        let state = folder.path().join("a".repeat(60)).join("b".repeat(60));
        let platform = Platform::bare(&state, Purpose::Journeys, &say).await?;
        Ok(Self { platform, state: state.canonicalize()?, _folder: folder })
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        if let Ok(program) = tests::workspace::binary("platform") {
            // A test that passed has ended it already.
            let _ = std::process::Command::new(program).args(["down", "--state"]).arg(&self.state).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_platform_comes_and_goes_and_the_first_does_not_notice() -> Result<()> {
    let first = Platform::shared().await?;
    let before = runs_of(first).await?;
    if first.has_node() {
        with_pods(first, async |tenant| {
            a_pod_does_not_notice(tenant, Box::pin(a_second_comes_and_goes())).await
        })
        .await?;
    } else {
        eprintln!("no pod of the first platform is watched: {}", first.no_node());
        a_second_comes_and_goes().await?;
    }
    ensure!(runs_of(first).await? == before, "components of the first platform were touched");
    first.client().await?.apiserver_version().await?;
    Ok(())
}

/// The life of a second platform, with a pod on it where it has a node.
async fn a_second_comes_and_goes() -> Result<()> {
    let second = Second::start().await?;
    let (other, state) = (&second.platform, &second.state);
    ensure!(!Host::traces(state).is_empty(), "a running platform has no traces: the check is blind");
    let client = other.client().await?;
    ensure!(client.apiserver_version().await?.git_version.starts_with('v'), "the second apiserver answers");
    run_a_pod(other).await?;
    Platform::down(state).await?;
    ensure!(Host::traces(state).is_empty(), "left: {:?}", Host::traces(state));
    Ok(())
}

/// While `life` goes on, a pod's app can be reached and its configuration changed; it never starts again, and the links
/// of its sidecar never break.
async fn a_pod_does_not_notice(tenant: &Inhabited, life: impl Future<Output = Result<()>>) -> Result<()> {
    tenant.run(&pod("app", &["sleep"])).await?;
    let before = tenant.pod("app").await?;
    let forwarded = tenant.forward("app").await?;
    let mut changes = 0_u32;
    let changing = async {
        loop {
            let version = tenant.put("threshold", json!(changes)).await?;
            // Redis announces it, PostgreSQL holds it: both are reached from the pod.
            forwarded.view.reaches("threshold", version, Duration::from_secs(10)).await?;
            ensure!(tenant.value("app", "threshold").await?.1 == version, "the app reads another version");
            changes += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        result = life => result?,
        result = changing => result.map(|never: std::convert::Infallible| match never {})?,
    }
    eprintln!("{changes} changes reached the pod meanwhile");
    ensure!(changes >= 5, "too few changes to say anything: {changes}");
    let status = tenant.read("app", "/status").await?;
    for link in ["redis", "postgresql"] {
        let link = &status["connections"][link];
        ensure!(link["up"] == true && link["reconnects"] == 0, "{status}");
    }
    let after = tenant.pod("app").await?;
    for part in ["startTime", "podIP", "initContainerStatuses", "containerStatuses"] {
        ensure!(
            after["status"][part] == before["status"][part],
            "{} became {}",
            before["status"],
            after["status"]
        );
    }
    Ok(())
}

/// Runs a pod that knows nothing of us, where pods run.
async fn run_a_pod(platform: &Platform) -> Result<()> {
    if !platform.has_node() {
        return Ok(());
    }
    // The controller manager makes the ServiceAccount a moment after the start.
    platform
        .kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])
        .await?
        .success()?;
    let sleeper = pod("sleeper", &["sleep"]).to_string();
    platform.kubectl_command().feed(&["create", "-f", "-"], &sleeper).await?.success()?;
    let ready = ["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s"];
    platform.kubectl(&ready).await?.success().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_the_supervisor_was_killed() -> Result<()> {
    let second = Second::start().await?;
    let (platform, state) = (&second.platform, &second.state);
    run_a_pod(platform).await?;
    kill(Pid::from_raw(platform.host().supervisor_pid()), Signal::SIGKILL)?;
    Platform::down(state).await?;
    ensure!(Host::traces(state).is_empty(), "left: {:?}", Host::traces(state));
    let rest: Vec<_> = std::fs::read_dir(state)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(rest.iter().all(|name| name == "log" || name == "lock"), "left in the folder: {rest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_told_with_the_last_log_lines_and_nothing_starts_again_by_itself() -> Result<()> {
    let second = Second::start().await?;
    let (platform, state) = (&second.platform, &second.state);
    let scheduler = async || {
        let status = platform.status().await?;
        status.into_iter().find(|status| status.name == "kube-scheduler").context("no scheduler")
    };
    let pid = scheduler().await?.pid;
    let murder = Component::new("kill", ["kill", "-KILL", &pid.to_string()]);
    platform.run_inside(murder).await?.success()?;
    let mut found = scheduler().await?;
    for _ in 0..100 {
        if found.phase != Phase::Running {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = scheduler().await?;
    }
    let Phase::Crashed { how, log } = found.phase else { anyhow::bail!("{:?} is no crash", found.phase) };
    ensure!(how.contains("SIGKILL"), "{how}");
    ensure!(log.contains("Serving") || log.lines().count() > 2, "not the end of its log: {log}");
    ensure!(
        std::fs::read_to_string(state.join("crashes.log"))?.contains("kube-scheduler"),
        "not in crashes.log"
    );

    platform.component("kube-scheduler").start().await?;
    ensure!(scheduler().await?.phase == Phase::Running, "it was not started again");
    platform.component("kube-scheduler").stop().await?;
    ensure!(scheduler().await?.phase == Phase::Stopped, "its end was asked for: no crash");
    Platform::down(state).await
}

/// Name and process id of each component.
async fn runs_of(platform: &Platform) -> Result<Vec<(String, i32)>> {
    Ok(platform.status().await?.into_iter().map(|status| (status.name, status.pid)).collect())
}
