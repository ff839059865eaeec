//! The second carrier of the injection (G15): the patch of [`crate::admission::inject`] as a MutatingAdmissionPolicy, which the
//! API server applies by itself, and its refusals as a ValidatingAdmissionPolicy.

use contract::names;
use k8s_openapi::api::admissionregistration::v1::{
    JSONPatch, MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation, ValidatingAdmissionPolicySpec,
    Validation, Variable,
};
use serde_json::Value;

use super::{
    cel,
    configurations::{metadata, requirement, selector},
    policies::{Lock, binding, matches, policy, spec, variables},
};
use crate::admission::{
    inject::{self, OS_LABEL, WINDOWS},
    policy::Policy,
    sidecar::{self, Addable, Start},
};

/// Name of the policies and of their bindings.
pub const NAME: &str = "agent-ready-injection";
/// Stands for the image until the expression is written, which takes it from a variable.
const IMAGE: &str = "THE-IMAGE";
/// Index of the init container that is to be replaced.
const OTHER: &str = "variables.kinship.indexOf('other-release')";

/// The injection as policies.
#[derive(Debug, Clone)]
pub struct InjectionPolicy {
    /// Adds the sidecar.
    pub mutating: MutatingAdmissionPolicy,
    /// Where.
    pub binding: MutatingAdmissionPolicyBinding,
    /// Refuses what poses as the sidecar.
    pub refusing: Lock,
}

impl InjectionPolicy {
    /// The injection of this policy's sidecar.
    pub fn of(settings: &Policy) -> Self {
        let exempt: Vec<&str> = settings.exempt_namespaces.iter().map(String::as_str).collect();
        let constraints = MatchResources {
            namespace_selector: Some(selector(vec![
                requirement(names::INJECT_LABEL, "In", &["enabled"]),
                requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &exempt),
            ])),
            ..matches(&["pods"], &["CREATE"], "Namespaced")
        };
        let mutating = MutatingAdmissionPolicySpec {
            // As the webhook's configuration: a pod without sidecar is better than none.
            failure_policy: Some("Ignore".to_owned()),
            match_constraints: Some(constraints.clone()),
            match_conditions: Some(injectable()),
            reinvocation_policy: Some("IfNeeded".to_owned()),
            variables: Some([of_the_pod(settings), of_the_patch()].concat()),
            mutations: Some(vec![Mutation {
                patch_type: "JSONPatch".to_owned(),
                json_patch: Some(JSONPatch { expression: Some(patch()) }),
                apply_configuration: None,
            }]),
            ..MutatingAdmissionPolicySpec::default()
        };
        let refusing = ValidatingAdmissionPolicySpec {
            match_constraints: Some(constraints),
            match_conditions: Some(injectable()),
            variables: Some(of_the_pod(settings)),
            validations: Some(refusals()),
            ..spec()
        };
        Self {
            mutating: MutatingAdmissionPolicy { metadata: metadata(NAME), spec: Some(mutating) },
            binding: MutatingAdmissionPolicyBinding {
                metadata: metadata(NAME),
                spec: Some(MutatingAdmissionPolicyBindingSpec {
                    policy_name: Some(NAME.to_owned()),
                    ..MutatingAdmissionPolicyBindingSpec::default()
                }),
            },
            refusing: Lock {
                policy: policy(NAME, refusing),
                bindings: vec![binding(NAME, NAME, None, "Deny")],
            },
        }
    }
}

/// Pods that can carry the sidecar and have not opted out.
fn injectable() -> Vec<MatchCondition> {
    let annotation = |key: &str| format!("object.metadata.?annotations[?{}]", cel::string(key));
    let windows = cel::string(WINDOWS);
    let conditions = [
        ("not-a-mirror-pod", format!("!{}.hasValue()", annotation(names::MIRROR_ANNOTATION))),
        ("not-on-the-hosts-network", "!object.spec.?hostNetwork.orValue(false)".to_owned()),
        (
            "not-on-windows",
            format!(
                "object.spec.?os.?name.orValue('') != {windows} && object.spec.?nodeSelector[?{}].orValue('') != {windows}",
                cel::string(OS_LABEL)
            ),
        ),
        ("not-opted-out", format!("{}.orValue('') != 'disabled'", annotation(names::INJECT_LABEL))),
    ];
    conditions.map(|(name, expression)| MatchCondition { name: name.to_owned(), expression }).into()
}

/// What both policies ask about the pod. The image comes first, so that an overlay can set it.
fn of_the_pod(settings: &Policy) -> Vec<Variable> {
    variables([
        ("image", cel::string(&settings.sidecar_image)),
        ("imageName", "variables.image.split('@')[0]".to_owned()),
        (
            "repository",
            "variables.imageName.lastIndexOf(':') > variables.imageName.lastIndexOf('/') ? \
             variables.imageName.substring(0, variables.imageName.lastIndexOf(':')) : variables.imageName"
                .to_owned(),
        ),
        ("init", "object.spec.?initContainers.orValue([])".to_owned()),
        ("volumes", "object.spec.?volumes.orValue([])".to_owned()),
        ("kinship", kinship()),
    ])
}

/// What each init container is to the sidecar, as [`sidecar::kinship`] says.
fn kinship() -> String {
    format!(
        "variables.init.map(c, c.name != {name} ? 'app' : ({covers}) ? (c.image == variables.image ? 'ours' : \
         'other-release') : (c.?restartPolicy.orValue('') == 'Always' && \
         c.?image.orValue('').startsWith(variables.repository) && \
         c.image.substring(size(variables.repository)).matches('^(:[^/@]*)?(@.*)?$')) ? 'other-release' : 'foreign')",
        name = cel::string(names::SIDECAR_CONTAINER),
        covers = covers("c", &sidecar::container(IMAGE, Start::Wait), ""),
    )
}

/// CEL for [`sidecar::kinship`]'s question whether the value at `path` is `ours`, whatever the image.
fn covers(path: &str, ours: &Value, place: &str) -> String {
    match ours {
        Value::Object(map) => {
            let mut conditions = Vec::new();
            if let Addable::Keys(keys) = sidecar::addable(place) {
                let known = map.keys().map(String::as_str).chain(keys.iter().copied());
                conditions.push(format!("{path}.all(k, k in {})", cel::strings(known)));
            }
            for (key, value) in map {
                let literal = cel::string(key);
                let condition = covers(&format!("{path}[{literal}]"), value, &format!("{place}/{key}"));
                conditions.push(match (place, key.as_str()) {
                    // Without a start-up probe it is the sidecar of a pod that does not wait.
                    ("", "startupProbe") => format!("(!({literal} in {path}) || {condition})"),
                    _ if condition.is_empty() => format!("{literal} in {path}"),
                    _ => format!("{literal} in {path} && {condition}"),
                });
            }
            conditions.join(" && ")
        }
        Value::Array(items) if place == sidecar::MAY_GROW => {
            let each = |item| format!("{path}.exists(m, m == {})", cel::value(item));
            items.iter().map(each).collect::<Vec<_>>().join(" && ")
        }
        _ if place == sidecar::MAY_DIFFER || place == "/image" => String::new(),
        _ => format!("{path} == {}", cel::value(ours)),
    }
}

/// What the patch adds.
fn of_the_patch() -> Vec<Variable> {
    let literal = |start| {
        let container = cel::value(&sidecar::container(IMAGE, start));
        container.replace(&cel::string(IMAGE), "variables.image")
    };
    let go = format!(
        "object.metadata.?annotations[?{}].orValue('wait') == 'go'",
        cel::string(names::START_ANNOTATION)
    );
    let variable = serde_json::json!({"name": names::CONFIG_URL_ENV, "value": names::CONFIG_URL});
    variables([
        ("sidecar", format!("{go} ? {} : {}", literal(Start::Go), literal(Start::Wait))),
        ("url", cel::value(&variable)),
    ])
}

/// The operations, in the webhook's order.
fn patch() -> String {
    let mut operations = vec![environment("containers", "object.spec.containers")];
    operations.push(environment("initContainers", "variables.init"));
    let ours = sidecar::volumes();
    for volume in &ours {
        let (name, literal) = (cel::value(&volume["name"]), cel::value(volume));
        operations.push(format!(
            "({OTHER} < 0 ? [] : lists.range(size(variables.volumes)).filter(i, variables.volumes[i].name == {name} && \
             variables.volumes[i] != {literal}).map(i, JSONPatch{{op: 'replace', path: '/spec/volumes/' + string(i), \
             value: {literal}}}))"
        ));
        operations.push(format!(
            "(has(object.spec.volumes) && !variables.volumes.exists(v, v.name == {name}) ? [JSONPatch{{op: 'add', path: \
             '/spec/volumes/-', value: {literal}}}] : [])"
        ));
    }
    operations.push(format!(
        "(has(object.spec.volumes) ? [] : [JSONPatch{{op: 'add', path: '/spec/volumes', value: {}}}])",
        cel::value(&Value::Array(ours.to_vec()))
    ));
    // Last, because it shifts the indices of the other init containers.
    operations.push(format!(
        "({OTHER} >= 0 ? [JSONPatch{{op: 'replace', path: '/spec/initContainers/' + string({OTHER}), value: \
         variables.sidecar}}] : variables.kinship.exists(k, k != 'app') || \
         object.spec.containers.exists(c, c.name == {name}) ? [] : has(object.spec.initContainers) ? \
         [JSONPatch{{op: 'add', path: '/spec/initContainers/0', value: variables.sidecar}}] : \
         [JSONPatch{{op: 'add', path: '/spec/initContainers', value: [variables.sidecar]}}])",
        name = cel::string(names::SIDECAR_CONTAINER),
    ));
    operations.join(" + ")
}

/// Operations that add the sidecar's address to the containers of a list which lack it, before the pod's own variables.
fn environment(list: &str, path: &str) -> String {
    format!(
        "lists.range(size({path})).filter(i, {path}[i].name != {sidecar} && !{path}[i].?env.orValue([]).exists(e, e.name == \
         {variable})).map(i, JSONPatch{{op: 'add', path: '/spec/{list}/' + string(i) + (has({path}[i].env) ? '/env/0' : \
         '/env'), value: has({path}[i].env) ? dyn(variables.url) : dyn([variables.url])}})",
        sidecar = cel::string(names::SIDECAR_CONTAINER),
        variable = cel::string(names::CONFIG_URL_ENV),
    )
}

fn refusals() -> Vec<Validation> {
    let refuse = |expression, message| Validation {
        expression,
        message: Some(message),
        message_expression: None,
        reason: Some("Forbidden".to_owned()),
    };
    let container = format!(
        "object.spec.containers.all(c, c.name != {}) && variables.kinship.all(k, k in ['app', 'ours']) && \
         variables.kinship.filter(k, k == 'ours').size() < 2",
        cel::string(names::SIDECAR_CONTAINER)
    );
    let mut refusals = vec![refuse(container, inject::foreign_container().message)];
    for volume in sidecar::volumes() {
        let (name, literal) = (volume["name"].as_str().unwrap_or_default(), cel::value(&volume));
        refusals.push(refuse(
            format!("variables.volumes.all(v, v.name != {} || v == {literal})", cel::string(name)),
            inject::foreign_volume(name).message,
        ));
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_are_these() {
        let policies = InjectionPolicy::of(&Policy::new("registry/sidecar:1"));
        insta::assert_yaml_snapshot!("mutating", policies.mutating);
        insta::assert_yaml_snapshot!("refusing", policies.refusing.policy);
    }
}
