//! Labels and annotations of namespaces.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::bypasses::Served;
use tests::bypasses::caller::{Answer, Patch};
use tests::bypasses::classes::Class;

use crate::Ways;
use crate::gate::fresh;

const GUARD: &str = "namespaces.guard.agent-ready.io";

/// A key to set, or with null to remove: `labels` or `annotations`, key, value.
type Change = (&'static str, &'static str, Value);

fn changes_of_unready() -> Vec<Change> {
    vec![
        ("labels", "isolation-ready", json!("true")),
        ("labels", "agent-ready.io/gate", json!("exempt")),
        ("annotations", "agent-ready.io/owner", json!("User:eve")),
    ]
}

fn changes_of_ready() -> Vec<Change> {
    vec![
        ("labels", "pod-security.kubernetes.io/enforce", json!("privileged")),
        ("labels", "agent-ready.io/organization", Value::Null),
        ("labels", "isolation-ready", Value::Null),
        ("annotations", "agent-ready.io/quota", json!("{}")),
    ]
}

fn changed(present: &Value, (map, key, value): &Change) -> Value {
    let mut changed = present.clone();
    changed["metadata"][map][key] = value.clone();
    if value.is_null() {
        changed["metadata"][map].as_object_mut().map(|keys| keys.remove(*key));
    }
    changed
}

/// Asks for the change in every way that this verb has.
async fn ask(
    ways: &Ways,
    (served, verb): (&Served, &str),
    present: &Value,
    change: &Change,
) -> Result<Vec<Answer>> {
    let name = present["metadata"]["name"].as_str().unwrap_or_default();
    let path = served.path("", name);
    let (map, key, value) = change;
    let merge = json!({"metadata": {*map: {*key: value}}});
    let mut answers = Vec::new();
    match verb {
        "update" => answers.push(ways.admin.ask("PUT", &path, &changed(present, change)).await?),
        "patch" => {
            let pointer = format!("/metadata/{map}/{}", key.replace('/', "~1"));
            let operation = if value.is_null() {
                json!([{"op": "remove", "path": pointer}])
            } else if present["metadata"][map].is_object() {
                json!([{"op": "add", "path": pointer, "value": value}])
            } else {
                json!([{"op": "add", "path": format!("/metadata/{map}"), "value": {*key: value}}])
            };
            for patch in Patch::ALL {
                let mut apply = merge.clone();
                (apply["apiVersion"], apply["kind"]) = (json!("v1"), json!("Namespace"));
                apply["metadata"]["name"] = json!(name);
                let body = match patch {
                    Patch::Json => &operation,
                    Patch::Merge | Patch::Strategic => &merge,
                    // What another manager owns is not removed by leaving it out.
                    Patch::Apply if value.is_null() => continue,
                    Patch::Apply => &apply,
                };
                answers.push(ways.admin.patch(patch, &path, body).await?);
            }
        }
        _ => {}
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_guarded_key_is_changed_through_any_subresource() -> Result<()> {
    let ways = Ways::find().await?;
    let (unready, ready) = (ways.gate.namespace().await?, ways.gate.ready().await?);
    let mut tried = 0;
    for (name, changes) in [(&unready, changes_of_unready()), (&ready, changes_of_ready())] {
        let before = ways.gate.admin.get(&format!("namespace {name}")).await?;
        for (served, verbs) in ways.of(Class::Namespace) {
            for verb in verbs {
                for change in &changes {
                    for answer in ask(&ways, (served, verb), &before, change).await? {
                        ensure!(answer.refused_by(GUARD), "{verb} {served} of {change:?}: {answer:?}");
                        tried += 1;
                    }
                }
            }
        }
        let after = ways.gate.admin.get(&format!("namespace {name}")).await?;
        for map in ["labels", "annotations"] {
            ensure!(before["metadata"][map] == after["metadata"][map], "{map} of {name} have changed");
        }
    }
    ensure!(tried > 50, "only {tried} ways were found");
    ways.gate.delete(&[&unready, &ready]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_namespace_is_made_with_one() -> Result<()> {
    let ways = Ways::find().await?;
    for (served, verbs) in ways.of(Class::Namespace).filter(|(served, _)| served.subresource.is_empty()) {
        for (map, key, value) in changes_of_unready() {
            let name = fresh("gate-");
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, map: {key: value}}});
            let mut answers = Vec::new();
            for verb in &verbs {
                match *verb {
                    "create" => {
                        answers.push(ways.admin.ask("POST", &served.collection(""), &object).await?);
                        let mut generated = object.clone();
                        generated["metadata"]["name"] = Value::Null;
                        generated["metadata"]["generateName"] = json!("gate-");
                        answers.push(ways.admin.ask("POST", &served.collection(""), &generated).await?);
                    }
                    "patch" => {
                        answers.push(ways.admin.patch(Patch::Apply, &served.path("", &name), &object).await?);
                    }
                    "update" => {
                        let put = ways.admin.ask("PUT", &served.path("", &name), &object).await?;
                        ensure!(!put.done(), "PUT made a namespace: {put:?}");
                    }
                    _ => {}
                }
            }
            for answer in answers {
                ensure!(answer.refused_by(GUARD), "{served} with {key}: {answer:?}");
            }
        }
    }
    Ok(())
}
