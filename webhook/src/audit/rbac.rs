//! Roles and bindings as far as the audit reads them, and who holds a right by them.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

/// All roles of the cluster, and all bindings that reach our namespace.
#[derive(Debug, Clone, Default)]
pub struct Rbac {
    /// ClusterRoles.
    pub cluster_roles: Vec<ClusterRole>,
    /// ClusterRoleBindings.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// Roles of our namespace.
    pub roles: Vec<Role>,
    /// RoleBindings of our namespace.
    pub role_bindings: Vec<RoleBinding>,
}

/// A right, in the words of RBAC.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// Any of these verbs; `prefix*` stands for what begins so.
    pub verbs: &'static [&'static str],
    /// API group.
    pub group: &'static str,
    /// Any of these resources, subresources included.
    pub resources: &'static [&'static str],
    /// Names that matter; a rule for other names alone does not count. Empty: every name matters.
    pub names: &'static [&'static str],
    /// Whether a binding in our namespace is enough.
    pub in_our_namespace: bool,
}

/// Who holds a right, and by which binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// As `Group system:masters` or `ServiceAccount kube-system/node-controller`.
    pub subject: String,
    /// As `ClusterRoleBinding cluster-admin -> ClusterRole cluster-admin`.
    pub by: String,
}

impl Rbac {
    /// Everyone who holds one of these rights, in a stable order.
    pub fn holders(&self, rights: &[Right]) -> BTreeSet<Holder> {
        let mut holders = BTreeSet::new();
        for binding in &self.cluster_role_bindings {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            if self.grants(&binding.role_ref, rights) {
                add(
                    &mut holders,
                    "ClusterRoleBinding",
                    name,
                    &binding.role_ref,
                    binding.subjects.as_deref(),
                    "",
                );
            }
        }
        let local: Vec<Right> = rights.iter().copied().filter(|right| right.in_our_namespace).collect();
        for binding in &self.role_bindings {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
            if self.grants(&binding.role_ref, &local) {
                add(
                    &mut holders,
                    "RoleBinding",
                    name,
                    &binding.role_ref,
                    binding.subjects.as_deref(),
                    namespace,
                );
            }
        }
        holders
    }

    fn grants(&self, role: &RoleRef, rights: &[Right]) -> bool {
        let rules: Option<&Vec<PolicyRule>> = if role.kind == "Role" {
            let found = self.roles.iter().find(|other| other.metadata.name.as_ref() == Some(&role.name));
            found.and_then(|found| found.rules.as_ref())
        } else {
            let found =
                self.cluster_roles.iter().find(|other| other.metadata.name.as_ref() == Some(&role.name));
            found.and_then(|found| found.rules.as_ref())
        };
        rules.into_iter().flatten().any(|rule| rights.iter().any(|right| allows(rule, right)))
    }
}

fn add(
    holders: &mut BTreeSet<Holder>,
    kind: &str,
    name: &str,
    role: &RoleRef,
    subjects: Option<&[Subject]>,
    namespace: &str,
) {
    let slash = if namespace.is_empty() { "" } else { "/" };
    let by = format!("{kind} {namespace}{slash}{name} -> {} {}", role.kind, role.name);
    for subject in subjects.unwrap_or_default() {
        let of = match (&subject.namespace, subject.kind.as_str()) {
            (Some(namespace), "ServiceAccount") => format!("{namespace}/"),
            _ => String::new(),
        };
        let subject = format!("{} {of}{}", subject.kind, subject.name);
        holders.insert(Holder { subject, by: by.clone() });
    }
}

/// Whether a rule gives a right. Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.
fn allows(rule: &PolicyRule, right: &Right) -> bool {
    let verbs = rule.verbs.iter().any(|verb| {
        verb == "*"
            || right.verbs.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(prefix) => verb.starts_with(prefix),
                None => verb == wanted,
            })
    });
    let groups = rule.api_groups.iter().flatten().any(|group| group == "*" || group == right.group);
    let resources = rule.resources.iter().flatten().any(|resource| {
        resource == "*"
            || right.resources.iter().any(|wanted| {
                resource == wanted
                    || wanted
                        .split_once('/')
                        .is_some_and(|(_, sub)| resource.strip_prefix("*/").is_some_and(|any| any == sub))
            })
    });
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let named = names.is_empty()
        || right.names.is_empty()
        || names.iter().any(|name| right.names.contains(&name.as_str()));
    verbs && groups && resources && named
}

#[cfg(test)]
#[path = "rbac_tests.rs"]
mod tests;
