//! The control API: tenants, identity, configuration.
//!
//! Arrows point one way: `main` -> `run` -> [`http`] -> the domain ([`tenancy`], [`identity`], [`config`]) -> PostgreSQL,
//! Kubernetes, Redis. The decision modules of the domain know none of these.

pub mod admin;
pub mod config;
pub mod http;
pub mod identity;
pub mod kube;
pub mod migrate;
mod run;
pub mod settings;
pub mod state;
pub mod tenancy;
pub mod watchdog;

pub use run::run;
