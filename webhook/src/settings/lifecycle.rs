//! Settings of certificates and of the registration's life.

use clap::Args;
use kube::Client;
use time::Duration;

use crate::cluster::{
    certificates::{Source, Store},
    material::Lives,
    registration::{Installation, Revision},
};

/// Where the certificates come from, and how long they live.
#[derive(Debug, Clone, Args)]
pub struct CertificateArgs {
    /// Who makes the certificates: `own`, or `secret` for another program that writes tls.crt, tls.key and ca.crt (cert-manager).
    #[arg(long, env = "CERT_SOURCE", value_enum, default_value_t = Source::Own)]
    pub cert_source: Source,
    /// Secret with the certificate authority and the serving certificate; made if it is not there and the source is `own`.
    #[arg(long, env = "CERT_SECRET", default_value = "webhook-tls")]
    pub cert_secret: String,
    /// Seconds that an own authority lives; it is replaced after two thirds of them.
    #[arg(long, env = "CA_LIFE_SECONDS", default_value_t = Lives::default().authority.whole_seconds())]
    pub ca_life_seconds: i64,
    /// Seconds that an own serving certificate lives; it is renewed after two thirds of them.
    #[arg(long, env = "CERT_LIFE_SECONDS", default_value_t = Lives::default().leaf.whole_seconds())]
    pub cert_life_seconds: i64,
    /// Seconds that each stage of the authority's replacement lasts; every API server has to follow within them.
    #[arg(long, env = "CA_OVERLAP_SECONDS", default_value_t = Lives::default().overlap.whole_seconds())]
    pub ca_overlap_seconds: i64,
}

impl CertificateArgs {
    /// The Secret in `namespace`, for a server of these names.
    pub fn store(&self, client: Client, namespace: &str, server_names: Vec<String>) -> Store {
        let lives = Lives {
            authority: Duration::seconds(self.ca_life_seconds),
            leaf: Duration::seconds(self.cert_life_seconds),
            overlap: Duration::seconds(self.ca_overlap_seconds),
        };
        Store::new(client, namespace, &self.cert_secret, server_names, self.cert_source, lives)
    }
}

/// For how long, and as which rollout, the registration is looked after.
#[derive(Debug, Clone, Args)]
pub struct InstallationArgs {
    /// ClusterRole of the webhook's account: while it is there, webhook configurations are made and put right; they go with it.
    #[arg(long, env = "INSTALL_MARKER", default_value = "agent-ready-webhook")]
    pub install_marker: String,
    /// Name of the own pod; of its ReplicaSet is the revision that decides between two versions in a rolling update.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
}

impl InstallationArgs {
    /// What stands for the installation of a webhook in `namespace`.
    pub fn installation(&self, namespace: &str) -> Installation {
        Installation { namespace: namespace.to_owned(), cluster_role: self.install_marker.clone() }
    }

    /// Which rollout this replica belongs to.
    pub async fn revision(&self, client: &Client, namespace: &str) -> Revision {
        match &self.pod_name {
            Some(pod) => Revision::of_pod(client, namespace, pod).await,
            None => Revision::of_start(),
        }
    }
}
