//! Settings of `review`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::settings::{PolicyArgs, parse_label};

/// Settings of `review`.
#[derive(Debug, Args)]
pub struct Review {
    /// File with an AdmissionReview or manifests, YAML or JSON; `-` is stdin.
    pub file: PathBuf,
    /// Labels that the namespaces have in the cluster, as key=value, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = parse_label, conflicts_with = "live")]
    pub namespace_labels: Vec<(String, String)>,
    /// Read the namespaces and their baselines from the cluster that KUBECONFIG names; nothing is written.
    #[arg(long)]
    pub live: bool,
    /// Namespace of objects that say none.
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// Name of the user who would write the manifests.
    #[arg(long = "as", value_name = "USER", default_value = "kubernetes-admin")]
    pub user: String,
    /// Groups of that user, separated by commas.
    #[arg(long = "as-group", value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Decide AdmissionReviews about injection instead of admission.
    #[arg(long)]
    pub mutate: bool,
    /// Namespaces that the gate never looks at, by name, separated by commas.
    #[arg(
        long,
        env = "EXEMPT_NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system,kube-public,kube-node-lease,agent-ready-system"
    )]
    pub exempt_namespaces: Vec<String>,
    /// Who may do what.
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}
