//! Settings of the gate's modes.

use clap::Args;

use crate::admission::gate::Mode;

/// How namespaces treat pods that come before they are ready.
#[derive(Debug, Clone, Args)]
pub struct ModeArgs {
    /// Mode of namespaces without the label agent-ready.io/gate. With warn or audit the gate cannot block a pod in them.
    #[arg(long, env = "DEFAULT_MODE", value_enum, default_value = "deny")]
    pub default_mode: Mode,
    /// User name of the release controller, the only one that may take the gate off a held pod: the webhook's own account.
    #[arg(long, env = "RELEASE_ACCOUNT", default_value = "system:serviceaccount:agent-ready-system:webhook")]
    pub release_account: String,
}
