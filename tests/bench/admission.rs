//! What a review costs, against a bare axum + rustls endpoint that reads the body and answers, in the same run.

use std::path::Path;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tests::Platform;
use tests::pki::Authority;

use crate::metrics;
use crate::report::{Aim, against, figure, ratio, section};
use crate::servers;
use crate::wrk;

/// Seconds of load per figure.
const SECONDS: u32 = 10;
/// Unready namespaces that are asked about in turns.
const NAMESPACES: usize = 1000;

/// Runs the section.
pub fn run(folder: &Path) -> Result<()> {
    section("Admission: POST /validate, a pod review of 5.6 KiB over TLS, the namespace's state in hand");
    Authority::open_or_create(folder)?.issue("bench", "bench", &[], &["127.0.0.1"])?;
    let review = folder.join("review.json");
    std::fs::write(&review, pod_review("shop"))?;
    let (echo, gate) = (servers::start("echo", folder)?, servers::start("gate", folder)?);
    let ready = servers::start("gate-ready", folder)?;
    let urls = [&echo, &gate, &ready].map(|server| format!("https://{}/validate", server.address));
    let urls = urls.each_ref().map(String::as_str);
    // One unmeasured second each, so that none pays for the first page faults.
    for url in urls {
        wrk::post(url, &review, 32, 1)?;
    }
    for connections in [1, 32] {
        let [floor, ours, short] = wrk::in_turns(urls, &review, connections, SECONDS)?;
        for (name, load) in [("bare echo (floor)", &floor), ("gate", &ours), ("gate, a pod let in", &short)] {
            figure(&format!("{connections} connections, {name}"), load);
        }
        if connections == 1 {
            against("1 connection, p50 against the floor", ratio(ours.p50, floor.p50), Aim::AtMost(1.5));
        } else {
            let share = |load: &wrk::Load| load.requests_per_second / floor.requests_per_second;
            against("32 connections, requests/s against the floor", share(&ours), Aim::AtLeast(0.8));
            figure(
                "  a pod let in, whose answer is as short as the floor's",
                format!("{:.2}", share(&short)),
            );
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "for print")]
    let resident = gate.process.resident()? as f64 / f64::from(1 << 20);
    against("gate, resident after the load, MiB", resident, Aim::AtMost(16.0));
    Ok(())
}

/// Runs the section on the deployed webhook: each refusal rests on a live read from the real apiserver.
pub async fn whole_refusal(platform: &Platform, client: &Client, folder: &Path) -> Result<()> {
    section(
        "Admission: the whole refusal by the deployed webhook, live read from the real apiserver included",
    );
    let namespaces: Api<CoreNamespace> = Api::all(client.clone());
    let name = |number: usize| format!("bench-refused-{number}");
    stream::iter(0..NAMESPACES)
        .map(|number| {
            let namespace = json!({"metadata": {"name": name(number)}});
            let namespaces = namespaces.clone();
            async move {
                let namespace = serde_json::from_value(namespace)?;
                anyhow::Ok(namespaces.create(&PostParams::default(), &namespace).await?)
            }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    for count in [1, NAMESPACES] {
        let reviews = folder.join(format!("refusals-{count}.json"));
        let lines: Vec<String> = (0..count).map(|number| pod_review(&name(number))).collect();
        std::fs::write(&reviews, lines.join("\n"))?;
        for connections in [1, 32] {
            metrics::at_rest(client).await?;
            let before = metrics::total(client, metrics::CPU).await?;
            let load =
                wrk::post(&format!("{}/validate", platform.webhook_url()), &reviews, connections, SECONDS)?;
            let cpu = metrics::total(client, metrics::CPU).await? - before;
            figure(&format!("{count} unready namespaces, {connections} connections"), &load);
            let each = cpu * 1e3 / (load.requests_per_second * f64::from(SECONDS));
            figure("  CPU of the apiserver for each refusal", format!("{each:.2} ms"));
        }
    }
    for number in 0..NAMESPACES {
        namespaces.delete(&name(number), &DeleteParams::background()).await?;
    }
    Ok(())
}

/// A review as the apiserver sends it for a pod of a Deployment, 5.6 KiB, managed fields included.
pub fn pod_review(namespace: &str) -> String {
    let environment: Vec<_> = (0..12)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": "a value of ordinary length"}))
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-7d4b9c6f5d-", "namespace": namespace, "creationTimestamp": null,
            "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5d",
                "uid": "5f0a4cbb-6f3f-4a8e-9a54-0a8f5a1c9d10", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:generateName": {},
                "f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}, "f:ownerReferences": {".": {},
                "k:{\"uid\":\"5f0a4cbb-6f3f-4a8e-9a54-0a8f5a1c9d10\"}": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                "f:env": {".": {}}, "f:ports": {".": {}}}}, "f:dnsPolicy": {}, "f:enableServiceLinks": {},
                "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {}}}}]
        },
        "spec": {
            "containers": [{"name": "web", "image": "registry.example/shop/web:1.42.0", "env": environment,
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
                "volumeMounts": [{"name": "kube-api-access", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
                "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}],
            "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {},
            "schedulerName": "default-scheduler", "enableServiceLinks": true, "priority": 0,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}, {"key": "node.kubernetes.io/unreachable", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300}]
        }, "status": {}
    });
    let mut review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "web-7d4b9c6f5d-x2x9q", "namespace": namespace, "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "8f0b0f0e-1d4d-4e2c-a5c1-0f5d6a0f4b11",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
        }
    });
    let missing = (5600usize).saturating_sub(review.to_string().len() + 40);
    review["request"]["object"]["metadata"]["annotations"] = json!({"padding": "x".repeat(missing)});
    review.to_string()
}
