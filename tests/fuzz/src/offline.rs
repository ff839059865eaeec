//! The offline reader: `webhook review` from its bytes to what it prints.

use std::collections::BTreeMap;

use contract::names;
use futures::FutureExt as _;
use webhook::{
    admission::policy::Policy,
    offline::{
        decide::{Asker, decide},
        known::Known,
        read::{self, Content},
        report,
    },
    serve::decide::Endpoint,
};

/// An error that says where, or an outcome for every object; and no pod comes into a namespace that nothing makes ready.
pub fn offline(bytes: &[u8]) {
    let items = match read::read(bytes) {
        Err(bad) => return assert!(!bad.to_string().is_empty()),
        Ok(items) => items,
    };
    assert!(!items.is_empty(), "an input without an object was taken");
    let policy = Policy::new("image");
    let asker = Asker {
        user: "someone".to_owned(),
        groups: Vec::new(),
        namespace: "shop".to_owned(),
        endpoint: Endpoint::Validate,
    };
    for given in [None, Some(BTreeMap::new()), Some(ready())] {
        let opened =
            given == Some(ready()) || items.iter().any(|item| matches!(item.content, Content::Namespace(_)));
        let known = Known { given, ..Known::default() };
        let outcomes = decide(items.clone(), known, &policy, &asker)
            .now_or_never()
            .expect("without a cluster nothing is waited for");
        assert_eq!(outcomes.len(), items.len(), "an object has no outcome");
        for (item, outcome) in items.iter().zip(&outcomes) {
            let pod = matches!(item.content, Content::Pod(_)) && !policy.exempts(&outcome.namespace);
            assert!(!pod || opened || outcome.refused(), "a pod came in: {outcome:?}");
        }
        assert_eq!(report::json(&outcomes)["admitted"], report::admitted(&outcomes));
        assert!(report::text(&outcomes).ends_with("without a rule\n"));
    }
}

fn ready() -> BTreeMap<String, String> {
    BTreeMap::from([(names::GATE_LABEL.to_owned(), names::GATE_OPEN.to_owned())])
}
