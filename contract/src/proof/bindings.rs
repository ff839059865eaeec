//! RoleBindings: the owner has its role, and nobody gave one to everybody.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};

use super::{Defect, Observed, find, name_of};
use crate::owner::RBAC_GROUP;
use crate::{Owner, names};

pub(super) fn examine(observed: &Observed<'_>, defects: &mut Vec<Defect>) {
    match observed.annotations.get(names::OWNER_ANNOTATION).map(|text| Owner::from_annotation(text)) {
        None => defects.push(Defect::OwnerAnnotation("missing".to_owned())),
        Some(Err(error)) => defects.push(Defect::OwnerAnnotation(error.to_string())),
        Some(Ok(owner)) => {
            let (bindings, mut passing) = (observed.role_bindings, Vec::new());
            let bound = |binding: &RoleBinding| binds(binding, &owner);
            if find("RoleBinding", bindings, |binding| &binding.metadata, bound, &mut passing).is_none() {
                defects.push(Defect::OwnerNotBound(owner.name().to_owned()));
                defects.append(&mut passing);
            }
        }
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
