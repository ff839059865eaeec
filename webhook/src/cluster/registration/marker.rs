//! Whether we are installed, or being removed.
//!
//! The marker is the ClusterRole of the webhook's account: `kubectl delete -k` takes it away, without it nothing could be
//! written anyway, and as a cluster-wide object it can own the configurations. So even what a replica wrote in the very
//! moment of the removal is collected by Kubernetes afterwards, with every replica dead too.

use k8s_openapi::{
    api::{core::v1::Namespace, rbac::v1::ClusterRole},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, api::PartialObjectMeta};

use super::{RegistrationError, within};

/// What stands for the installation.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The webhook's own namespace.
    pub namespace: String,
    /// The ClusterRole of its account.
    pub cluster_role: String,
}

/// Reads the installation, live.
pub struct Marker {
    client: Client,
    installation: Installation,
}

impl Marker {
    pub fn new(client: Client, installation: Installation) -> Self {
        Self { client, installation }
    }

    /// Who owns the configurations; nobody when the installation is gone or going.
    pub async fn owner(&self) -> Result<Option<OwnerReference>, RegistrationError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let Installation { namespace, cluster_role } = &self.installation;
        if gone(within("the own namespace", namespaces.get_metadata_opt(namespace)).await)?.is_none() {
            return Ok(None);
        }
        let role = gone(within("the install marker", roles.get_metadata_opt(cluster_role)).await)?;
        Ok(role.and_then(|role| {
            Some(OwnerReference {
                api_version: "rbac.authorization.k8s.io/v1".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: cluster_role.clone(),
                uid: role.metadata.uid?,
                ..OwnerReference::default()
            })
        }))
    }
}

/// The object unless it is going. Without its role the account may no longer look: then the role is gone.
fn gone<K>(
    read: Result<Option<PartialObjectMeta<K>>, RegistrationError>,
) -> Result<Option<PartialObjectMeta<K>>, RegistrationError> {
    match read {
        Err(RegistrationError::Kubernetes(_, error)) if matches!(&*error, kube::Error::Api(status) if status.is_forbidden()) => {
            Ok(None)
        }
        Ok(object) => Ok(object.filter(|object| object.metadata.deletion_timestamp.is_none())),
        Err(error) => Err(error),
    }
}
