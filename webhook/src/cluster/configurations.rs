//! The webhook configurations, built from code: what the API server sends here, and what it does without an answer.

use std::fmt::Write as _;

use contract::names;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
};

use super::entries::{baseline_guard, hold, pods};
use crate::admission::{gate::Mode, review::API_VERSION};

/// Name of the ValidatingWebhookConfiguration.
pub const VALIDATING: &str = "agent-ready-gate";
/// Name of the MutatingWebhookConfiguration.
pub const MUTATING: &str = "agent-ready-inject";
/// Seconds that the API server waits for a verdict; two live reads of 1.8 s fit.
const VERDICT_SECONDS: i32 = 5;
/// Seconds that it waits for an injection, which needs no read.
const INJECTION_SECONDS: i32 = 1;

/// Asks AKS not to add selector terms of its own to the entries; those that it adds all the same are tolerated.
const NOT_ENFORCED: &str = "admissions.enforcer/disabled";

/// Where the API server finds the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Behind a Service, port 443.
    Service {
        /// The Service's namespace.
        namespace: String,
        /// The Service's name.
        name: String,
    },
    /// At a URL, without a path.
    Url(String),
}

impl Target {
    /// The names that the serving certificate must have. The first is the one that the API server asks for.
    pub fn server_names(&self) -> Vec<String> {
        match self {
            Self::Service { namespace, name } => {
                vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")]
            }
            Self::Url(url) => {
                let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
                host.map(|host| host.trim_matches(['[', ']']).to_owned()).into_iter().collect()
            }
        }
    }

    fn client_config(&self, path: &str, ca_bundle: Option<&str>) -> WebhookClientConfig {
        let ca_bundle = ca_bundle.map(|pem| ByteString(pem.as_bytes().to_vec()));
        match self {
            Self::Service { namespace, name } => WebhookClientConfig {
                ca_bundle,
                service: Some(ServiceReference {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    path: Some(path.to_owned()),
                    port: Some(443),
                }),
                url: None,
            },
            Self::Url(url) => {
                WebhookClientConfig { ca_bundle, service: None, url: Some(format!("{url}{path}")) }
            }
        }
    }
}

/// Who injects the config sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Carrier {
    /// The webhook.
    #[default]
    Webhook,
    /// The API server, by [`super::injection_policy`].
    Policy,
}

/// What the configurations depend on.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Where the webhook is.
    pub target: Target,
    /// Namespaces that the gate never looks at, by name.
    pub exempt: Vec<String>,
    /// Mode of namespaces whose label names none.
    pub default_mode: Mode,
    /// User name of the release controller.
    pub release_account: String,
    /// Users whose writes in tenants' namespaces ask nobody.
    pub label_writers: Vec<String>,
    /// Who injects the sidecar.
    pub carrier: Carrier,
    /// The authority that signs the serving certificate, PEM.
    pub ca_bundle: Option<String>,
}

impl Registration {
    /// The gate and the label guard. They refuse when nobody answers.
    pub fn validating(&self) -> ValidatingWebhookConfiguration {
        let entry = |name: &str| ValidatingWebhook {
            admission_review_versions: review_versions(),
            client_config: self.target.client_config("/validate", self.ca_bundle.as_deref()),
            failure_policy: Some("Fail".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            name: name.to_owned(),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(VERDICT_SECONDS),
            ..ValidatingWebhook::default()
        };
        ValidatingWebhookConfiguration {
            metadata: registered(VALIDATING),
            webhooks: Some(vec![
                pods::gate(entry(pods::GATE), self.not_exempt(), self.default_mode),
                ValidatingWebhook {
                    client_config: self.target.client_config("/report", self.ca_bundle.as_deref()),
                    ..pods::report(entry(pods::REPORT), self.not_exempt(), self.default_mode)
                },
                hold::keep(entry(hold::NAME), &self.release_account),
                ValidatingWebhook {
                    // Without a namespaceSelector: the API server would match it against the new labels, and let the
                    // change itself through. The condition keeps unrelated requests away, so that namespaces can be
                    // made, labelled otherwise and deleted while nobody answers.
                    match_conditions: Some(vec![MatchCondition {
                        name: "guarded-keys-change".to_owned(),
                        expression: guarded_keys_change(),
                    }]),
                    rules: Some(vec![rule(
                        &["namespaces", "namespaces/status", "namespaces/finalize"],
                        &["CREATE", "UPDATE"],
                        "Cluster",
                    )]),
                    ..entry("namespaces.guard.agent-ready.io")
                },
                baseline_guard::entry(entry(baseline_guard::NAME), self.not_exempt(), &self.label_writers),
            ]),
        }
    }

    /// What is added to pods: the sidecar, without which they start when nobody answers, and the gate of hold mode.
    pub fn mutating(&self) -> MutatingWebhookConfiguration {
        MutatingWebhookConfiguration {
            metadata: registered(MUTATING),
            webhooks: Some(match self.carrier {
                Carrier::Webhook => vec![self.injection(), self.hold()],
                Carrier::Policy => vec![self.hold()],
            }),
        }
    }

    fn hold(&self) -> MutatingWebhook {
        let base = MutatingWebhook {
            admission_review_versions: review_versions(),
            client_config: self.target.client_config("/hold", self.ca_bundle.as_deref()),
            failure_policy: Some("Fail".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            name: hold::NAME.to_owned(),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(VERDICT_SECONDS),
            ..MutatingWebhook::default()
        };
        hold::add(base, self.not_exempt(), self.default_mode)
    }

    fn injection(&self) -> MutatingWebhook {
        MutatingWebhook {
            admission_review_versions: review_versions(),
            client_config: self.target.client_config("/mutate", self.ca_bundle.as_deref()),
            failure_policy: Some("Ignore".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            name: "pods.inject.agent-ready.io".to_owned(),
            namespace_selector: Some(selector(vec![
                requirement(names::INJECT_LABEL, "In", &["enabled"]),
                self.not_exempt(),
            ])),
            reinvocation_policy: Some("IfNeeded".to_owned()),
            rules: Some(vec![rule(&["pods"], &["CREATE"], "Namespaced")]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(INJECTION_SECONDS),
            ..MutatingWebhook::default()
        }
    }

    fn not_exempt(&self) -> LabelSelectorRequirement {
        let exempt: Vec<&str> = self.exempt.iter().map(String::as_str).collect();
        requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &exempt)
    }
}

/// CEL: whether a guarded label or annotation differs between the old and the new namespace. Must hold whenever
/// [`crate::admission::label_guard`] finds a change; evaluation never fails, for a failure refuses the request.
pub(super) fn guarded_keys_change() -> String {
    let keys = |object: &str, map: &str| match object {
        "oldObject" => format!("(oldObject == null ? {{}} : oldObject.metadata.?{map}.orValue({{}}))"),
        _ => format!("{object}.metadata.?{map}.orValue({{}})"),
    };
    let (new_labels, old_labels) = (keys("object", "labels"), keys("oldObject", "labels"));
    let isolated = |labels: &str| {
        format!(
            "'{}' in {labels} || {labels}[?'{}'].orValue('') == '{}'",
            names::ORGANIZATION_LABEL,
            names::GATE_LABEL,
            names::GATE_OPEN
        )
    };
    let label = format!(
        "(k == '{gate}' || k.startsWith('{ours}') || (k.startsWith('{pod_security}') && ({new} || {old})))",
        gate = names::GATE_LABEL,
        ours = names::PREFIX,
        pod_security = names::POD_SECURITY_PREFIX,
        new = isolated(&new_labels),
        old = isolated(&old_labels),
    );
    let annotation = format!("k.startsWith('{}')", names::PREFIX);
    let mut expression = String::new();
    for (map, guarded) in [("labels", label), ("annotations", annotation)] {
        let (new, old) = (keys("object", map), keys("oldObject", map));
        let or = if expression.is_empty() { "" } else { " || " };
        let _ = write!(
            expression,
            "{or}{new}.exists(k, {guarded} && !(k in {old} && {old}[k] == {new}[k])) || \
             {old}.exists(k, {guarded} && !(k in {new}))"
        );
    }
    expression
}

/// Metadata of what is registered.
fn registered(name: &str) -> ObjectMeta {
    ObjectMeta { annotations: Some([(NOT_ENFORCED.to_owned(), "true".to_owned())].into()), ..metadata(name) }
}

pub(super) fn metadata(name: &str) -> ObjectMeta {
    let labels = [(names::MANAGED_BY_LABEL, names::MANAGED_BY), ("app.kubernetes.io/name", "webhook")];
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    }
}

fn review_versions() -> Vec<String> {
    API_VERSION.rsplit('/').take(1).map(str::to_owned).collect()
}

pub(super) fn rule(resources: &[&str], operations: &[&str], scope: &str) -> RuleWithOperations {
    let owned = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[""]),
        api_versions: owned(&["v1"]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some(scope.to_owned()),
    }
}

pub(super) fn selector(requirements: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: Some(requirements), match_labels: None }
}

pub(super) fn exists(key: &str) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: "Exists".to_owned(), values: None }
}

pub(super) fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::policy::Policy;

    fn registration(target: Target) -> Registration {
        Registration {
            target,
            exempt: Policy::new("image").exempt_namespaces,
            default_mode: Mode::Deny,
            release_account: Policy::new("image").release_account,
            label_writers: Policy::new("image").label_writers,
            carrier: Carrier::Webhook,
            ca_bundle: Some("PEM".to_owned()),
        }
    }

    #[test]
    fn the_configurations_are_these() {
        let service =
            Target::Service { namespace: "agent-ready-system".to_owned(), name: "webhook".to_owned() };
        let registration = registration(service);
        insta::assert_yaml_snapshot!("validating", registration.validating());
        insta::assert_yaml_snapshot!("mutating", registration.mutating());
    }

    #[test]
    fn a_url_is_called_at_its_host() {
        let target = Target::Url("https://10.213.1.1:8443".to_owned());
        assert_eq!(target.server_names(), ["10.213.1.1"]);
        assert_eq!(Target::Url("https://[::1]:8443".to_owned()).server_names(), ["::1"]);
        let config = registration(target).mutating().webhooks.unwrap()[0].client_config.clone();
        assert_eq!(config.url.as_deref(), Some("https://10.213.1.1:8443/mutate"));
        assert_eq!(config.service, None);
    }

    #[test]
    fn every_verdict_fails_closed_and_reports_and_the_injection_open() {
        let registration = registration(Target::Url("https://a".to_owned()));
        for entry in registration.validating().webhooks.unwrap() {
            let policy = if entry.name == pods::REPORT { "Ignore" } else { "Fail" };
            assert_eq!(entry.failure_policy.as_deref(), Some(policy), "{}", entry.name);
            assert_eq!(entry.object_selector, None, "{}", entry.name);
        }
        let mutating = registration.mutating().webhooks.unwrap();
        let policies: Vec<_> = mutating
            .iter()
            .map(|entry| (entry.failure_policy.as_deref().unwrap(), entry.timeout_seconds.unwrap()))
            .collect();
        assert_eq!(policies, [("Ignore", 1), ("Fail", 5)]);
    }

    #[test]
    fn what_the_policy_injects_the_webhook_does_not() {
        let carrier = Carrier::Policy;
        let registration = Registration { carrier, ..registration(Target::Url("https://a".to_owned())) };
        let names: Vec<_> =
            registration.mutating().webhooks.unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [hold::NAME]);
    }

    #[test]
    fn every_namespace_is_asked_about_by_one_entry_at_least_and_a_lenient_one_cannot_block() {
        let modes =
            [None, Some("deny"), Some("hold"), Some("warn"), Some("audit"), Some("exempt"), Some("typo")];
        for default_mode in [Mode::Deny, Mode::Hold, Mode::Warn, Mode::Audit] {
            let registration =
                Registration { default_mode, ..registration(Target::Url("https://a".to_owned())) };
            let webhooks = registration.validating().webhooks.unwrap();
            let asks = |entry: &str, mode: Option<&str>| {
                let entry = webhooks.iter().find(|webhook| webhook.name == entry).unwrap();
                let terms = entry.namespace_selector.clone().unwrap().match_expressions.unwrap();
                terms.iter().filter(|term| term.key == names::MODE_LABEL).all(|term| {
                    let named =
                        mode.is_some_and(|mode| term.values.iter().flatten().any(|value| value == mode));
                    match term.operator.as_str() {
                        "In" => named,
                        "NotIn" => !named,
                        _ => mode.is_some(),
                    }
                })
            };
            for mode in modes {
                let means = mode.map_or(default_mode, Mode::named);
                let strict = matches!(means, Mode::Deny | Mode::Hold);
                assert_eq!(asks(pods::GATE, mode), strict, "{default_mode:?}, {mode:?}");
                // A value that nobody knows may be asked about twice.
                if mode != Some("typo") {
                    assert_eq!(asks(pods::REPORT, mode), means.only_reports(), "{default_mode:?}, {mode:?}");
                }
            }
        }
    }
}
