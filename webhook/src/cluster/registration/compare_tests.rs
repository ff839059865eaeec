use super::*;
use crate::cluster::registration::rank::Rollout;

fn desired() -> Value {
    json!({
        "metadata": {
            "name": "gate",
            "labels": {"app.kubernetes.io/name": "webhook"},
            "ownerReferences": [{"kind": "ClusterRole", "name": "role", "uid": "1"}],
        },
        "webhooks": [
            {
                "name": "pods", "clientConfig": {"caBundle": "AA"}, "timeoutSeconds": 5,
                "namespaceSelector": {"matchExpressions": [{"key": "ready", "operator": "NotIn", "values": ["true"]}]},
                "rules": [{"resources": ["pods"], "scope": "Namespaced"}],
            },
            {"name": "namespaces", "clientConfig": {"caBundle": "AA"}, "rules": [{"resources": ["namespaces"]}]},
        ],
    })
}

fn rank(revision: u64, digest: &str) -> Rank {
    let rollout = Rollout { revision, deployment: "d".to_owned(), created: 1 };
    Rank { rollout, digest: digest.to_owned() }
}

/// What is there once `rank` has written.
fn written(rank: &Rank) -> Value {
    match judge(&desired(), &json!({"metadata": {"name": "gate", "uid": "7"}}), rank) {
        Judgement::Write(object) => object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_needs_no_second_write() {
    let present = written(&rank(1, "a"));
    assert_eq!(judge(&desired(), &present, &rank(1, "a")), Judgement::Same);
    assert_eq!(present["metadata"]["uid"], "7");
    assert_eq!(present["webhooks"][0]["objectSelector"], json!({}));
    assert_eq!(present["webhooks"][1]["rules"][0]["scope"], "*");
    // A replica of the same mind with a smaller revision agrees with it.
    assert_eq!(judge(&desired(), &present, &rank(0, "a")), Judgement::Same);
}

type Edit = fn(&mut Value);

#[test]
fn every_edit_is_put_right() {
    let good = written(&rank(1, "a"));
    let edits: [(&str, Edit); 14] = [
        ("an entry gone", |o| drop(o["webhooks"].as_array_mut().unwrap().remove(1))),
        ("no entry", |o| o["webhooks"] = Value::Null),
        ("a foreign entry", |o| o["webhooks"].as_array_mut().unwrap().push(json!({"name": "evil"}))),
        ("fails open", |o| o["webhooks"][0]["failurePolicy"] = json!("Ignore")),
        ("an object selector", |o| o["webhooks"][0]["objectSelector"] = json!({"matchLabels": {"a": "b"}})),
        ("a match condition", |o| {
            o["webhooks"][0]["matchConditions"] = json!([{"name": "no", "expression": "false"}]);
        }),
        ("a foreign authority", |o| o["webhooks"][0]["clientConfig"]["caBundle"] = json!("BB")),
        ("another address", |o| o["webhooks"][0]["clientConfig"]["url"] = json!("https://evil")),
        ("a rule gone", |o| o["webhooks"][0]["rules"] = json!([])),
        ("a namespace let out", |o| {
            let terms = o["webhooks"][0]["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
            terms
                .push(json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["evil"]}));
        }),
        ("a term gone", |o| o["webhooks"][0]["namespaceSelector"] = json!({})),
        ("our label gone", |o| o["metadata"]["labels"] = Value::Null),
        ("our annotation gone", |o| o["metadata"]["annotations"] = Value::Null),
        ("our owner gone", |o| o["metadata"]["ownerReferences"] = Value::Null),
    ];
    for (what, edit) in edits {
        let mut present = good.clone();
        edit(&mut present);
        assert_ne!(present, good, "{what}");
        assert_eq!(judge(&desired(), &present, &rank(1, "a")), Judgement::Write(good.clone()), "{what}");
    }
}

#[test]
fn metadata_of_others_stays() {
    let mut present = written(&rank(1, "a"));
    present["metadata"]["labels"]["team"] = json!("a");
    present["metadata"]["annotations"]["admissions.enforcer/disabled"] = json!("true");
    present["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .push(json!({"kind": "App", "name": "x", "uid": "9"}));
    assert_eq!(judge(&desired(), &present, &rank(1, "a")), Judgement::Same);
}

#[test]
fn an_owner_that_was_made_anew_takes_the_place_of_the_old_one() {
    let mut present = written(&rank(1, "a"));
    present["metadata"]["ownerReferences"][0]["uid"] = json!("0");
    let Judgement::Write(next) = judge(&desired(), &present, &rank(1, "a")) else { panic!() };
    assert_eq!(next["metadata"]["ownerReferences"], desired()["metadata"]["ownerReferences"]);
}

#[test]
fn terms_of_a_managed_cluster_are_tolerated_in_any_order_and_kept_by_a_write() {
    let term = json!({"key": "control-plane", "operator": "DoesNotExist"});
    for position in [0, 1] {
        let mut present = written(&rank(1, "a"));
        let terms = present["webhooks"][0]["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
        terms.insert(position, term.clone());
        assert_eq!(judge(&desired(), &present, &rank(1, "a")), Judgement::Same);
        present["webhooks"][0]["failurePolicy"] = json!("Ignore");
        let Judgement::Write(next) = judge(&desired(), &present, &rank(1, "a")) else { panic!() };
        let terms = next["webhooks"][0]["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        assert!(terms.contains(&term) && terms.len() == 2, "{next}");
        assert_eq!(next["webhooks"][0]["failurePolicy"], "Fail");
    }
}

#[test]
fn of_two_versions_the_newer_wins_once_and_for_all() {
    let (old, new) = (rank(1, "a"), rank(2, "b"));
    let present = written(&old);
    let mut changed = desired();
    changed["webhooks"][0]["timeoutSeconds"] = json!(3);
    let Judgement::Write(present) = judge(&changed, &present, &new) else { panic!() };
    assert_eq!(judge(&desired(), &present, &old), Judgement::Newer);
    assert_eq!(judge(&changed, &present, &new), Judgement::Same);
    // A rollback has a greater revision again.
    assert!(matches!(judge(&desired(), &present, &rank(3, "a")), Judgement::Write(_)));
}
