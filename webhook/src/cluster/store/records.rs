//! What is kept of an object, and how it is read from the wire: nothing is built that is not kept.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use super::compact::{Interner, Pairs};
use contract::names;
use serde::{Deserialize, de::DeserializeOwned};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Label by which pods choose nodes of an operating system.
const OS_LABEL: &str = "kubernetes.io/os";
/// The operating system that the sidecar does not run on.
const WINDOWS: &str = "windows";

/// A slim record of an object.
pub trait Record: Debug + PartialEq + Send + Sync + 'static {
    /// The object on the wire, as far as it is read.
    type Wire: DeserializeOwned + Clone + Send + 'static;
    /// Path of the collection of all of them.
    const PATH: &'static str;
    /// Plural name of the resource, for logs and metrics.
    const RESOURCE: &'static str;

    /// The version that the object was read at.
    fn version(wire: &Self::Wire) -> Option<&str>;
    /// Keeps what is wanted. Never fails: an object that lacks something is known without it.
    fn from_wire(wire: Self::Wire) -> Self;
    /// Its namespace; `""` for cluster-wide objects.
    fn namespace(&self) -> &Arc<str>;
    /// Its name.
    fn name(&self) -> &Arc<str>;
    /// Uses the one copy of each text that others are likely to have too.
    fn share(&mut self, interner: &mut Interner);
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    nowhere: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID: a namespace made again under the same name has another.
    pub uid: Box<str>,
    /// Its labels, as far as they are ours or Pod Security's.
    pub labels: Pairs,
    /// Its annotations, as far as they are ours.
    pub annotations: Pairs,
    /// Deletion has begun.
    pub terminating: bool,
}

impl Namespace {
    /// Whether it carries the label that opens the gate.
    pub fn is_ready(&self) -> bool {
        self.label(names::GATE_LABEL) == Some(names::GATE_OPEN)
    }

    /// Value of one of the labels that are kept.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    /// Value of one of the annotations that are kept.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)
    }
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Phase {
    /// Not all of its containers have been started.
    Pending,
    /// At least one container runs or is being started.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
    /// Its node has not been heard of, or the value is not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Who made a pod: its owner reference with `controller: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Kind, as `ReplicaSet`.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Where it is in its life.
    pub phase: Phase,
    /// The node that it is bound to.
    pub node: Option<Arc<str>>,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// Its scheduling gates.
    pub gates: Box<[Box<str>]>,
    /// It has an init container with the sidecar's name.
    pub sidecar: bool,
    /// Its own annotation says that it wants no sidecar.
    pub opted_out: bool,
    /// It uses the host's network.
    pub host_network: bool,
    /// It asks for Windows.
    pub windows: bool,
    /// The controller that made it.
    pub owner: Option<Owner>,
    /// It mirrors a file of a kubelet.
    pub mirror: bool,
    /// Deletion has begun.
    pub terminating: bool,
}

impl Pod {
    /// Whether it carries our scheduling gate.
    pub fn is_held(&self) -> bool {
        self.gates.iter().any(|gate| gate.as_ref() == names::HOLD_GATE)
    }

    /// Whether it runs, or may run at any moment: neither ended nor kept from a node by a gate.
    pub fn may_run(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running | Phase::Unknown) && self.gates.is_empty()
    }
}

/// The metadata of an object on the wire, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMetadata {
    name: Option<Arc<str>>,
    namespace: Option<Arc<str>>,
    uid: Option<Box<str>>,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
    labels: Option<BTreeMap<Arc<str>, Arc<str>>>,
    annotations: Option<BTreeMap<Arc<str>, Arc<str>>>,
    owner_references: Option<Vec<WireOwner>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WireOwner {
    #[serde(default)]
    kind: Arc<str>,
    #[serde(default)]
    name: Arc<str>,
    controller: Option<bool>,
}

/// A namespace on the wire.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WireNamespace {
    metadata: WireMetadata,
}

/// A pod on the wire.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WirePod {
    metadata: WireMetadata,
    spec: WireSpec,
    status: Option<WireStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec {
    node_name: Option<Arc<str>>,
    host_network: Option<bool>,
    os: Option<WireNamed>,
    node_selector: Option<BTreeMap<Box<str>, Box<str>>>,
    scheduling_gates: Option<Vec<WireNamed>>,
    init_containers: Option<Vec<WireNamed>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireNamed {
    name: Box<str>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireStatus {
    phase: Option<Phase>,
}

fn seconds(timestamp: Option<&str>) -> i64 {
    let parsed = timestamp.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    parsed.map_or(0, OffsetDateTime::unix_timestamp)
}

impl Record for Namespace {
    type Wire = WireNamespace;
    const PATH: &'static str = "/api/v1/namespaces";
    const RESOURCE: &'static str = "namespaces";

    fn version(wire: &WireNamespace) -> Option<&str> {
        wire.metadata.resource_version.as_deref()
    }

    fn from_wire(wire: WireNamespace) -> Self {
        let WireMetadata { name, uid, labels, annotations, deletion_timestamp, .. } = wire.metadata;
        let label = |key: &str| {
            key == names::GATE_LABEL
                || key.starts_with(names::PREFIX)
                || key.starts_with(names::POD_SECURITY_PREFIX)
        };
        Self {
            nowhere: Arc::from(""),
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            labels: Pairs::of(labels, label),
            annotations: Pairs::of(annotations, |key| key.starts_with(names::PREFIX)),
            terminating: deletion_timestamp.is_some(),
        }
    }

    fn namespace(&self) -> &Arc<str> {
        &self.nowhere
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn share(&mut self, interner: &mut Interner) {
        interner.share(&mut self.nowhere);
        self.labels.share(interner);
        self.annotations.share(interner);
    }
}

impl Record for Pod {
    type Wire = WirePod;
    const PATH: &'static str = "/api/v1/pods";
    const RESOURCE: &'static str = "pods";

    fn version(wire: &WirePod) -> Option<&str> {
        wire.metadata.resource_version.as_deref()
    }

    fn from_wire(wire: WirePod) -> Self {
        let WirePod { metadata, spec, status } = wire;
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|map| map.get(key));
        let opted_out = annotation(names::INJECT_LABEL).is_some_and(|value| value.as_ref() == "disabled");
        let mirror = annotation(names::MIRROR_ANNOTATION).is_some();
        let owner =
            metadata.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        let selected = spec.node_selector.as_ref().and_then(|selector| selector.get(OS_LABEL));
        let windows =
            spec.os.as_ref().map(|os| &os.name).or(selected).is_some_and(|os| os.as_ref() == WINDOWS);
        let containers = spec.init_containers.unwrap_or_default();
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            phase: status.and_then(|status| status.phase).unwrap_or_default(),
            node: spec.node_name.filter(|node| !node.is_empty()),
            created: seconds(metadata.creation_timestamp.as_deref()),
            gates: spec.scheduling_gates.into_iter().flatten().map(|gate| gate.name).collect(),
            sidecar: containers.iter().any(|container| container.name.as_ref() == names::SIDECAR_CONTAINER),
            opted_out,
            host_network: spec.host_network == Some(true),
            windows,
            owner: owner.map(|owner| Owner { kind: owner.kind, name: owner.name }),
            mirror,
            terminating: metadata.deletion_timestamp.is_some(),
        }
    }

    fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn share(&mut self, interner: &mut Interner) {
        interner.share(&mut self.namespace);
        if let Some(node) = &mut self.node {
            interner.share(node);
        }
        if let Some(owner) = &mut self.owner {
            interner.share(&mut owner.kind);
            interner.share(&mut owner.name);
        }
    }
}
