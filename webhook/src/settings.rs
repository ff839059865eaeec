//! Settings: each is a flag and an environment variable of the same name.

mod modes;

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::names;
pub use modes::ModeArgs;

mod lifecycle;

pub use lifecycle::{CertificateArgs, InstallationArgs};

use crate::{
    admission::policy::{OpenBeside, Policy},
    cluster::{
        auditor::settings::Audit,
        configurations::{Carrier, Registration, Target},
    },
    offline::settings::Review,
};

/// The isolation gate of agent-ready-k8s.
#[derive(Debug, Parser)]
#[command(name = "webhook", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answers the API server's reviews.
    Serve(Box<Serve>),
    /// Prints what the API server is told, as YAML, for review and for `manifests/`.
    Manifests(Box<Manifests>),
    /// Decides an AdmissionReview or manifests from a file or stdin; exit status 0 admitted, 1 refused, 2 bad input.
    Review(Box<Review>),
    /// Prints what is wrong with what is already there; exit status 0 nothing, 1 something, 2 the cluster could not be read.
    Audit(Box<Audit>),
}

/// Settings of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address for HTTPS.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Address for plain HTTP: /healthz, /readyz and /metrics only.
    #[arg(long, env = "PLAIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub plain_listen: SocketAddr,
    /// Namespace of the webhook itself, for its Secret.
    #[arg(long, env = "NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// Where the certificates come from.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// Seconds between SIGTERM and the end of accepting, so that the API server sees the endpoint go first.
    #[arg(long, env = "DRAIN_DELAY_SECONDS", default_value_t = 3)]
    pub drain_delay_seconds: u64,
    /// How the API server reaches the webhook.
    #[command(flatten)]
    pub registration: RegistrationArgs,
    /// For how long, and as which rollout, the registration is looked after.
    #[command(flatten)]
    pub installation: InstallationArgs,
    /// Who may do what.
    #[command(flatten)]
    pub policy: PolicyArgs,
}

impl Serve {
    /// Time between SIGTERM and the end of accepting.
    pub fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay_seconds)
    }
}

/// Settings of `manifests`: those of `serve` that the objects depend on.
#[derive(Debug, Args)]
pub struct Manifests {
    /// Which objects.
    #[arg(value_enum, default_value_t)]
    pub part: Part,
    /// Namespace of the webhook itself.
    #[arg(long, env = "NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// How the API server reaches the webhook.
    #[command(flatten)]
    pub registration: RegistrationArgs,
    /// Who may do what.
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// What `manifests` prints.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Part {
    /// The webhook configurations.
    #[default]
    Registration,
    /// Policies of the API server that keep the gate shut while the webhook is not registered.
    SecondLock,
    /// Policies of the API server that inject the sidecar, instead of the webhook.
    InjectionPolicy,
}

/// How the API server reaches the webhook.
#[derive(Debug, Clone, Args)]
pub struct RegistrationArgs {
    /// Service in front of the webhook, as namespace/name.
    #[arg(long, env = "SERVICE", default_value = "agent-ready-system/webhook", value_parser = parse_service)]
    pub service: (String, String),
    /// URL of the webhook instead of a Service, for a webhook outside of the cluster (https://host:port).
    #[arg(long, env = "WEBHOOK_URL", value_parser = parse_url)]
    pub webhook_url: Option<String>,
    /// Who injects the config sidecar. With policy the webhook registers no injection of its own: apply
    /// manifests/components/injection-policy first.
    #[arg(long, env = "INJECTION_CARRIER", value_enum, default_value_t)]
    pub injection_carrier: Carrier,
    /// Namespaces that the gate never looks at, by name, separated by commas; the webhook's own is always one.
    #[arg(
        long,
        env = "EXEMPT_NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system,kube-public,kube-node-lease"
    )]
    pub exempt_namespaces: Vec<String>,
}

impl RegistrationArgs {
    /// Where the API server finds the webhook.
    pub fn target(&self) -> Target {
        match &self.webhook_url {
            Some(url) => Target::Url(url.clone()),
            None => Target::Service { namespace: self.service.0.clone(), name: self.service.1.clone() },
        }
    }

    /// The exempt namespaces, the webhook's own among them.
    pub fn exempt(&self, own_namespace: &str) -> Vec<String> {
        let mut exempt = self.exempt_namespaces.clone();
        exempt.retain(|name| !name.is_empty() && name != own_namespace);
        exempt.push(own_namespace.to_owned());
        exempt
    }

    /// The registration of a webhook in this namespace; the CA bundle comes later.
    pub fn registration(&self, own_namespace: &str, policy: &PolicyArgs) -> Registration {
        Registration {
            target: self.target(),
            exempt: self.exempt(own_namespace),
            default_mode: policy.modes.default_mode,
            release_account: policy.modes.release_account.clone(),
            label_writers: policy.label_writers.clone(),
            carrier: self.injection_carrier,
            ca_bundle: None,
        }
    }
}

/// Who may do what, and what is injected.
#[derive(Debug, Clone, Args)]
pub struct PolicyArgs {
    /// User names that may write guarded labels and annotations, separated by commas.
    #[arg(
        long,
        env = "LABEL_WRITERS",
        value_delimiter = ',',
        default_value = "system:serviceaccount:agent-ready-system:provisioner"
    )]
    pub label_writers: Vec<String>,
    /// Group whose members may too, in emergencies.
    #[arg(long, env = "BREAK_GLASS_GROUP", default_value = "agent-ready:break-glass")]
    pub break_glass_group: String,
    /// What is done about a NetworkPolicy or RoleBinding that opens a proved namespace to everyone.
    #[arg(long, env = "OPEN_BESIDE", value_enum, default_value = "refuse")]
    pub open_beside: OpenBeside,
    /// Image of the injected config sidecar.
    #[arg(long, env = "SIDECAR_IMAGE", default_value = "localhost/agent-ready/sidecar:local")]
    pub sidecar_image: String,
    /// How namespaces treat pods that come before they are ready.
    #[command(flatten)]
    pub modes: ModeArgs,
}

impl PolicyArgs {
    /// The policy, with these namespaces exempt.
    pub fn policy(&self, exempt_namespaces: Vec<String>) -> Policy {
        Policy {
            label_writers: self.label_writers.clone(),
            break_glass_group: self.break_glass_group.clone(),
            exempt_namespaces,
            sidecar_image: self.sidecar_image.clone(),
            default_mode: self.modes.default_mode,
            release_account: self.modes.release_account.clone(),
            open_beside: self.open_beside,
        }
    }
}

fn parse_service(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("must read namespace/name".to_owned()),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() || uri.query().is_some() || uri.path() != "/"
    {
        return Err("must read https://host:port".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(crate) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must read key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::admission::policy::EXEMPT_NAMESPACES;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn urls_and_services_are_checked() {
        assert_eq!(parse_url("https://10.0.0.1:8443/").unwrap(), "https://10.0.0.1:8443");
        for bad in ["http://a", "https://a/b", "https://a?b", "a", ""] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert!(parse_service("a/b").is_ok());
        for bad in ["a", "/b", "a/", "a/b/c"] {
            assert!(parse_service(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_webhooks_own_namespace_is_exempt() {
        let arguments =
            ["webhook", "serve", "--namespace", "gate", "--exempt-namespaces", "kube-system,istio-system"];
        let Command::Serve(serve) = Cli::parse_from(arguments).command else { panic!("serve") };
        assert_eq!(serve.registration.exempt(&serve.namespace), ["kube-system", "istio-system", "gate"]);
    }

    #[test]
    fn the_default_is_the_control_planes_namespaces() {
        let Command::Serve(serve) = Cli::parse_from(["webhook", "serve"]).command else { panic!("serve") };
        assert_eq!(serve.registration.exempt(&serve.namespace), EXEMPT_NAMESPACES);
    }
}
