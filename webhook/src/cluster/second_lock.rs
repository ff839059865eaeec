//! The second lock (G12): the gate's rules as ValidatingAdmissionPolicies, which the API server decides by itself. They hold
//! while no webhook is registered. What they cannot decide, because CEL reads no other object, is the proof of a baseline.

use contract::names;
use k8s_openapi::{
    api::admissionregistration::v1::{
        AuditAnnotation, MatchResources, ValidatingAdmissionPolicySpec, Validation,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use super::{
    cel,
    configurations::{exists, guarded_keys_change, requirement, selector},
    policies::{Lock, binding, condition, matches, policy, spec, variables},
};
use crate::admission::{gate::Mode, policy::Policy};

/// Name of the policy on pods, and what its bindings' names begin with.
pub const PODS: &str = "agent-ready-lock-pods";
/// Name of the policy on guarded keys of namespaces, and of its binding.
pub const NAMESPACES: &str = "agent-ready-lock-namespaces";
/// Name of the policy on held pods, and of its binding.
pub const HELD: &str = "agent-ready-lock-held";

/// What every message of the lock says of itself.
const ITSELF: &str = "This is the gate's second lock, a policy of the API server itself";

/// What the lock depends on: the settings that the webhook's own decisions depend on.
#[derive(Debug, Clone)]
pub struct SecondLock {
    /// Who may do what.
    pub policy: Policy,
}

impl SecondLock {
    /// All policies with their bindings.
    pub fn locks(&self) -> Vec<Lock> {
        vec![self.pods(), self.namespaces(), self.held()]
    }

    /// G1 and G2: pods of namespaces that are neither ready nor exempt.
    fn pods(&self) -> Lock {
        let default = self.policy.default_mode;
        let gated = selector(vec![
            requirement(names::GATE_LABEL, "NotIn", &[names::GATE_OPEN]),
            requirement(names::MODE_LABEL, "NotIn", &["exempt"]),
            self.not_exempt(),
        ]);
        let label = |key: &str| format!("namespaceObject.metadata.?labels[?{}]", cel::string(key));
        let spec = ValidatingAdmissionPolicySpec {
            match_constraints: Some(MatchResources {
                namespace_selector: Some(gated),
                ..matches(&["pods"], &["CREATE"], "Namespaced")
            }),
            variables: Some(variables([
                ("ready", label(names::GATE_LABEL)),
                ("mode", format!("{}.orValue('{}')", label(names::MODE_LABEL), default.name())),
                ("held", carries_hold_gate("object")),
            ])),
            validations: Some(vec![Validation {
                expression: "variables.mode == 'hold' && variables.held".to_owned(),
                message: Some("The namespace is not proved isolated: no pod starts in it.".to_owned()),
                message_expression: Some(pod_message()),
                reason: Some("Forbidden".to_owned()),
            }]),
            ..spec()
        };
        // A mode that is not known is the strict one, as in the webhook.
        let binding = |name: &str, requirements, action: &str| {
            binding(PODS, &format!("{PODS}-{name}"), Some(selector(requirements)), action)
        };
        let mode = |operator: &str, values: &[&str]| requirement(names::MODE_LABEL, operator, values);
        let mut deny = vec![mode("NotIn", &["warn", "audit"])];
        if default.only_reports() {
            deny.push(exists(names::MODE_LABEL));
        }
        // Namespaces without the label are in each `NotIn`.
        let others =
            |own: Mode| ["deny", "hold", "warn", "audit"].into_iter().filter(move |name| *name != own.name());
        let only = |own: Mode| {
            if default == own {
                mode("NotIn", &others(own).collect::<Vec<_>>())
            } else {
                mode("In", &[own.name()])
            }
        };
        Lock {
            policy: policy(PODS, spec),
            bindings: vec![
                binding("deny", deny, "Deny"),
                binding("warn", vec![only(Mode::Warn)], "Warn"),
                binding("audit", vec![only(Mode::Audit)], "Audit"),
            ],
        }
    }

    /// G4: guarded labels and annotations of namespaces, through every verb and subresource.
    fn namespaces(&self) -> Lock {
        let writers = &self.policy.label_writers;
        let group = &self.policy.break_glass_group;
        let break_glass = format!("{} in request.userInfo.?groups.orValue([])", cel::string(group));
        let writer = format!("request.userInfo.username in {}", cel::strings(writers));
        let name = r#"'Namespace "' + object.metadata.?name.orValue('') + '" was not '"#;
        let spec = ValidatingAdmissionPolicySpec {
            match_constraints: Some(matches(
                &["namespaces", "namespaces/status", "namespaces/finalize"],
                &["CREATE", "UPDATE"],
                "Cluster",
            )),
            match_conditions: Some(condition("guarded-keys-change", guarded_keys_change())),
            variables: Some(variables([("writer", writer), ("breakGlass", break_glass)])),
            validations: Some(vec![
                Validation {
                    expression: format!(
                        "!(request.operation == 'CREATE' && {} in object.metadata.?labels.orValue({{}}))",
                        cel::string(names::GATE_LABEL)
                    ),
                    message: None,
                    message_expression: Some(format!("{name} + {}", cel::string(&ready_at_creation()))),
                    reason: Some("Forbidden".to_owned()),
                },
                Validation {
                    expression: "variables.writer || variables.breakGlass".to_owned(),
                    message: None,
                    message_expression: Some(format!(
                        "{name} + (request.operation == 'CREATE' ? 'created' : 'changed') + {} + \
                         request.userInfo.username + {}",
                        cel::string(&format!(
                            ": its labels {gate}, {ours}* and (of tenants) {pods}*, and its annotations {ours}*, decide \
                             what may run there and are written only by {writers} or by members of group {group}; you \
                             are \"",
                            gate = names::GATE_LABEL,
                            ours = names::PREFIX,
                            pods = names::POD_SECURITY_PREFIX,
                            writers = writers.join(", "),
                        )),
                        cel::string(&format!(
                            "\". {ITSELF}. To do: leave these keys out; to make a tenant, ask the provisioner (POST \
                             /api/organizations); in an emergency act as a member of that group (kubectl --as=NAME \
                             --as-group=GROUP)."
                        )),
                    )),
                    reason: Some("Forbidden".to_owned()),
                },
            ]),
            audit_annotations: Some(vec![AuditAnnotation {
                key: "break-glass".to_owned(),
                value_expression:
                    "!variables.writer && variables.breakGlass ? request.userInfo.username : ''".to_owned(),
            }]),
            ..spec()
        };
        Lock {
            policy: policy(NAMESPACES, spec),
            bindings: vec![binding(NAMESPACES, NAMESPACES, None, "Deny")],
        }
    }

    /// G2: nobody but the webhook takes the hold from a pod.
    fn held(&self) -> Lock {
        let released = format!("{} && !{}", carries_hold_gate("oldObject"), carries_hold_gate("object"));
        let message = format!(
            "{} + request.userInfo.username + {}",
            cel::string(&format!(
                "The pod was not changed: its scheduling gate {} holds it until its namespace is proved isolated, and is \
                 taken away only by {}; you are \"",
                names::HOLD_GATE,
                self.policy.release_account,
            )),
            cel::string(&format!(
                "\". {ITSELF}. To do: wait until the namespace is ready; the pod is released within a second."
            )),
        );
        let spec = ValidatingAdmissionPolicySpec {
            match_constraints: Some(matches(&["pods"], &["UPDATE"], "Namespaced")),
            match_conditions: Some(condition("hold-ends", released)),
            validations: Some(vec![Validation {
                expression: format!(
                    "request.userInfo.username == {}",
                    cel::string(&self.policy.release_account)
                ),
                message: None,
                message_expression: Some(message),
                reason: Some("Forbidden".to_owned()),
            }]),
            ..spec()
        };
        Lock { policy: policy(HELD, spec), bindings: vec![binding(HELD, HELD, None, "Deny")] }
    }

    fn not_exempt(&self) -> LabelSelectorRequirement {
        let exempt: Vec<&str> = self.policy.exempt_namespaces.iter().map(String::as_str).collect();
        requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &exempt)
    }
}

/// CEL: whether the pod carries our scheduling gate.
fn carries_hold_gate(object: &str) -> String {
    format!(
        "{object}.spec.?schedulingGates.orValue([]).exists(gate, gate.name == {})",
        cel::string(names::HOLD_GATE)
    )
}

/// CEL: why the pod is refused. What the baseline lacks is out of its sight.
fn pod_message() -> String {
    let open = format!("{}={}", names::GATE_LABEL, names::GATE_OPEN);
    let why = format!(
        "variables.ready.hasValue() ? {} + variables.ready.value() + {} : {}",
        cel::string(&format!("its label {} is \"", names::GATE_LABEL)),
        cel::string(&format!("\", not \"{}\"", names::GATE_OPEN)),
        cel::string(&format!("it has no label {open}")),
    );
    let unheld = format!(
        "variables.mode == 'hold' ? {} : ''",
        cel::string(&format!(
            " Its mode is hold, and the scheduling gate {} does not hold this pod: the webhook adds it while it is registered \
             and answers.",
            names::HOLD_GATE
        ))
    );
    format!(
        "(variables.mode in ['warn', 'audit'] ? 'Would be refused: ' : '') + {} + request.namespace + {} + ({why}) + {} + \
         ({unheld}) + {}",
        cel::string("The pod was not created: namespace \""),
        cel::string("\" is not proved isolated ("),
        cel::string(&format!("). {ITSELF}, which cannot read what the baseline lacks; `webhook audit` can.")),
        cel::string(
            " To do: have the provisioner make the tenant (POST /api/organizations) and deploy into its namespace; if it is \
             being made right now, wait (controllers try again by themselves)."
        ),
    )
}

fn ready_at_creation() -> String {
    format!(
        "created: label {} cannot be set at creation, by anyone, because nothing in a new namespace can be isolated yet. \
         {ITSELF}. To do: create it without the label; the provisioner sets it when the baseline is proved.",
        names::GATE_LABEL
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> SecondLock {
        SecondLock { policy: Policy::new("image") }
    }

    #[test]
    fn the_policies_are_these() {
        let locks = lock().locks();
        let [pods, namespaces, held] = locks.as_slice() else { panic!("three") };
        insta::assert_yaml_snapshot!("pods", pods.policy);
        insta::assert_yaml_snapshot!("pods_bindings", pods.bindings);
        insta::assert_yaml_snapshot!("namespaces", namespaces.policy);
        insta::assert_yaml_snapshot!("held", held.policy);
    }

    #[test]
    fn with_a_lenient_default_only_labelled_namespaces_are_refused() {
        let policy = Policy { default_mode: Mode::Audit, ..Policy::new("image") };
        let locks = SecondLock { policy }.locks();
        insta::assert_yaml_snapshot!("pods_bindings_audit", locks[0].bindings);
    }

    #[test]
    fn every_policy_fails_closed_and_is_bound() {
        for lock in lock().locks() {
            let spec = lock.policy.spec.unwrap();
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"));
            assert!(spec.match_constraints.unwrap().object_selector.is_none());
            assert!(!lock.bindings.is_empty());
            for binding in lock.bindings {
                assert_eq!(Some(binding.spec.policy_name), lock.policy.metadata.name);
            }
        }
    }
}
