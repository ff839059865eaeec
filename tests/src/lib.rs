//! The local platform of real components, and the journeys that prove the rows on it.

pub mod cli;
pub mod cluster;
pub mod data;
pub mod deploy;
pub mod host;
pub mod http;
pub mod images;
pub mod kubectl;
pub mod pki;
pub mod platform;
pub mod process;
pub mod supervisor;
pub mod workspace;

pub use platform::Platform;
