//! The local platform of real components, and the journeys that prove the rows on it.

pub mod data;
pub mod host;
pub mod http;
pub mod process;
pub mod supervisor;
pub mod workspace;
