//! The decisions, apart from all I/O: a review and the facts it needs go in, a verdict comes out.
//!
//! Nothing here knows a Kubernetes client, a runtime or a web server; `tests/tests/tidy.rs` keeps it so.

pub mod answer;
pub mod baseline;
pub mod baseline_guard;
pub mod gate;
pub mod hold;
pub mod inject;
pub mod label_guard;
pub mod metadata;
pub mod object;
pub mod policy;
pub mod refusal;
pub mod release;
pub mod review;
pub mod sidecar;
pub mod text;
