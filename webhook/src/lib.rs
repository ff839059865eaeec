//! The gate: an admission webhook that lets no pod start in a namespace that is not proved isolated.
//!
//! `admission` decides, `serve` speaks HTTPS, `cluster` reads and writes Kubernetes; `facts` is the port between them.

pub mod admission;
pub mod audit;
pub mod cluster;
pub mod facts;
pub mod jitter;
pub mod manifests;
pub mod offline;
pub mod readiness;
pub mod run;
pub mod serve;
pub mod settings;
