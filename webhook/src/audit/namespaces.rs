//! Findings about a namespace: its label against its proof, and what lies beside the baseline.

use contract::{names, proof::Defect};

use super::{
    finding::{Finding, Kind, Object},
    pods::is_exempt,
};
use crate::{
    admission::{policy::Policy, refusal::listed},
    cluster::store::Namespace,
};

/// Whether the audit needs a proof of this namespace: ready ones must have it, tenants' must not be opened.
pub fn wants_proof(policy: &Policy, namespace: &Namespace) -> bool {
    !namespace.terminating
        && !is_exempt(policy, namespace)
        && (namespace.is_ready() || namespace.label(names::ORGANIZATION_LABEL).is_some())
}

/// What is wrong with a namespace, by the defects of its proof or why it could not be read.
pub fn examine(policy: &Policy, namespace: &Namespace, proof: Result<&[Defect], &str>) -> Vec<Finding> {
    if !wants_proof(policy, namespace) {
        return Vec::new();
    }
    let object = Object::namespace(&namespace.name, &namespace.uid);
    let defects = match proof {
        Ok(defects) => defects,
        Err(why) => {
            let message = format!(
                "What isolates the namespace could not be read ({why}), so nobody knows whether it still does. To do: see \
                 that the gate reaches the API server and has its rights."
            );
            return vec![Finding { kind: Kind::Unreadable, object, message }];
        }
    };
    let mut findings = Vec::new();
    let missing: Vec<String> =
        defects.iter().filter(|defect| !defect.is_opening()).map(ToString::to_string).collect();
    if namespace.is_ready() && !missing.is_empty() {
        let message = format!(
            "The namespace carries {}={} and its baseline does not prove it. Missing or wrong: {}. To do: repair these \
             parts (the provisioner does so for its tenants), or take the label off until they are there.",
            names::GATE_LABEL,
            names::GATE_OPEN,
            listed(&missing),
        );
        findings.push(Finding { kind: Kind::ReadyWithoutProof, object, message });
    }
    for defect in defects {
        let (api_version, kind, name) = match defect {
            Defect::OpenNetworkPolicy(name) => ("networking.k8s.io/v1", "NetworkPolicy", name),
            Defect::BindingForEverybody(name) => ("rbac.authorization.k8s.io/v1", "RoleBinding", name),
            _ => continue,
        };
        let message = format!(
            "{defect}, which undoes the baseline beside it. To do: delete it, or narrow it to those who need it."
        );
        let object = Object {
            api_version,
            kind,
            namespace: namespace.name.to_string(),
            name: name.clone(),
            uid: String::new(),
        };
        findings.push(Finding { kind: Kind::OpensEverything, object, message });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::pods::testing::namespace;

    fn seen(labels: &[(&str, &str)], proof: Result<&[Defect], &str>) -> Vec<(Kind, String)> {
        let findings = examine(&Policy::new("image"), &namespace("shop", labels), proof);
        findings.into_iter().map(|finding| (finding.kind, finding.object.name)).collect()
    }

    const READY: (&str, &str) = ("isolation-ready", "true");
    const TENANT: (&str, &str) = ("agent-ready.io/organization", "0");

    #[test]
    fn a_ready_label_needs_its_proof() {
        let missing = [Defect::LimitRangeMissing];
        assert_eq!(seen(&[READY], Ok(&missing)), [(Kind::ReadyWithoutProof, "shop".to_owned())]);
        assert_eq!(seen(&[READY], Ok(&[])), []);
        assert_eq!(seen(&[TENANT], Ok(&missing)), [], "it is not called ready");
        assert_eq!(seen(&[READY, ("agent-ready.io/gate", "exempt")], Ok(&missing)), []);
        assert_eq!(seen(&[READY], Err("no answer")), [(Kind::Unreadable, "shop".to_owned())]);
    }

    #[test]
    fn each_opening_is_named_in_ready_namespaces_and_in_tenants() {
        let openings = [
            Defect::OpenNetworkPolicy("all".to_owned()),
            Defect::BindingForEverybody("everybody".to_owned()),
        ];
        let both =
            [(Kind::OpensEverything, "all".to_owned()), (Kind::OpensEverything, "everybody".to_owned())];
        assert_eq!(seen(&[READY], Ok(&openings)), both);
        assert_eq!(seen(&[TENANT], Ok(&openings)), both);
        assert_eq!(seen(&[("team", "a")], Ok(&openings)), []);
    }

    #[test]
    fn messages_say_what_it_is_and_what_to_do() {
        let defects = [Defect::LimitRangeMissing, Defect::OpenNetworkPolicy("all".to_owned())];
        let policy = Policy::new("image");
        for finding in examine(&policy, &namespace("shop", &[READY]), Ok(&defects)) {
            insta::assert_snapshot!(format!("namespace_{}", finding.kind.code()), finding.message);
        }
        let unreadable = examine(&policy, &namespace("shop", &[READY]), Err("the API server answered 403"));
        insta::assert_snapshot!("namespace_unreadable", unreadable[0].message);
    }
}
