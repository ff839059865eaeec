//! What every program of ours needs around its own work: telemetry, TLS set-up, shutdown, back-off, problem documents.
//!
//! One way to do each of these things, shared by the three programs, so that their `main`s stay thin and alike.

pub mod backoff;
pub mod crypto;
pub mod http;
pub mod problem;
pub mod shutdown;
pub mod telemetry;
