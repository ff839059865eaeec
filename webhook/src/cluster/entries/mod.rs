//! The entries of the webhook configurations, a file each: what the API server asks about, and what happens when nobody answers.

pub mod baseline_guard;
pub mod hold;
pub mod pods;
