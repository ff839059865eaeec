//! Every way around the gate, taken from what the apiserver serves at this moment: each resource, subresource, version and
//! verb has a class, and each that could do harm is tried on the real apiserver.

mod gate;

#[path = "bypasses/baselines.rs"]
mod baselines;
#[path = "bypasses/elsewhere.rs"]
mod elsewhere;
#[path = "bypasses/namespaces.rs"]
mod namespaces;
#[path = "bypasses/pods.rs"]
mod pods;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use gate::{Gate, OWNER};
use tests::bypasses::caller::Caller;
use tests::bypasses::classes::{BASELINE, Class, POD_MAKERS, class};
use tests::bypasses::{Served, discover};

/// The gate, with what the apiserver serves and who tries to pass.
struct Ways {
    gate: Gate,
    served: Vec<Served>,
    admin: Caller,
    owner: Caller,
}

impl Ways {
    async fn find() -> Result<Self> {
        let gate = Gate::shared().await?;
        let client = gate.platform.client().await?;
        let served = discover(&client).await?;
        let admin = Caller::admin(client);
        let owner = admin.acting_as(&format!("agent-ready:{OWNER}"), &["system:authenticated"]);
        Ok(Self { gate, served, admin, owner })
    }

    /// What is served of this class, with the verbs that are of it.
    fn of(&self, wanted: Class) -> impl Iterator<Item = (&Served, Vec<&str>)> {
        self.served.iter().filter_map(move |served| {
            let of_class = |verb: &&str| class(served, verb) == Some(wanted);
            let verbs: Vec<&str> = served.verbs.iter().map(String::as_str).filter(of_class).collect();
            (!verbs.is_empty()).then_some((served, verbs))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_served_is_known() -> Result<()> {
    let ways = Ways::find().await?;
    let mut counts: BTreeMap<Class, usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    for served in &ways.served {
        for verb in &served.verbs {
            match class(served, verb) {
                Some(class) => *counts.entry(class).or_default() += 1,
                None => unknown.push(format!(
                    "{verb} {served} (kind {}, pod spec: {})",
                    served.kind, served.has_pod_spec
                )),
            }
        }
    }
    ensure!(
        unknown.is_empty(),
        "no rule says what these could do to the gate, and no journey tries them: {unknown:#?}"
    );
    eprintln!("{} resources and subresources: {counts:?}", ways.served.len());

    // What is looked for is found: otherwise nothing below would be tried.
    let is_served = |name: (&str, &str), part: &str| {
        ways.served.iter().any(|served| served.name() == name && served.subresource == part)
    };
    for name in POD_MAKERS.iter().chain(&BASELINE) {
        ensure!(is_served(*name, ""), "{name:?} is not served any more: correct the table");
    }
    for part in ["", "status", "finalize"] {
        ensure!(is_served(("", "namespaces"), part), "namespaces/{part} is not served any more");
    }
    let with_pods = |served: &&Served| served.has_pod_spec && served.subresource.is_empty();
    ensure!(
        ways.served.iter().filter(with_pods).count() > POD_MAKERS.len(),
        "no pod spec is found in the schemas"
    );
    ensure!(ways.of(Class::Scale).count() >= 4, "no scale is found");
    Ok(())
}
