//! G13: `webhook review` decides files as the gate decides requests, for pipelines: text, JSON, exit status.

mod gate;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use gate::{Gate, POD_GATE, fresh, pod};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What the program said, and its exit status.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `webhook review -` with this input.
async fn review(arguments: &[&str], kubeconfig: Option<PathBuf>, input: &[u8]) -> Result<Said> {
    let mut command = Command::new(tests::workspace::binary("webhook")?);
    command.arg("review").args(arguments).arg("-").env_remove("KUBECONFIG").kill_on_drop(true);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    // A program that has read enough closes its end.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok(Said {
        code: output.status.code().context("killed by a signal")?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn deployment(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "a"}]}}}})
}

#[tokio::test]
async fn a_pipeline_learns_from_the_exit_status() -> Result<()> {
    let manifests =
        format!("{}\n---\n# a comment\n---\n{}", deployment("web", "shop"), deployment("db", "shop"));
    let ready = ["--namespace-labels", "isolation-ready=true"];
    let unready = ["--namespace-labels", "team=shop"];
    for (arguments, input, code, says) in [
        (&ready[..], manifests.as_str(), 0, "2 decided, 0 refused; 0 without a rule"),
        (
            &unready[..],
            manifests.as_str(),
            1,
            "refused  Deployment shop/db (document 3, spec.template): not-ready",
        ),
        (&[][..], manifests.as_str(), 1, "--namespace-labels KEY=VALUE, or --live"),
        (&[][..], "kind: Pod", 2, "document 1: has no apiVersion"),
        (&[][..], "{\"apiVersion\": ", 2, "document 1 is neither YAML nor JSON"),
        (&[][..], "", 2, "the input has no object"),
        (&["--output", "yaml"][..], "", 2, "invalid value 'yaml'"),
        (&["--live"][..], manifests.as_str(), 2, "no way to the cluster (KUBECONFIG)"),
    ] {
        let said = review(arguments, Some(PathBuf::from("/nonexistent")), input.as_bytes()).await?;
        ensure!(said.code == code, "{arguments:?} {input}: {} {}{}", said.code, said.stdout, said.stderr);
        ensure!(
            (said.stdout.clone() + &said.stderr).contains(says),
            "{says}: {}{}",
            said.stdout,
            said.stderr
        );
        ensure!(said.code != 2 || said.stdout.is_empty(), "bad input is no answer: {}", said.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn every_damage_of_a_file_is_an_answer_and_not_a_crash() -> Result<()> {
    let whole = format!("{}\n---\n{}", deployment("web", "shop"), pod(&json!({"name": "a"}))).into_bytes();
    for end in (0..whole.len()).step_by(whole.len() / 12) {
        let said = review(&[], None, &whole[..end]).await?;
        ensure!([1, 2].contains(&said.code), "{end} bytes: {} {}", said.code, said.stderr);
        ensure!(!said.stderr.contains("panicked"), "{end} bytes: {}", said.stderr);
    }
    let said = review(&[], None, &[0xff, 0xfe, 0x00]).await?;
    ensure!(said.code == 2 && !said.stderr.contains("panicked"), "{} {}", said.code, said.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_review_says_what_the_api_server_will() -> Result<()> {
    let gate = Gate::shared().await?;
    let (ready, unready) = tokio::try_join!(gate.ready(), gate.namespace())?;
    let absent = fresh("gate-");
    let kubeconfig = gate.platform.kubectl_command().parts().1.to_owned();
    for (namespace, code, reason) in
        [(&ready, 0, "ready"), (&unready, 1, "not-ready"), (&absent, 1, "no-namespace")]
    {
        let manifest = pod(&json!({"name": "a", "namespace": namespace})).to_string();
        let arguments = ["--live", "--output", "json"];
        let said = review(&arguments, Some(kubeconfig.clone()), manifest.as_bytes()).await?;
        let answer: Value = serde_json::from_str(&said.stdout).context(said.stderr)?;
        let decision = &answer["decisions"][0];
        ensure!(said.code == code && decision["reason"] == reason, "{namespace}: {answer:#}");
        ensure!(answer["admitted"] == (code == 0), "{answer:#}");
        if namespace == &unready {
            // The same words, whoever is asked.
            let message = decision["message"].as_str().context("a message")?;
            let refused = gate.admin.may_not(POD_GATE, "create -f -", &manifest).await?;
            ensure!(refused.contains(message), "review: {message}\napiserver: {refused}");
        }
    }
    gate.delete(&[&ready, &unready]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_proof_sees_what_the_manifests_would_change() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.baseline().await?;
    let kubeconfig = gate.platform.kubectl_command().parts().1.to_owned();
    let writer = "system:serviceaccount:agent-ready-system:provisioner";
    let arguments = ["--live", "--as", writer];
    let label = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {"isolation-ready": "true"}}});
    let said = review(&arguments, Some(kubeconfig.clone()), label.to_string().as_bytes()).await?;
    ensure!(said.code == 0, "{}{}", said.stdout, said.stderr);
    let open = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]}});
    let said =
        review(&arguments, Some(kubeconfig.clone()), format!("{label}\n---\n{open}").as_bytes()).await?;
    ensure!(said.code == 1, "{}{}", said.stdout, said.stderr);
    ensure!(
        said.stdout.contains("NetworkPolicy default-deny allows everything to everyone"),
        "{}",
        said.stdout
    );
    // Nothing was written, and somebody else may not.
    let seen = gate.admin.get(&format!("namespace {namespace}")).await?;
    ensure!(seen["metadata"]["labels"]["isolation-ready"].is_null(), "{seen}");
    let said = review(&["--live"], Some(kubeconfig), label.to_string().as_bytes()).await?;
    ensure!(said.code == 1 && said.stdout.contains("not-a-writer"), "{}{}", said.stdout, said.stderr);
    gate.delete(&[&namespace]).await
}
