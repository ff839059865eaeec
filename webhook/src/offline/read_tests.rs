use proptest::prelude::*;

use super::*;

fn places(input: &str) -> Vec<String> {
    let items = read(input.as_bytes()).unwrap();
    items.iter().map(|item| format!("{}: {} {}", item.place, item.kind, item.name)).collect()
}

fn error(input: &str) -> String {
    read(input.as_bytes()).unwrap_err().to_string()
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[]}}"#;

#[test]
fn documents_lists_and_templates_are_found_with_their_places() {
    let input = format!(
        "---\n# nothing\n---\n{POD}\n---\napiVersion: v1\nkind: List\nitems:\n- {POD}\n- apiVersion: batch/v1\n  kind: CronJob\n  \
         metadata: {{name: c}}\n  spec: {{jobTemplate: {{spec: {{template: {{spec: {{}}}}}}}}}}\n"
    );
    assert_eq!(
        places(&input),
        [
            "document 2: Pod a",
            "document 3, items[0]: Pod a",
            "document 3, items[1].spec.jobTemplate.spec.template: CronJob c"
        ]
    );
    assert_eq!(places(&format!("{POD}{POD}")), ["document 1: Pod a", "document 2: Pod a"]);
    assert_eq!(places(&format!("{POD}\n---\n{POD}")), ["document 1: Pod a", "document 2: Pod a"]);
}

#[test]
fn members_of_a_typed_list_need_not_say_what_they_are() {
    let list = r#"{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"spec":{}}]}"#;
    assert_eq!(places(list), ["document 1, items[0]: Pod a"]);
}

#[test]
fn every_workload_with_a_template_is_a_pod() {
    for (version, kind, path) in [
        ("apps/v1", "Deployment", "spec.template"),
        ("apps/v1", "ReplicaSet", "spec.template"),
        ("apps/v1", "StatefulSet", "spec.template"),
        ("apps/v1", "DaemonSet", "spec.template"),
        ("batch/v1", "Job", "spec.template"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template"),
        ("v1", "ReplicationController", "spec.template"),
        ("v1", "PodTemplate", "template"),
    ] {
        let mut inner = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        for step in path.rsplit('.') {
            inner = json!({step: inner});
        }
        inner["apiVersion"] = json!(version);
        inner["kind"] = json!(kind);
        inner["metadata"] = json!({"name": "w"});
        let items = read(inner.to_string().as_bytes()).unwrap();
        let Content::Pod(pod) = &items[0].content else { panic!("{kind}") };
        assert_eq!(pod["metadata"], json!({"generateName": "w-", "labels": {"a": "b"}}), "{kind}");
        assert_eq!(items[0].place.path, path);
        inner["metadata"]["name"] = json!("w");
        let broken = inner.to_string().replace(r#""spec":{"containers":[]}"#, r#""spec":1"#);
        assert_eq!(
            error(&broken),
            format!("document 1, {path}.spec: must be an object: it is the pod that would be made")
        );
    }
}

#[test]
fn what_cannot_be_decided_about_is_named_with_its_place() {
    let damaged = format!("{POD}\n---\na: [");
    let half = format!("{POD}\n---\nkind: Pod\n");
    let inputs = [
        "",
        "---\n---\n",
        r#"{"apiVersion":"v1","#,
        &damaged,
        "just text",
        "a: 1\na: 2\n",
        &half,
        "apiVersion: v1\nkind: 1\n",
        "apiVersion: v1\nkind: List\nitems: [1]\n",
        "apiVersion: v1\nkind: List\nitems: {}\n",
        "apiVersion: v1\nkind: Pod\nspec: {}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: [a]}\nspec: {}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{}}"#,
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: 1}\n",
    ];
    let errors: Vec<String> = inputs.iter().map(|input| format!("{input:?}\n  {}", error(input))).collect();
    insta::assert_snapshot!("bad_inputs", errors.join("\n"));
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.extend([format!("a{level}: &a{level} [{aliases}]\n")]);
    }
    assert!(error(&bomb).contains("repetition limit"), "{}", error(&bomb));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(error(&deep).contains("document 1"), "{}", error(&deep));
}

proptest! {
    #[test]
    fn the_reader_never_panics(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_damaged_manifest_never_panics(at in 0_usize..200, byte: u8) {
        let mut bytes = format!("---\nitems: []\n---\n{POD}\n").into_bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = read(&bytes);
    }
}
