//! What `webhook audit` prints.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{enforce::Hit, finding::Finding, powers::Held};

/// Makers of pods that are named of one namespace.
const MAKERS_MAX: usize = 8;

/// Findings, for people.
pub fn findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let object = &finding.object;
        let place = if object.namespace.is_empty() || object.kind == "Namespace" {
            object.name.clone()
        } else {
            format!("{}/{}", object.namespace, object.name)
        };
        let severity = finding.kind.severity().name();
        let _ = writeln!(out, "{severity:<8} {:<24} {} {place}", finding.kind.code(), object.kind);
        let _ = writeln!(out, "         {}", finding.message);
    }
    let _ = writeln!(out, "{} findings", findings.len());
    out
}

/// Findings and powers, for programs.
pub fn json(findings: &[Finding], powers: &[Held]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let object = &finding.object;
            json!({
                "kind": finding.kind.code(), "severity": finding.kind.severity().name(), "message": finding.message,
                "object": {"apiVersion": object.api_version, "kind": object.kind, "namespace": object.namespace,
                    "name": object.name},
            })
        })
        .collect();
    let powers: Vec<Value> = powers
        .iter()
        .map(|held| {
            let holders: Vec<Value> = held
                .holders
                .iter()
                .map(|holder| json!({"subject": holder.subject, "by": holder.by}))
                .collect();
            json!({"power": held.power.code, "means": held.power.means, "holders": holders})
        })
        .collect();
    json!({"findings": findings, "powers": powers})
}

/// Powers, for people.
pub fn powers(powers: &[Held]) -> String {
    let mut out = String::from(
        "\nWho can pass the gate or undo it by Kubernetes' own rights (members of system:masters can do all of it):\n",
    );
    for held in powers {
        let _ = writeln!(out, "{}: who {}", held.power.code, held.power.means);
        for holder in &held.holders {
            let _ = writeln!(out, "         {}  ({})", holder.subject, holder.by);
        }
        if held.holders.is_empty() {
            let _ = writeln!(out, "         nobody");
        }
    }
    out
}

/// What enforcement would hit, for people.
pub fn hits(hits: &[Hit]) -> String {
    let mut out = String::new();
    for hit in hits {
        let pods: usize = hit.makers.values().sum();
        let _ = writeln!(out, "{}: {pods} pods run here and could not be made again", hit.namespace);
        for (maker, count) in hit.makers.iter().take(MAKERS_MAX) {
            let _ = writeln!(out, "         {count} made by {maker}");
        }
        if hit.makers.len() > MAKERS_MAX {
            let _ = writeln!(out, "         and {} more makers", hit.makers.len() - MAKERS_MAX);
        }
        let missing = match &hit.missing {
            Ok(parts) if parts.is_empty() => "nothing but the label is missing".to_owned(),
            Ok(parts) => format!("missing: {}", parts.join("; ")),
            Err(why) => format!("what is missing could not be read: {why}"),
        };
        let _ = writeln!(out, "         {missing}");
    }
    let pods: usize = hits.iter().flat_map(|hit| hit.makers.values()).sum();
    let _ = writeln!(out, "{} namespaces with {pods} pods would be hit if the gate refused", hits.len());
    out
}

/// What enforcement would hit, for programs.
pub fn hits_json(hits: &[Hit]) -> Value {
    let namespaces: Vec<Value> = hits
        .iter()
        .map(|hit| {
            let (missing, unreadable) = match &hit.missing {
                Ok(parts) => (json!(parts), Value::Null),
                Err(why) => (Value::Null, json!(why)),
            };
            json!({"namespace": hit.namespace, "pods": hit.makers.values().sum::<usize>(), "makers": hit.makers,
                "missing": missing, "unreadable": unreadable})
        })
        .collect();
    json!({"namespaces": namespaces})
}
