//! The port through which decisions get their facts; [`crate::cluster`] reads them live, tests and benches hold them.

use std::{collections::BTreeMap, sync::Arc};

use contract::proof::Defect;
use futures::future::{BoxFuture, FutureExt as _, ready};

use crate::admission::{baseline::Tenant, gate::NamespaceState};

/// Reads what decisions depend on. Every answer comes from a read that began after the question was asked.
pub trait Facts: Send + Sync + 'static {
    /// The namespace as it is. A failed or overdue read is [`NamespaceState::Unknown`].
    fn namespace(&self, name: &str) -> BoxFuture<'_, Arc<NamespaceState>>;

    /// What the proof of the baseline finds missing for a namespace with these labels and annotations. The error says
    /// why it could not be read.
    fn proof(&self, name: &str, keys: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>>;

    /// The namespace with its whole baseline, or none if it does not exist. The error says why it could not be read;
    /// facts that hold no baseline know nothing about it.
    fn tenant(&self, _name: &str) -> BoxFuture<'_, Result<Option<Tenant>, String>> {
        ready(Err("the objects of its baseline are not known here".to_owned())).boxed()
    }
}

/// Labels and annotations that a namespace is to be proved with.
#[derive(Debug, Clone, Default)]
pub struct NamespaceKeys {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}
