use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::json;

use super::*;
use crate::cluster::fake;

/// Objects by path, and what was asked: an API server that serves one form of report.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    patches: Arc<Mutex<Vec<String>>>,
    form: Arc<Mutex<Option<Form>>>,
}

impl Server {
    fn writer(&self) -> Writer {
        let server = self.clone();
        let client = fake::client(move |method, path, body| {
            let server = server.clone();
            async move { server.answer(&method, path, body) }
        });
        Writer::new(client, Metrics::register(&mut prometheus_client::registry::Registry::default()))
    }

    fn answer(&self, method: &str, path: String, body: Value) -> (u16, Value) {
        if let Some(form) = *self.form.lock().unwrap()
            && path == format!("/apis/{}", form.api_version)
        {
            return (200, json!({"resources": [{"name": form.namespaced.1}]}));
        }
        let mut objects = self.objects.lock().unwrap();
        if method == "PATCH" {
            self.patches.lock().unwrap().push(path.clone());
            objects.insert(path, body.clone());
            return (200, body);
        }
        objects.get(&path).map_or_else(|| fake::failure(404, "NotFound"), |object| (200, object.clone()))
    }

    fn patched(&self) -> usize {
        std::mem::take(&mut *self.patches.lock().unwrap()).len()
    }
}

fn findings(kind: Kind, count: usize) -> Vec<Finding> {
    let finding = |number: usize| Finding {
        kind,
        object: Object {
            api_version: "v1",
            kind: "Pod",
            namespace: "shop".to_owned(),
            name: format!("p{number}"),
            uid: String::new(),
        },
        message: "It runs.".to_owned(),
    };
    (0..count).map(finding).collect()
}

async fn report(writer: &Writer, findings: &[Finding]) {
    let namespace = Object::namespace("shop", "uid");
    writer.report(&namespace, findings, &event::announced(&namespace, findings)).await;
}

#[tokio::test]
async fn what_is_there_is_not_written_again_by_any_replica() {
    let server = Server::default();
    *server.form.lock().unwrap() = Some(FORMS[1]);
    let (one, other) = (server.writer(), server.writer());
    assert!(one.discover().await && !one.discover().await, "new once");
    assert!(other.discover().await);
    let two = findings(Kind::PodInUnreadyNamespace, 2);
    report(&one, &two).await;
    assert_eq!(server.patched(), 3, "two events and a report");
    report(&one, &two).await;
    report(&other, &two).await;
    assert_eq!(server.patched(), 0);
    report(&other, &two[..1]).await;
    assert_eq!(server.patched(), 1, "the report");
}

#[tokio::test]
async fn many_findings_are_one_event() {
    let server = Server::default();
    report(&server.writer(), &findings(Kind::PodInUnreadyNamespace, 1000)).await;
    assert_eq!(server.patched(), 1);
}

#[tokio::test]
async fn no_report_is_made_of_nothing_and_one_that_is_there_is_emptied() {
    let server = Server::default();
    *server.form.lock().unwrap() = Some(FORMS[0]);
    let writer = server.writer();
    writer.discover().await;
    report(&writer, &[]).await;
    assert_eq!(server.patched(), 0);
    report(&writer, &findings(Kind::StaticPod, 1)).await;
    report(&writer, &[]).await;
    let objects = server.objects.lock().unwrap();
    assert_eq!(objects[&FORMS[0].path("shop")]["summary"]["fail"], 0);
}

#[tokio::test]
async fn what_one_replica_alone_saw_is_in_no_report() {
    let server = Server::default();
    *server.form.lock().unwrap() = Some(FORMS[0]);
    let writer = server.writer();
    writer.discover().await;
    report(&writer, &findings(Kind::PodAfterRevocation, 1)).await;
    let objects = server.objects.lock().unwrap();
    assert_eq!(objects.len(), 1, "the event alone: {objects:?}");
}

#[tokio::test]
async fn without_the_definition_there_is_no_report() {
    let server = Server::default();
    let writer = server.writer();
    assert!(!writer.discover().await);
    report(&writer, &findings(Kind::StaticPod, 1)).await;
    assert_eq!(server.patched(), 1, "the event");
    *server.form.lock().unwrap() = Some(FORMS[1]);
    assert!(writer.discover().await, "installed later");
    *server.form.lock().unwrap() = None;
    assert!(!writer.discover().await);
    assert_eq!(writer.form(), None, "removed");
}
