//! The entries of the webhook configurations, a file each: what the API server asks about, and what happens when nobody answers.

pub mod hold;
pub mod pods;
