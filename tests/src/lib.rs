//! The local platform of real components, and the journeys that prove the rows on it.

pub mod api;
pub mod attacks;
pub mod bypasses;
pub mod cli;
pub mod cluster;
pub mod configured;
pub mod data;
pub mod demo;
pub mod deploy;
pub mod environment;
pub mod held;
pub mod host;
pub mod http;
pub mod images;
pub mod kubectl;
pub mod load;
pub mod model;
pub mod namespace;
pub mod pki;
pub mod platform;
pub mod pods;
pub mod process;
pub mod program;
pub mod supervisor;
pub mod tenants;
pub mod workspace;

pub use namespace::Namespace;
pub use platform::{Platform, Purpose};
pub use program::Program;
