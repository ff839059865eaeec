//! The gate: may this pod be created in this namespace?

use std::collections::BTreeMap;

use contract::names;

use super::{
    answer::Verdict,
    hold,
    policy::Policy,
    refusal::{Refusal, listed},
    review::Request,
};

/// The longest list of missing parts in one message; Events of controllers are cut at 1024 bytes.
const PARTS_MAX: usize = 7;

/// What a live read found out about a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum NamespaceState {
    /// It exists.
    Found(Namespace),
    /// There is none of that name.
    Absent,
    /// The read failed, for this reason. Never taken for an answer.
    Unknown(String),
}

/// A namespace as it was when the read was made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Deletion has begun.
    pub terminating: bool,
    /// What its baseline lacks; only read for the message of a refusal.
    pub missing: Missing,
}

impl Namespace {
    /// Whether it carries the label that opens the gate.
    pub fn is_ready(&self) -> bool {
        self.labels.get(names::GATE_LABEL).is_some_and(|value| value == names::GATE_OPEN)
    }
}

/// What a baseline lacks, in words for users.
#[derive(Debug, Clone, PartialEq)]
pub enum Missing {
    /// These parts; none when the baseline is complete.
    Parts(Vec<String>),
    /// It could not be read, for this reason.
    Unreadable(String),
}

impl Default for Missing {
    fn default() -> Self {
        Self::Parts(Vec::new())
    }
}

/// How a namespace treats pods that come before it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Refuse them.
    Deny,
    /// Let them in, but hold them until the namespace is ready.
    Hold,
    /// Let them in with a warning.
    Warn,
    /// Let them in with a line in the audit log.
    Audit,
    /// Not looked at.
    #[value(skip)]
    Exempt,
}

impl Mode {
    /// The mode that a namespace's label asks for, or `default` without the label. A value that is not known is the
    /// strict one.
    pub fn of(labels: &BTreeMap<String, String>, default: Self) -> Self {
        labels.get(names::MODE_LABEL).map_or(default, |value| Self::named(value))
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "hold" => Self::Hold,
            "warn" => Self::Warn,
            "audit" => Self::Audit,
            "exempt" => Self::Exempt,
            _ => Self::Deny,
        }
    }

    /// Its name, as in the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::Warn => "warn",
            Self::Audit => "audit",
            Self::Exempt => "exempt",
        }
    }

    /// Whether pods are let in and only told about.
    pub fn only_reports(self) -> bool {
        matches!(self, Self::Warn | Self::Audit)
    }
}

/// Decides about the creation of a pod where the gate only reports: as [`decide`], but what is not known is let in.
pub fn report(policy: &Policy, request: &Request<'_>, state: &NamespaceState) -> Verdict {
    match state {
        NamespaceState::Unknown(why) => Verdict::allow("unknown-state")
            .annotate("unknown-state", Refusal::unknown_state(request.namespace(), why).message),
        NamespaceState::Absent => Verdict::allow("no-namespace"),
        // A namespace that has just been made strict is treated so.
        NamespaceState::Found(_) => decide(policy, request, state),
    }
}

/// Decides about the creation of a pod, from a read of its namespace that began after the review arrived.
pub fn decide(policy: &Policy, request: &Request<'_>, state: &NamespaceState) -> Verdict {
    let name = request.namespace();
    if policy.exempts(name) {
        return Verdict::allow("exempt");
    }
    match state {
        NamespaceState::Unknown(why) => Verdict::refuse(Refusal::unknown_state(name, why)),
        NamespaceState::Absent => Verdict::refuse(Refusal::new(
            "no-namespace",
            format!(
                "The pod was not created: namespace {name:?} does not exist. To do: create the namespace first."
            ),
        )),
        NamespaceState::Found(namespace) => {
            if namespace.is_ready() {
                return Verdict::allow("ready");
            }
            let why = why_not_ready(name, namespace);
            let refusal = not_ready(name, namespace, &why);
            match Mode::of(&namespace.labels, policy.default_mode) {
                Mode::Deny => Verdict::refuse(refusal),
                Mode::Hold if namespace.terminating => Verdict::refuse(refusal),
                Mode::Hold => hold::admit(request, &why),
                Mode::Warn => Verdict::allow("warned").warn(format!("Would be refused: {}", refusal.message)),
                Mode::Audit => Verdict::allow("audited").annotate("would-refuse", refusal.message),
                Mode::Exempt => Verdict::allow("exempt"),
            }
        }
    }
}

fn not_ready(name: &str, namespace: &Namespace, why: &str) -> Refusal {
    if namespace.terminating {
        return Refusal::new(
            "terminating",
            format!(
                "The pod was not created: namespace {name:?} is being deleted. To do: use another namespace."
            ),
        );
    }
    Refusal::new("not-ready", format!("The pod was not created: {why}"))
}

/// Why pods cannot start in this namespace yet, and what to do about it.
fn why_not_ready(name: &str, namespace: &Namespace) -> String {
    let label = match namespace.labels.get(names::GATE_LABEL) {
        None => format!("it has no label {}={}", names::GATE_LABEL, names::GATE_OPEN),
        Some(value) => format!("its label {} is {value:?}, not {:?}", names::GATE_LABEL, names::GATE_OPEN),
    };
    let (missing, remedy) = match &namespace.missing {
        Missing::Unreadable(why) => {
            (format!("What is missing in its baseline could not be read ({why})."), REMEDY)
        }
        Missing::Parts(parts) if parts.is_empty() => (
            "Its baseline is complete; only the label is missing.".to_owned(),
            "wait until the provisioner has set the label, then try again (controllers do so by themselves).",
        ),
        Missing::Parts(parts) if parts.len() > PARTS_MAX => (
            format!(
                "Missing or wrong in its baseline: {}; and {} more.",
                listed(&parts[..PARTS_MAX]),
                parts.len() - PARTS_MAX
            ),
            REMEDY,
        ),
        Missing::Parts(parts) => (format!("Missing or wrong in its baseline: {}.", listed(parts)), REMEDY),
    };
    format!("namespace {name:?} is not proved isolated ({label}). {missing} To do: {remedy}")
}

const REMEDY: &str = "have the provisioner make the tenant (POST /api/organizations) and deploy into its namespace; if it \
                      is being made right now, wait (controllers try again by themselves).";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::review::{GroupVersionResource, Operation};

    fn request() -> Request<'static> {
        Request {
            uid: "u".into(),
            resource: GroupVersionResource {
                group: "".into(),
                version: "v1".into(),
                resource: "pods".into(),
            },
            sub_resource: None,
            name: None,
            namespace: Some("shop".into()),
            operation: Operation::Create,
            user_info: crate::admission::review::UserInfo::default(),
            object: None,
            old_object: None,
            dry_run: None,
        }
    }

    fn found(labels: &[(&str, &str)], parts: &[&str]) -> NamespaceState {
        NamespaceState::Found(Namespace {
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            terminating: false,
            missing: Missing::Parts(parts.iter().map(|part| (*part).to_owned()).collect()),
        })
    }

    fn verdict(state: &NamespaceState) -> Verdict {
        decide(&Policy::new("image"), &request(), state)
    }

    fn message(state: &NamespaceState) -> String {
        verdict(state).refusal.unwrap().message
    }

    #[test]
    fn only_the_exact_label_opens_the_gate() {
        assert_eq!(verdict(&found(&[("isolation-ready", "true")], &[])).reason, "ready");
        for value in ["True", "false", "", "yes"] {
            assert_eq!(verdict(&found(&[("isolation-ready", value)], &[])).reason, "not-ready", "{value}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_in_every_mode() {
        assert!(!verdict(&NamespaceState::Unknown("no answer".into())).allowed());
        assert!(!verdict(&NamespaceState::Absent).allowed());
    }

    #[test]
    fn modes_differ_in_what_they_do_with_the_same_refusal() {
        let mode = |mode| verdict(&found(&[("agent-ready.io/gate", mode)], &["no quota"]));
        for strict in ["deny", "nonsense", ""] {
            assert_eq!(mode(strict).reason, "not-ready", "{strict}");
        }
        let warned = mode("warn");
        assert!(warned.allowed() && warned.warnings[0].contains("no quota"));
        let audited = mode("audit");
        assert!(audited.allowed() && audited.audit[0].1.contains("no quota"));
        assert_eq!(mode("exempt"), Verdict::allow("exempt"));
        // A pod that nobody shows cannot be seen to carry the scheduling gate.
        assert!(!mode("hold").allowed());
    }

    #[test]
    fn the_default_mode_is_that_of_namespaces_without_the_label() {
        let verdict = |default_mode, labels: &[(&str, &str)]| {
            let policy = Policy { default_mode, ..Policy::new("image") };
            decide(&policy, &request(), &found(labels, &[]))
        };
        assert_eq!(verdict(Mode::Audit, &[]).reason, "audited");
        assert_eq!(verdict(Mode::Warn, &[]).reason, "warned");
        for strict in ["deny", "typo"] {
            assert_eq!(verdict(Mode::Audit, &[("agent-ready.io/gate", strict)]).reason, "not-ready");
        }
    }

    #[test]
    fn a_report_refuses_nothing_for_want_of_knowledge() {
        let report = |state: &NamespaceState| report(&Policy::new("image"), &request(), state);
        assert!(report(&NamespaceState::Unknown("no answer".into())).allowed());
        assert!(report(&NamespaceState::Absent).allowed());
        assert_eq!(report(&found(&[("agent-ready.io/gate", "warn")], &[])).reason, "warned");
        assert!(!report(&found(&[("agent-ready.io/gate", "deny")], &[])).allowed(), "strict by now");
    }

    #[test]
    fn exempt_namespaces_need_no_state() {
        let request = Request { namespace: Some("kube-system".into()), ..request() };
        assert!(decide(&Policy::new("i"), &request, &NamespaceState::Unknown(String::new())).allowed());
    }

    #[test]
    fn messages_say_what_happened_why_and_what_to_do() {
        insta::assert_snapshot!(
            "fresh",
            message(&found(
                &[],
                &["no NetworkPolicy denies ingress to all pods", "annotation agent-ready.io/quota: missing"]
            ))
        );
        insta::assert_snapshot!(
            "wrong_value",
            message(&found(&[("isolation-ready", "false")], &["annotation agent-ready.io/quota: missing"]))
        );
        insta::assert_snapshot!("complete", message(&found(&[], &[])));
        insta::assert_snapshot!("many", message(&found(&[], &["a", "b", "c", "d", "e", "f", "g", "h", "i"])));
        insta::assert_snapshot!("absent", message(&NamespaceState::Absent));
        let unreadable =
            Namespace { missing: Missing::Unreadable("timed out".into()), ..Namespace::default() };
        insta::assert_snapshot!("unreadable", message(&NamespaceState::Found(unreadable)));
        let terminating = Namespace { terminating: true, ..Namespace::default() };
        insta::assert_snapshot!("terminating", message(&NamespaceState::Found(terminating)));
    }
}
