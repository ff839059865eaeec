//! The Kubernetes API: one client, a time limit for every call, and errors sorted into worth another try or not.

use std::{fmt::Debug, future::Future, time::Duration};

use kube::{
    Api, Client, Config, Error,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::tenancy::{CauseKind, Failure, is_transient_status};

/// Field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "agent-ready-provisioner";

/// A client from KUBECONFIG, or from inside a cluster.
pub async fn client(call_max: Duration) -> anyhow::Result<Client> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(call_max);
    config.write_timeout = Some(call_max);
    // Steps have their own policy, which keeps to the lease.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time; what was asked may have happened.
    #[error("the Kubernetes API did not answer in time")]
    TimeOut,
    /// Everything else.
    #[error(transparent)]
    Kube(#[from] Error),
}

impl CallError {
    /// Whether the object exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Kube(Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists")
    }

    /// Whether the versions or the UID did not fit.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(Error::Api(status)) if status.code == 409 && status.reason != "AlreadyExists")
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube(Error::Api(status)) if status.code == 404)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Kube(Error::Api(status)) if is_transient_status(status.code, &status.reason) => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let cause =
                    format!("Kubernetes answered {} {}: {}", status.code, status.reason, status.message);
                Self::Transient {
                    cause,
                    retry_after: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
                }
            }
            CallError::Kube(Error::Api(status)) => {
                Self::permanent(CauseKind::Refused, format!("Kubernetes refused: {}", status.message))
            }
            CallError::Kube(error @ Error::BuildRequest(_)) => {
                Self::permanent(CauseKind::Refused, format!("Kubernetes request: {error}"))
            }
            error => Self::transient(format!("Kubernetes: {error}")),
        }
    }
}

/// Makes a call with a time limit.
pub async fn call<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(CallError::TimeOut),
    }
}

/// Server-side apply of a whole object, as its only manager.
pub async fn apply<K>(limit: Duration, api: &Api<K>, name: &str, object: &K) -> Result<K, CallError>
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    call(limit, api.patch(name, &parameters, &Patch::Apply(object))).await
}
