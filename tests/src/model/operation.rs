//! What is done at random: weighted so that namespaces become ready now and then, and cease to be.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// A part of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ResourceQuota.
    Quota,
    /// The LimitRange.
    Limits,
    /// The NetworkPolicy that denies everything.
    DefaultDeny,
    /// The owner's RoleBinding.
    Binding,
    /// That nothing lies beside which opens everything.
    Beside,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Quota, Self::Limits, Self::DefaultDeny, Self::Binding, Self::Beside];
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A cluster administrator.
    Admin,
    /// A cluster administrator in the break-glass group.
    BreakGlass,
    /// The provisioner's service account.
    Provisioner,
}

/// The mode that a namespace asks for by its label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No label.
    #[default]
    Default,
    /// `deny`
    Deny,
    /// `hold`
    Hold,
    /// `warn`
    Warn,
    /// `audit`
    Audit,
    /// `exempt`
    Exempt,
}

impl Mode {
    const ALL: [Self; 6] = [Self::Default, Self::Deny, Self::Hold, Self::Warn, Self::Audit, Self::Exempt];

    /// The label's value.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Deny => Some("deny"),
            Self::Hold => Some("hold"),
            Self::Warn => Some("warn"),
            Self::Audit => Some("audit"),
            Self::Exempt => Some("exempt"),
        }
    }
}

/// How a pod is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// POST with a name.
    Named,
    /// POST with `generateName`.
    GenerateName,
    /// POST with `dryRun=All`.
    DryRun,
    /// Server-side apply.
    Apply,
    /// By a controller.
    ReplicaSet,
    /// By another.
    Job,
}

/// One step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes the namespace, unready.
    CreateNamespace,
    /// Deletes the namespace.
    DeleteNamespace,
    /// Puts a part as it should be, by the provisioner.
    Make(Part),
    /// Makes a part something else.
    Break(Part, Actor),
    /// Removes a part.
    Delete(Part, Actor),
    /// Sets or removes the ready label.
    Ready(bool, Actor),
    /// Sets or removes the mode label.
    SetMode(Mode, Actor),
    /// Asks for a pod.
    Pod(How),
    /// Waits until the API server has seen the last change.
    Settle,
}

impl Operation {
    /// Some operation.
    pub fn random(random: &mut StdRng) -> Self {
        let part = |random: &mut StdRng| Part::ALL[random.random_range(0..Part::ALL.len())];
        // Whoever breaks or deletes is the provisioner in other journeys: it has no right to.
        let breaker = if random.random_bool(0.6) { Actor::Admin } else { Actor::BreakGlass };
        let writer = *[Actor::Admin, Actor::BreakGlass, Actor::Provisioner, Actor::Provisioner]
            .choose(random)
            .unwrap_or(&Actor::Admin);
        match random.random_range(0..100_u32) {
            0..2 => Self::DeleteNamespace,
            2..30 => Self::Make(part(random)),
            30..37 => Self::Break(part(random), breaker),
            37..41 => Self::Delete(part(random), breaker),
            41..55 => Self::Ready(true, writer),
            55..59 => Self::Ready(false, writer),
            59..67 => Self::SetMode(Mode::ALL[random.random_range(0..Mode::ALL.len())], breaker),
            67..73 => Self::Settle,
            73..93 => {
                let at_once = [How::Named, How::GenerateName, How::DryRun, How::Apply];
                Self::Pod(at_once[random.random_range(0..at_once.len())])
            }
            93..94 => Self::Pod(How::ReplicaSet),
            94..95 => Self::Pod(How::Job),
            _ => Self::CreateNamespace,
        }
    }
}
