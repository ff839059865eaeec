//! HTTPS: reads reviews within limits, gets the facts, asks [`crate::admission`], answers.

pub mod body;
pub mod decide;
pub mod handlers;
pub mod metrics;
pub mod report;
pub mod server;
pub mod tls;
