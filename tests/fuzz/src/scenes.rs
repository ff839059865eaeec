//! The worlds in which a decision is made: facts in memory, for every kind of namespace.

use std::sync::{Arc, LazyLock};

use contract::proof::Defect;
use futures::future::{BoxFuture, FutureExt as _, ready};
use webhook::{
    admission::{
        gate::{Missing, Namespace, NamespaceState},
        policy::Policy,
    },
    facts::{Facts, NamespaceKeys},
    serve::decide::Decider,
};

/// Which pods a namespace lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    All,
    Held,
    None,
}

/// A world, and what may be expected of it.
pub struct Scene {
    pub name: &'static str,
    pub decider: Decider,
    /// Which pods may be created in any namespace but the exempt ones.
    pub lets_in: Pods,
    /// Whether the proof of a baseline finds it complete.
    pub proves: bool,
}

struct Fixed(Arc<NamespaceState>, Result<Vec<Defect>, String>);

impl Facts for Fixed {
    fn namespace(&self, _: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        ready(Arc::clone(&self.0)).boxed()
    }

    fn proof(&self, _: &str, _: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
        ready(self.1.clone()).boxed()
    }
}

pub static SCENES: LazyLock<Vec<Scene>> = LazyLock::new(|| {
    let lacking = || Missing::Parts(vec!["no \"quota\"\n".to_owned()]);
    let labelled = |pairs: &[(&str, &str)]| {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NamespaceState::Found(Namespace { labels, missing: lacking(), ..Namespace::default() })
    };
    let scene = |name, state, proof: Result<Vec<Defect>, String>, lets_in| Scene {
        name,
        proves: proof.as_ref().is_ok_and(Vec::is_empty),
        decider: Decider::new(Policy::new("image"), Arc::new(Fixed(Arc::new(state), proof))),
        lets_in,
    };
    vec![
        scene("ready", labelled(&[("isolation-ready", "true")]), Ok(vec![]), Pods::All),
        scene(
            "deny",
            labelled(&[("agent-ready.io/gate", "deny")]),
            Ok(vec![Defect::LimitRangeMissing]),
            Pods::None,
        ),
        scene(
            "unknown",
            NamespaceState::Unknown("no answer".to_owned()),
            Err("no answer".to_owned()),
            Pods::None,
        ),
        scene("absent", NamespaceState::Absent, Ok(vec![Defect::IngressNotDenied]), Pods::None),
        scene("warn", labelled(&[("agent-ready.io/gate", "warn")]), Ok(vec![]), Pods::All),
        scene("hold", labelled(&[("agent-ready.io/gate", "hold")]), Ok(vec![]), Pods::Held),
    ]
});
