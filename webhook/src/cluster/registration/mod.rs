//! Keeps the webhook configurations as they should be, from any replica: made, put right, and left alone once the
//! installation is being removed.

mod compare;
mod marker;
mod rank;
mod revision;

use std::{
    fmt::Debug,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::{compare::Judgement, marker::Marker, rank::Rank};
pub use self::{marker::Installation, revision::Revision};
use super::configurations::{MUTATING, Registration, VALIDATING};

/// Owner of the applied fields.
const FIELD_MANAGER: &str = "agent-ready-webhook";
/// How long one call may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Lost races in one look; each means that another replica wrote.
const RACES_MAX: usize = 5;

/// Why the configurations could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Kubernetes answered otherwise.
    #[error("{0}: {1}")]
    Kubernetes(&'static str, #[source] Box<kube::Error>),
    /// No answer.
    #[error("{0}: the API server did not answer")]
    Overdue(&'static str),
    /// Others kept writing.
    #[error("{0} is being written again and again by others")]
    Races(&'static str),
    /// An object cannot be read as what it should be.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// What became of a look at the configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both are as they should be, and this many writes made them so.
    Registered {
        /// Configurations that were made or put right.
        written: usize,
    },
    /// A newer version than ours has registered; its replicas look after it.
    Newer,
    /// The installation is being removed: nothing is written any more.
    Removed,
}

/// Looks after both configurations.
pub struct Registrar {
    client: Client,
    registration: Registration,
    marker: Marker,
    revision: Revision,
    digest: String,
    /// The owner as it was last read: what is written asks again.
    owner: Mutex<Option<OwnerReference>>,
}

impl Registrar {
    /// For a webhook that registers like this while `installation` is there.
    pub fn new(
        client: Client,
        registration: Registration,
        installation: Installation,
        revision: Revision,
    ) -> Result<Self, RegistrationError> {
        let bare = Registration { ca_bundle: None, ..registration.clone() };
        let text = serde_json::to_vec(&(bare.validating(), bare.mutating()))?;
        let digest =
            Sha256::digest(text).iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let marker = Marker::new(client.clone(), installation);
        Ok(Self { client, registration, marker, revision, digest, owner: Mutex::new(None) })
    }

    /// Makes both configurations what they should be, with this caBundle. Whatever is wrong with one, the gate is first.
    pub async fn settle(&self, ca_bundle: &str) -> Result<Outcome, RegistrationError> {
        let desired = Registration { ca_bundle: Some(ca_bundle.to_owned()), ..self.registration.clone() };
        let first = self.settle_one(VALIDATING, &desired.validating()).await?;
        let second = self.settle_one(MUTATING, &desired.mutating()).await?;
        Ok(match (first, second) {
            (Outcome::Registered { written: a }, Outcome::Registered { written: b }) => {
                Outcome::Registered { written: a + b }
            }
            (Outcome::Removed, _) | (_, Outcome::Removed) => Outcome::Removed,
            _ => Outcome::Newer,
        })
    }

    async fn settle_one<K>(&self, name: &'static str, desired: &K) -> Result<Outcome, RegistrationError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let mut desired = serde_json::to_value(desired)?;
        let mut written = 0;
        for _ in 0..RACES_MAX {
            let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let present = within(name, api.get_opt(name)).await?;
            let present = present.as_ref().map(serde_json::to_value).transpose()?;
            loop {
                desired["metadata"]["ownerReferences"] = owner.iter().map(|owner| json!(owner)).collect();
                match self.judge(&desired, present.as_ref()).await {
                    Some(Judgement::Same) if owner.is_some() => return Ok(Outcome::Registered { written }),
                    Some(Judgement::Newer) => return Ok(Outcome::Newer),
                    _ => {}
                }
                let Some(now) = self.marker.owner().await? else { return Ok(Outcome::Removed) };
                *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
                if owner.replace(now.clone()) == Some(now) {
                    break;
                }
            }
            let result = match self.judge(&desired, present.as_ref()).await {
                None => {
                    desired["metadata"]["annotations"][rank::ANNOTATION] = json!(self.rank().to_string());
                    let object: K = serde_json::from_value(desired.clone())?;
                    let params = PatchParams::apply(FIELD_MANAGER).force();
                    within(name, api.patch(name, &params, &Patch::Apply(&object))).await
                }
                Some(Judgement::Write(next)) => {
                    let object: K = serde_json::from_value(next)?;
                    // With the version that was judged: what changed or went meanwhile is judged again.
                    let params =
                        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                    within(name, api.replace(name, &params, &object)).await
                }
                Some(_) => continue,
            };
            match result {
                Ok(_) => {
                    written += 1;
                    tracing::info!(configuration = name, "the registration was written");
                }
                Err(RegistrationError::Kubernetes(_, error)) if lost_race(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RegistrationError::Races(name))
    }

    fn rank(&self) -> Rank {
        Rank { rollout: self.revision.known(), digest: self.digest.clone() }
    }

    async fn judge(&self, desired: &Value, present: Option<&Value>) -> Option<Judgement> {
        let present = present?;
        let judgement = compare::judge(desired, present, &self.rank());
        if judgement != Judgement::Newer {
            return Some(judgement);
        }
        // A rollback gives an old ReplicaSet a new revision while its pods run.
        self.revision.read_again(&self.client).await;
        Some(compare::judge(desired, present, &self.rank()))
    }
}

fn lost_race(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_not_found())
}

/// One call within its time.
async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RegistrationError> {
    match tokio::time::timeout(CALL_TIME_MAX, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RegistrationError::Kubernetes(what, Box::new(error))),
        Err(_) => Err(RegistrationError::Overdue(what)),
    }
}
