//! The audit of what is already there (row G11): facts in, findings out. No I/O; `cluster::auditor` reads and reports.
//!
//! Findings are a function of the cluster's objects alone: replicas that see the same objects find the same, and write the
//! same reports, so that nothing need be agreed between them. The one exception is [`Kind::PodAfterRevocation`], which
//! only a process that saw the label go can know.

pub mod enforce;
pub mod event;
pub mod finding;
pub mod guards;
pub mod namespaces;
pub mod pods;
pub mod powers;
pub mod rbac;
pub mod report;
pub mod table;

pub use finding::{Finding, Kind, Object};
