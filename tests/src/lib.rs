//! The local platform of real components, and the journeys that prove the rows on it.

pub mod cluster;
pub mod data;
pub mod host;
pub mod http;
pub mod images;
pub mod pki;
pub mod process;
pub mod supervisor;
pub mod workspace;
