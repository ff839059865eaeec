//! RoleBindings: the owner has its role, and nobody gave one to everybody.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};

use super::{Defect, Observed, name_of};
use crate::owner::RBAC_GROUP;
use crate::{Owner, names};

pub(super) fn examine(observed: &Observed<'_>, defects: &mut Vec<Defect>) {
    match observed.annotations.get(names::OWNER_ANNOTATION).map(|text| Owner::from_annotation(text)) {
        None => defects.push(Defect::OwnerAnnotation("missing".to_owned())),
        Some(Err(error)) => defects.push(Defect::OwnerAnnotation(error.to_string())),
        Some(Ok(owner)) if !observed.role_bindings.iter().any(|binding| binds(binding, &owner)) => {
            defects.push(Defect::OwnerNotBound(owner.name().to_owned()));
        }
        Some(Ok(_)) => {}
    }
    let everybody =
        observed.role_bindings.iter().filter(|binding| binding.subjects.iter().flatten().any(is_everybody));
    defects.extend(everybody.map(|binding| Defect::BindingForEverybody(name_of(&binding.metadata))));
}

fn binds(binding: &RoleBinding, owner: &Owner) -> bool {
    let role = &binding.role_ref;
    role.kind == "ClusterRole"
        && role.name == names::OWNER_ROLE
        && role.api_group.as_deref().is_none_or(|group| group == RBAC_GROUP)
        && binding.subjects.iter().flatten().any(|subject| {
            subject.kind == "User"
                && subject.name == owner.name()
                && subject.api_group.as_deref().is_none_or(|group| group == RBAC_GROUP)
        })
}

/// Groups of every authenticated user, every anonymous one, every service account of the cluster; and the anonymous
/// user itself.
fn is_everybody(subject: &Subject) -> bool {
    match subject.kind.as_str() {
        "Group" => matches!(
            subject.name.as_str(),
            "system:authenticated" | "system:unauthenticated" | "system:serviceaccounts"
        ),
        "User" => subject.name == "system:anonymous",
        _ => false,
    }
}
