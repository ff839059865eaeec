//! The Secret with the webhook's certificates: one replica makes or renews it, all replicas serve it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use time::OffsetDateTime;

use super::{
    material::{Lives, Material},
    rotation::{self, Circumstances},
};

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
    /// They could not be made or read.
    #[error(transparent)]
    Material(#[from] super::material::MaterialError),
    /// Others kept writing the Secret.
    #[error("Secret {0} is being written again and again by others")]
    Races(String),
    /// Another program is to write it, and has not yet.
    #[error("Secret {0} is not there: its writer (cert-manager) has not made it, or writes another")]
    Absent(String),
    /// Another program wrote something that cannot be served.
    #[error(
        "Secret {0}: its certificate does not serve {1}, is not valid now, or does not belong to its tls.key and ca.crt"
    )]
    Unusable(String, String),
    /// No answer.
    #[error("the API server did not answer")]
    Overdue,
}

/// Who makes the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// This program, with an authority of its own.
    Own,
    /// Another program, which writes tls.crt, tls.key and ca.crt to the Secret: cert-manager.
    Secret,
}

/// The certificates' Secret.
pub struct Store {
    secrets: Api<Secret>,
    name: String,
    server_names: Vec<String>,
    source: Source,
    lives: Lives,
    /// The bundle as last read: trusted for a while after the loss of the Secret.
    trusted: Mutex<Option<String>>,
}

impl Store {
    /// The Secret `name` in `namespace`, for a server of these names.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        server_names: Vec<String>,
        source: Source,
        lives: Lives,
    ) -> Self {
        let secrets = Api::namespaced(client, namespace);
        Self { secrets, name: name.to_owned(), server_names, source, lives, trusted: Mutex::new(None) }
    }

    /// What to serve now: read, made or renewed. Replicas that do so at once agree, because only one write succeeds.
    /// `registered` is the bundle that both webhook configurations are known to have.
    pub async fn ensure(&self, registered: Option<&str>) -> Result<Material, CertificateError> {
        let look = tokio::time::timeout(LOOK_TIME_MAX, self.settle(registered)).await;
        let material = look.map_err(|_| CertificateError::Overdue)??;
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(material.bundle.clone());
        Ok(material)
    }

    async fn settle(&self, registered: Option<&str>) -> Result<Material, CertificateError> {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for _ in 0..RACES_MAX {
            let now = OffsetDateTime::now_utc();
            let found = self.secrets.get_opt(&self.name).await.map_err(|error| self.failed(error))?;
            let data = found.as_ref().and_then(|secret| secret.data.as_ref());
            let present = data.map(Material::from_secret);
            if self.source == Source::Secret {
                let material = present.ok_or_else(|| CertificateError::Absent(self.name.clone()))??;
                return if material.serves(&self.server_names, now) {
                    Ok(material)
                } else {
                    Err(CertificateError::Unusable(self.name.clone(), self.server_names.join(", ")))
                };
            }
            // What cannot be read is made anew.
            let present = present.and_then(Result::ok);
            let at = Circumstances {
                names: &self.server_names,
                lives: self.lives,
                registered,
                trusted: trusted.as_deref(),
                now,
            };
            let Some(next) = rotation::step(present.as_ref(), &at)? else {
                match present {
                    Some(present) => return Ok(present),
                    None => continue,
                }
            };
            let write = match found {
                None => self.secrets.create(&PostParams::default(), &self.secret(&next, None)).await,
                Some(found) => {
                    let secret = self.secret(&next, found.metadata.resource_version);
                    self.secrets.replace(&self.name, &PostParams::default(), &secret).await
                }
            };
            match write {
                Ok(_) => {
                    tracing::info!(secret = self.name, stage = stage(&next), "certificates were written");
                    return Ok(next);
                }
                Err(kube::Error::Api(status))
                    if status.is_conflict() || status.is_not_found() || status.is_already_exists() => {}
                Err(error) => return Err(self.failed(error)),
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
}

/// For the log: how far a rotation of the authority is.
fn stage(material: &Material) -> &'static str {
    match (&material.next, material.bundle == material.authority.certificate) {
        (Some(_), _) => "the next authority is announced",
        (None, false) => "the serving certificate is of the new authority, the old one is still trusted",
        (None, true) => "one authority",
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
