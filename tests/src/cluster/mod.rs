//! Kubernetes, from the first process to a node on which pods run.

pub mod build;
pub mod control_plane;
pub mod external;
pub mod kubeconfig;
pub mod node;
pub mod source;
