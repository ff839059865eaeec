//! `webhook review`: decides an AdmissionReview from a file, with the namespace's labels from the command line.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _, ready};

use crate::{
    admission::{
        answer,
        gate::{Missing, Namespace, NamespaceState},
        policy::EXEMPT_NAMESPACES,
        review,
    },
    facts::{Facts, NamespaceKeys},
    serve::decide::{Decider, Endpoint},
    settings::Review,
};

/// Facts from the command line instead of a cluster.
struct Given(BTreeMap<String, String>);

impl Facts for Given {
    fn namespace(&self, _: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        let missing = Missing::Unreadable("no cluster was asked".to_owned());
        let found = Namespace { labels: self.0.clone(), terminating: false, missing };
        ready(Arc::new(NamespaceState::Found(found))).boxed()
    }

    fn proof(
        &self,
        _: &str,
        _: NamespaceKeys,
    ) -> BoxFuture<'_, Result<Vec<contract::proof::Defect>, String>> {
        ready(Err("no cluster was asked".to_owned())).boxed()
    }
}

/// Prints the answer; the exit status is 0 if the request is admitted, 1 if it is refused.
pub async fn review(settings: &Review) -> anyhow::Result<ExitCode> {
    let mut body = Vec::new();
    if settings.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body).context("reading stdin")?;
    } else {
        body =
            std::fs::read(&settings.file).with_context(|| format!("reading {}", settings.file.display()))?;
    }
    let request = review::decode(&body)?;
    let given = Given(settings.namespace_labels.iter().cloned().collect());
    let decider =
        Decider::new(settings.policy.policy(EXEMPT_NAMESPACES.map(str::to_owned).to_vec()), Arc::new(given));
    let endpoint = if settings.mutate { Endpoint::Mutate } else { Endpoint::Validate };
    let verdict = decider.decide(endpoint, &request).await;
    let mut out = std::io::stdout().lock();
    out.write_all(&answer::encode(&request.uid, &verdict))?;
    out.write_all(b"\n")?;
    Ok(if verdict.allowed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
