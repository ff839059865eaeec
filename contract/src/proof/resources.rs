//! ResourceQuota and LimitRange.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Raw;

use super::{Defect, Observed, find, name_of};
use crate::{Quantity, Quota, names};

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn examine_quota(observed: &Observed<'_>, defects: &mut Vec<Defect>) {
    let least = match observed.annotations.get(names::QUOTA_ANNOTATION) {
        None => return defects.push(Defect::QuotaAnnotation("missing".to_owned())),
        Some(text) => match Quota::least_from_annotation(text) {
            Err(error) => return defects.push(Defect::QuotaAnnotation(error.to_string())),
            Ok(least) => least,
        },
    };
    let limits = |quota: &ResourceQuota| is_unscoped(quota) && has_all(spec_hard(quota), &least);
    let quotas = observed.resource_quotas;
    let find = |will_do: &dyn Fn(&ResourceQuota) -> bool, passing: &mut Vec<Defect>| {
        find("ResourceQuota", quotas, |quota| &quota.metadata, will_do, passing)
    };
    let mut passing = Vec::new();
    match find(&limits, &mut passing) {
        None => {
            let wanted: Vec<_> = least.iter().map(|(key, value)| format!("{key}={value}")).collect();
            defects.push(Defect::QuotaMissing(wanted.join(", ")));
            defects.append(&mut passing);
        }
        Some(first) if find(&|quota| limits(quota) && is_enforced(quota, &least), &mut passing).is_none() => {
            defects.push(Defect::QuotaNotEnforced(name_of(&first.metadata)));
        }
        Some(_) => {}
    }
}

/// A quota with scopes speaks of some pods only, so it limits nothing for certain.
fn is_unscoped(quota: &ResourceQuota) -> bool {
    quota
        .spec
        .as_ref()
        .is_some_and(|spec| spec.scopes.as_ref().is_none_or(Vec::is_empty) && spec.scope_selector.is_none())
}

fn spec_hard(quota: &ResourceQuota) -> Option<&BTreeMap<String, Raw>> {
    quota.spec.as_ref().and_then(|spec| spec.hard.as_ref())
}

fn has_all(hard: Option<&BTreeMap<String, Raw>>, least: &Amounts) -> bool {
    least.iter().all(|(key, value)| {
        hard.and_then(|hard| hard.get(key)).and_then(|raw| raw.0.parse::<Quantity>().ok()).as_ref()
            == Some(value)
    })
}

/// The apiserver ignores a quota whose status the controller has not filled yet, so only the status proves it.
fn is_enforced(quota: &ResourceQuota, least: &Amounts) -> bool {
    quota.status.as_ref().is_some_and(|status| {
        has_all(status.hard.as_ref(), least)
            && least.keys().all(|key| status.used.as_ref().is_some_and(|used| used.contains_key(key)))
    })
}

pub(super) fn examine_limits(limits: &[LimitRange], defects: &mut Vec<Defect>) {
    let both = |amounts: &Option<BTreeMap<String, Raw>>| {
        amounts.as_ref().is_some_and(|amounts| amounts.contains_key("cpu") && amounts.contains_key("memory"))
    };
    // A container that asks for nothing, in so many words, is charged nothing: a least forbids it.
    let positive = |amounts: &Option<BTreeMap<String, Raw>>, key: &str| {
        let amount =
            amounts.as_ref().and_then(|amounts| amounts.get(key)).map(|raw| raw.0.parse::<Quantity>());
        amount.is_some_and(|amount| amount.is_ok_and(|amount| amount.milli() > 0))
    };
    let complete = |item: &LimitRangeItem| {
        item.type_ == "Container"
            && both(&item.default)
            && both(&item.default_request)
            && positive(&item.min, "cpu")
            && positive(&item.min, "memory")
    };
    let will_do =
        |range: &LimitRange| range.spec.as_ref().is_some_and(|spec| spec.limits.iter().any(complete));
    let mut passing = Vec::new();
    if find("LimitRange", limits, |range| &range.metadata, will_do, &mut passing).is_none() {
        defects.push(Defect::LimitRangeMissing);
        defects.append(&mut passing);
    }
}
