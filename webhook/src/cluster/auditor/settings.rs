//! Settings of `audit`.

use clap::Args;
use contract::names;

use crate::{
    offline::settings::Output,
    settings::{PolicyArgs, RegistrationArgs},
};

/// Settings of `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Say which running namespaces and pods would be hit if the gate refused everywhere, and nothing else.
    #[arg(long)]
    pub as_if_enforced: bool,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Leave out who can pass the gate by Kubernetes' own rights.
    #[arg(long)]
    pub no_powers: bool,
    /// Namespace of the webhook itself.
    #[arg(long, env = "NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// How the API server should reach the webhook.
    #[command(flatten)]
    pub registration: RegistrationArgs,
    /// Who may do what.
    #[command(flatten)]
    pub policy: PolicyArgs,
}
