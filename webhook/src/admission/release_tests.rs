use super::*;

fn pod(name: &str, random: &str) -> Value {
    let volume = format!("kube-api-access-{random}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "generateName": "web-", "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": "7", "labels": {"app": "web"}, "annotations": {}, "managedFields": [{"manager": "m"}],
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}]},
        "spec": {
            "containers": [{"name": "app", "image": "a", "volumeMounts": [{"name": volume, "mountPath": "/t"}]}],
            "schedulingGates": [{"name": "other/gate"}, {"name": "agent-ready.io/isolation"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": volume, "projected": {"sources": []}}]},
        "status": {"phase": "Pending"},
    })
}

fn namespace(labels: &[(&str, &str)], terminating: bool) -> Namespace {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Namespace { labels, terminating, ..Namespace::default() }
}

#[test]
fn a_namespace_releases_when_it_would_not_hold() {
    let policy = Policy::new("image");
    let may = |labels: &[(&str, &str)]| may_release(&policy, "shop", &namespace(labels, false));
    for labels in [
        &[("isolation-ready", "true"), ("agent-ready.io/gate", "hold")],
        &[("agent-ready.io/gate", "audit"), ("a", "b")],
        &[("agent-ready.io/gate", "warn"), ("a", "b")],
        &[("agent-ready.io/gate", "exempt"), ("a", "b")],
    ] {
        assert!(may(labels), "{labels:?}");
    }
    for labels in [
        &[("isolation-ready", "false"), ("agent-ready.io/gate", "hold")],
        &[("agent-ready.io/gate", "deny"), ("a", "b")],
        &[("agent-ready.io/gate", "typo"), ("a", "b")],
    ] {
        assert!(!may(labels), "{labels:?}");
    }
    assert!(!may(&[]));
    assert!(may_release(&policy, "kube-system", &namespace(&[], false)));
    assert!(!may_release(&policy, "shop", &namespace(&[("isolation-ready", "true")], true)), "terminating");
    let lenient = Policy { default_mode: Mode::Audit, ..policy };
    assert!(may_release(&lenient, "shop", &namespace(&[], false)));
}

#[test]
fn what_is_sent_is_the_original_without_our_gate_and_name() {
    let held = held(&pod("web-abc", "x1y2z")).unwrap();
    insta::assert_json_snapshot!("candidate", held.candidate.manifest());
    assert_eq!((held.gate, held.owner.unwrap().name.as_str()), (1, "web-1"));
}

#[test]
fn pods_of_one_template_have_one_key_and_others_have_not() {
    let key = |pod: &Value| held(pod).unwrap().candidate.key();
    let first = pod("web-abc", "x1y2z");
    assert_eq!(key(&first), key(&pod("web-def", "00abc")));
    let mut changed = first.clone();
    changed["spec"]["containers"][0]["image"] = json!("b");
    assert_ne!(key(&first), key(&changed));
    let mut labelled = first.clone();
    labelled["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!("web-0");
    assert_ne!(key(&first), key(&labelled));
}

#[test]
fn nothing_of_the_spec_is_hidden_from_admission() {
    // A volume of the right name that is something else goes as it is.
    let mut odd = pod("web-abc", "x1y2z");
    odd["spec"]["volumes"][1] = json!({"name": "kube-api-access-x1y2z", "hostPath": {"path": "/"}});
    odd["spec"]["ephemeralContainers"] = json!([{"name": "debug", "securityContext": {"privileged": true}}]);
    let sent = held(&odd).unwrap().candidate.manifest();
    for part in ["volumes", "ephemeralContainers", "containers"] {
        assert_eq!(sent["spec"][part], odd["spec"][part], "{part}");
    }
}

#[test]
fn an_unchanged_answer_is_the_same_whatever_the_server_adds_to_every_pod() {
    let held = held(&pod("web-abc", "x1y2z")).unwrap();
    let mut admitted = held.candidate.manifest();
    admitted["metadata"]["name"] = json!("web-zzz");
    admitted["metadata"]["uid"] = json!("fresh");
    admitted["metadata"]["annotations"] = json!({});
    admitted["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    assert_eq!(held.candidate.differences(&admitted), [""; 0]);
    admitted["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "50m"}});
    assert_eq!(held.candidate.differences(&admitted), ["/spec/containers/0/resources"]);
}

#[test]
fn what_is_not_held_is_left_alone() {
    let mut free = pod("a", "x1y2z");
    free["spec"]["schedulingGates"] = json!([{"name": "other/gate"}]);
    assert!(held(&free).is_none());
    let mut leaving = pod("a", "x1y2z");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    assert!(held(&leaving).is_none());
    for odd in [json!({}), json!({"spec": {"schedulingGates": 1}}), json!([])] {
        assert!(held(&odd).is_none(), "{odd}");
    }
}

#[test]
fn the_patch_takes_off_our_gate_from_the_pod_that_was_read() {
    let original = pod("web-abc", "x1y2z");
    let held = held(&original).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch(&held)).unwrap();
    let mut released = original.clone();
    json_patch::patch(&mut released, &patch).unwrap();
    assert_eq!(released["spec"]["schedulingGates"], json!([{"name": "other/gate"}]));
    for (path, value) in [("/metadata/uid", "other"), ("/metadata/resourceVersion", "8")] {
        let mut other = original.clone();
        *other.pointer_mut(path).unwrap() = json!(value);
        assert!(json_patch::patch(&mut other, &patch).is_err(), "{path}");
    }
}

#[test]
fn a_refusal_is_told_from_a_failure() {
    let refused = |code, message| matches!(Second::failed(code, message), Second::Refused(_));
    assert!(refused(403, "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": privileged"));
    assert!(refused(403, "pods \"a\" is forbidden: exceeded quota: tenant-quota"));
    assert!(refused(422, "Pod \"a\" is invalid: spec.ephemeralContainers: Forbidden"));
    for (code, message) in [
        (500, "Internal error occurred: failed calling webhook"),
        (503, "unavailable"),
        (429, "too many requests"),
        (409, "conflict"),
        (404, "namespaces \"shop\" not found"),
        (403, "pods is forbidden: User \"system:serviceaccount:x\" cannot create resource \"pods\""),
        (403, "pods \"a\" is forbidden: status unknown for quota: tenant-quota, resources: pods"),
        (403, "unable to create new content in namespace shop because it is being terminated"),
    ] {
        assert!(!refused(code, message), "{message}");
    }
}

#[test]
fn what_cannot_be_released_is_made_anew_by_its_controller_or_kept() {
    let owner = held(&pod("a", "x1y2z")).unwrap().owner;
    let owner = owner.as_ref();
    assert_eq!(decide(&Second::Same, owner), Action::Release);
    assert_eq!(decide(&Second::Same, None), Action::Release);
    for second in [Second::Refused("no".into()), Second::Changed(vec!["/spec".into()])] {
        assert!(matches!(decide(&second, owner), Action::Recreate(_)));
        assert!(matches!(decide(&second, None), Action::Keep(_)));
    }
    assert!(matches!(decide(&Second::Unknown("x".into()), owner), Action::Retry(_)));
}

#[test]
fn events_say_what_happened_why_and_what_to_do() {
    let refused =
        Second::Refused("pods \"web-x7x2x\" is forbidden: violates PodSecurity \"restricted:latest\"".into());
    let places = ["/a", "/b", "/c", "/d"].map(str::to_owned).to_vec();
    let Action::Keep(refused) = decide(&refused, None) else { panic!("kept") };
    let Action::Keep(changed) = decide(&Second::Changed(places), None) else { panic!("kept") };
    insta::assert_snapshot!("kept", kept_message(&refused));
    insta::assert_snapshot!("recreated", recreated_message("web-abc", &changed));
}
