//! G14: alerts that fire when they should, a dashboard of metrics that exist, and traces that arrive. No platform needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// What the names of the gate's metrics begin with.
const PREFIX: &str = "agent_ready_webhook_";
/// What Prometheus makes of one metric.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];

fn folder() -> PathBuf {
    tests::workspace::root().join("manifests/observability")
}

fn promtool(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("promtool is not installed (Debian package prometheus)")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn each_alert_fires_for_what_it_is_for_and_not_before() -> Result<()> {
    let work = tempfile::tempdir()?;
    let rule: Value = serde_norway::from_str(&fs::read_to_string(folder().join("alerts.yaml"))?)?;
    fs::write(work.path().join("alerts.rules.yaml"), serde_norway::to_string(&rule["spec"])?)?;
    fs::copy(folder().join("alerts.test.yaml"), work.path().join("alerts.test.yaml"))?;
    promtool(work.path(), &["check", "rules", "alerts.rules.yaml"])?;
    promtool(work.path(), &["test", "rules", "alerts.test.yaml"])?;
    let proved = fs::read_to_string(folder().join("alerts.test.yaml"))?;
    let rules = rule.pointer("/spec/groups/0/rules").and_then(Value::as_array).context("the rules")?;
    for alert in rules {
        let name = alert["alert"].as_str().context("an alert has a name")?;
        ensure!(
            proved.contains(&format!("alertname: {name}")) || proved.contains(&format!("\"{name}\"")),
            "{name}"
        );
        let words =
            ["summary", "description"].map(|key| alert["annotations"][key].as_str().unwrap_or_default());
        ensure!(words.iter().all(|words| words.len() >= 20), "{name} does not say what to do");
    }
    Ok(())
}

/// The metrics that a text names, without what Prometheus adds to them.
fn named(text: &str) -> BTreeSet<String> {
    text.match_indices(PREFIX)
        .map(|(at, _)| {
            let rest = &text[at + PREFIX.len()..];
            let name: String =
                rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
            SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name).to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn alerts_and_dashboard_use_metrics_that_the_gate_has() -> Result<()> {
    let mut sources = Vec::new();
    let mut folders = vec!["webhook/src".to_owned(), "runtime/src".to_owned()]
        .into_iter()
        .map(PathBuf::from)
        .collect::<Vec<_>>();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(tests::workspace::root().join(&next))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(next.join(entry.file_name()));
            } else {
                sources.push(fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    let dashboard = fs::read_to_string(folder().join("dashboard.json"))?;
    let _: Value = serde_json::from_str(&dashboard)?;
    let used: BTreeSet<_> = named(&fs::read_to_string(folder().join("alerts.yaml"))?)
        .union(&named(&dashboard))
        .cloned()
        .collect();
    ensure!(used.len() >= 8, "{used:?}");
    let absent: Vec<_> = used
        .iter()
        .filter(|name| !sources.iter().any(|source| source.contains(&format!("\"{name}\""))))
        .collect();
    ensure!(absent.is_empty(), "no part of the gate registers {absent:?}");
    Ok(())
}

/// Takes one request over HTTP and answers 200; returns its head and body.
fn receive(listener: &TcpListener) -> Result<(String, Vec<u8>)> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..count]);
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("a length")?
            .trim()
            .parse()?;
        if request.len() >= end + 4 + length {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            return Ok((head, request.split_off(end + 4)));
        }
        ensure!(count > 0, "the request ended early");
    }
}

#[test]
fn spans_arrive_where_the_standard_variable_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("review.json");
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {"metadata": {"generateName": "web-"}, "spec": {"containers": []}},
        },
    });
    fs::write(&file, review.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let receiver = std::thread::spawn(move || receive(&listener));
    let asked = |environment: BTreeMap<&str, &str>| {
        Command::new(tests::workspace::binary("webhook")?)
            .arg("review")
            .arg(&file)
            .env_clear()
            .envs(environment)
            .output()
            .context("run the webhook")
    };
    let quiet = asked(BTreeMap::new())?;
    ensure!(!receiver.is_finished(), "a span was sent without the variable");
    let traced = asked(BTreeMap::from([("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())]))?;
    ensure!(traced.stdout == quiet.stdout && traced.status == quiet.status, "traces change nothing");
    let (head, body) = receiver.join().map_err(|_| anyhow::anyhow!("the receiver failed"))??;
    ensure!(
        head.starts_with("post /v1/traces http/1.1") && head.contains("application/x-protobuf"),
        "{head}"
    );
    for expected in ["service.name", "webhook", "live read", "shop"] {
        ensure!(
            body.windows(expected.len()).any(|window| window == expected.as_bytes()),
            "no {expected:?} in it"
        );
    }
    Ok(())
}
