//! What the webhook reads from and writes to Kubernetes.

pub mod auditor;
pub mod cel;
pub mod certificates;
pub mod configurations;
pub mod entries;
#[cfg(test)]
mod fake;
pub mod injection_policy;
pub mod keeper;
pub mod live;
pub mod material;
pub mod policies;
pub mod registration;
pub mod release;
pub mod rotation;
pub mod second_lock;
pub mod shared;
pub mod store;
