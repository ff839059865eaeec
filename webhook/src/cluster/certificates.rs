//! The Secret with the webhook's certificates: one replica makes it, all replicas serve it, each follows its changes.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::material::Material;

/// Watches have been seen to stall behind load balancers; this one is renewed well before.
const WATCH_SECONDS_MAX: u32 = 200;
/// How often the certificate's age is looked at, should no event come.
const CHECK_EVERY: Duration = Duration::from_mins(10);
/// How long one look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Lost races in one look; each means that another replica wrote.
const RACES_MAX: usize = 10;

/// Why the certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Kubernetes answered otherwise.
    #[error("Secret {0}: {1}")]
    Kubernetes(String, #[source] Box<kube::Error>),
    /// They could not be made.
    #[error(transparent)]
    Material(#[from] super::material::MaterialError),
    /// Others kept writing the Secret.
    #[error("Secret {0} is being written again and again by others")]
    Races(String),
    /// No answer.
    #[error("the API server did not answer")]
    Overdue,
}

/// The certificates' Secret.
#[derive(Clone)]
pub struct Store {
    secrets: Api<Secret>,
    name: String,
    server_names: Vec<String>,
}

impl Store {
    /// The Secret `name` in `namespace`, for a server of these names.
    pub fn new(client: Client, namespace: &str, name: &str, server_names: Vec<String>) -> Self {
        Self { secrets: Api::namespaced(client, namespace), name: name.to_owned(), server_names }
    }

    /// What to serve now: read, made or renewed. Replicas that do so at once agree, because only one write succeeds.
    pub async fn ensure(&self) -> Result<Material, CertificateError> {
        tokio::time::timeout(LOOK_TIME_MAX, self.settle()).await.map_err(|_| CertificateError::Overdue)?
    }

    async fn settle(&self) -> Result<Material, CertificateError> {
        for _ in 0..RACES_MAX {
            let now = OffsetDateTime::now_utc();
            let Some(present) = self.secrets.get_opt(&self.name).await.map_err(|error| self.failed(error))?
            else {
                let made = Material::make(&self.server_names, now)?;
                match self.secrets.create(&PostParams::default(), &self.secret(&made, None)).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => continue,
                    Err(error) => return Err(self.failed(error)),
                    Ok(_) => return Ok(made),
                }
            };
            let material =
                Material::from_secret(present.data.as_ref().unwrap_or(&std::collections::BTreeMap::new()));
            let next = match material {
                Ok(material) if material.authority_lasts(now) => {
                    if material.serves(&self.server_names, now) {
                        return Ok(material);
                    }
                    material.renew(&self.server_names, now)?
                }
                _ => Material::make(&self.server_names, now)?,
            };
            let replaced = self.secret(&next, present.metadata.resource_version);
            match self.secrets.replace(&self.name, &PostParams::default(), &replaced).await {
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => return Err(self.failed(error)),
                Ok(_) => return Ok(next),
            }
        }
        Err(CertificateError::Races(self.name.clone()))
    }

    fn failed(&self, error: kube::Error) -> CertificateError {
        CertificateError::Kubernetes(self.name.clone(), Box::new(error))
    }

    fn secret(&self, material: &Material, resource_version: Option<String>) -> Secret {
        Secret {
            metadata: ObjectMeta { name: Some(self.name.clone()), resource_version, ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(material.to_secret()),
            ..Secret::default()
        }
    }

    /// Follows the Secret for ever, and hands every change on.
    pub async fn follow(self, current: watch::Sender<Material>) {
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH_SECONDS_MAX);
        let mut events = watcher(self.secrets.clone(), config).default_backoff().boxed();
        loop {
            match tokio::time::timeout(CHECK_EVERY, events.next()).await {
                Ok(Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_)))) => continue,
                Ok(Some(Ok(_)) | None) | Err(_) => {}
                Ok(Some(Err(error))) => {
                    tracing::warn!(%error, "the watch of the certificates' Secret failed");
                }
            }
            match self.ensure().await {
                Ok(material) => {
                    current.send_if_modified(|present| {
                        let changed = *present != material;
                        *present = material;
                        changed
                    });
                }
                Err(error) => tracing::error!(%error, "the certificates cannot be looked after"),
            }
        }
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
