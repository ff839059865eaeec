//! What the audit reads beside the watch store: the guards, and for a one-shot audit who has which right.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Api, Client, Resource, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    audit::{
        Finding,
        guards::{self, Configuration},
        rbac::Rbac,
    },
    cluster::configurations::{MUTATING, Registration, VALIDATING},
};

/// How long one read may take.
const READ_TIME_MAX: Duration = Duration::from_secs(30);
/// Objects a page.
const PAGE: u32 = 500;

/// Findings about the guards. What cannot be read is said in the log, and no finding: it may well be in order.
pub async fn guards(client: &Client, registration: &Registration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let validating = serde_json::to_value(registration.validating()).unwrap_or_default();
    let mutating = serde_json::to_value(registration.mutating()).unwrap_or_default();
    let (gate, injection) = tokio::join!(
        get::<ValidatingWebhookConfiguration>(client, VALIDATING),
        get::<MutatingWebhookConfiguration>(client, MUTATING),
    );
    for (kind, name, expected, found) in [
        ("ValidatingWebhookConfiguration", VALIDATING, validating, gate),
        ("MutatingWebhookConfiguration", MUTATING, mutating, injection),
    ] {
        match found {
            Ok(found) => {
                findings.extend(guards::configuration(&Configuration { kind, name, expected, found }));
            }
            Err(error) => tracing::warn!(kind, name, error, "the audit cannot read a guard"),
        }
    }
    let mut absent = Vec::new();
    for (policy, binding) in guards::SECOND_LOCK {
        let found = tokio::join!(
            get::<ValidatingAdmissionPolicy>(client, policy),
            get::<ValidatingAdmissionPolicyBinding>(client, binding),
        );
        for (name, found) in [(policy, found.0), (binding, found.1)] {
            match found {
                Ok(Some(_)) => {}
                Ok(None) if absent.last() == Some(&name) => {}
                Ok(None) => absent.push(name),
                Err(error) => tracing::warn!(name, error, "the audit cannot read a policy"),
            }
        }
    }
    findings.extend(guards::second_lock(&absent));
    findings.sort();
    findings
}

/// Roles and bindings of the cluster and of our namespace.
pub async fn rbac(client: &Client, namespace: &str) -> Result<Rbac, String> {
    let ours = |client: &Client| client.clone();
    let (cluster_roles, cluster_role_bindings, roles, role_bindings) = tokio::try_join!(
        all::<ClusterRole>(Api::all(ours(client))),
        all::<ClusterRoleBinding>(Api::all(ours(client))),
        all::<Role>(Api::namespaced(ours(client), namespace)),
        all::<RoleBinding>(Api::namespaced(ours(client), namespace)),
    )?;
    Ok(Rbac { cluster_roles, cluster_role_bindings, roles, role_bindings })
}

async fn get<K>(client: &Client, name: &str) -> Result<Option<Value>, String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let found =
        tokio::time::timeout(READ_TIME_MAX, api.get_opt(name)).await.map_err(|_| "no answer".to_owned())?;
    let found = found.map_err(|error| error.to_string())?;
    found.map(|found| serde_json::to_value(found).map_err(|error| error.to_string())).transpose()
}

async fn all<K: Clone + std::fmt::Debug + DeserializeOwned>(api: Api<K>) -> Result<Vec<K>, String> {
    let mut params = ListParams::default().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page = tokio::time::timeout(READ_TIME_MAX, api.list(&params))
            .await
            .map_err(|_| "no answer".to_owned())?;
        let page = page.map_err(|error| error.to_string())?;
        items.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(items);
        }
    }
}
