//! The operator's settings that decisions depend on.

use contract::{names, proof::Defect};

use super::{gate::Mode, review::UserInfo};

/// Namespaces that the gate never looks at: the control plane's and our own. A gate that matched them would keep a
/// stopped cluster from starting again.
pub const EXEMPT_NAMESPACES: [&str; 4] =
    ["kube-system", "kube-public", "kube-node-lease", names::SYSTEM_NAMESPACE];

/// Who may do what, and what is injected.
#[derive(Debug, Clone)]
pub struct Policy {
    /// User names that may write guarded labels and annotations.
    pub label_writers: Vec<String>,
    /// Members of this group may too, for emergencies; a false `isolation-ready` is out of their reach as well.
    pub break_glass_group: String,
    /// Namespaces exempt by name.
    pub exempt_namespaces: Vec<String>,
    /// Image of the config sidecar.
    pub sidecar_image: String,
    /// Mode of namespaces whose label names none.
    pub default_mode: Mode,
    /// User name of the release controller.
    pub release_account: String,
    /// What is done about openings beside a baseline.
    pub open_beside: OpenBeside,
}

/// What is done about an object that lies beside a baseline and opens everything to everyone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OpenBeside {
    /// The namespace is not proved isolated, and the object cannot be made in one that is.
    #[default]
    Refuse,
    /// A warning and a line in the audit log.
    Report,
}

/// Defects by what is done about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Divided {
    /// No proof with these.
    pub refused: Vec<Defect>,
    /// Only told.
    pub reported: Vec<Defect>,
}

/// How a user stands to guarded keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A label writer, by name.
    Writer,
    /// In the break-glass group.
    BreakGlass,
    /// Anyone else, a cluster administrator included.
    Other,
}

impl Policy {
    /// The policy with the default identities.
    pub fn new(sidecar_image: impl Into<String>) -> Self {
        Self {
            label_writers: vec![format!("system:serviceaccount:{}:provisioner", names::SYSTEM_NAMESPACE)],
            break_glass_group: "agent-ready:break-glass".to_owned(),
            exempt_namespaces: EXEMPT_NAMESPACES.map(str::to_owned).to_vec(),
            sidecar_image: sidecar_image.into(),
            default_mode: Mode::Deny,
            release_account: format!("system:serviceaccount:{}:webhook", names::SYSTEM_NAMESPACE),
            open_beside: OpenBeside::default(),
        }
    }

    /// Divides the defects of a proof by what is done about them.
    pub fn divide(&self, defects: Vec<Defect>) -> Divided {
        let told = |defect: &Defect| self.open_beside == OpenBeside::Report && defect.is_opening();
        let (reported, refused) = defects.into_iter().partition(told);
        Divided { refused, reported }
    }

    /// How this user stands to guarded keys.
    pub fn standing(&self, user: &UserInfo<'_>) -> Standing {
        if self.label_writers.iter().any(|writer| writer == user.username.as_str()) {
            Standing::Writer
        } else if user.groups.iter().any(|group| group.as_str() == self.break_glass_group) {
            Standing::BreakGlass
        } else {
            Standing::Other
        }
    }

    /// Whether the namespace is exempt by its name.
    pub fn exempts(&self, namespace: &str) -> bool {
        self.exempt_namespaces.iter().any(|exempt| exempt == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_and_groups_count() {
        let policy = Policy::new("image");
        let user = |name: &'static str, groups: &[&'static str]| UserInfo {
            username: name.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
        };
        let provisioner = "system:serviceaccount:agent-ready-system:provisioner";
        assert_eq!(policy.standing(&user(provisioner, &[])), Standing::Writer);
        assert_eq!(policy.standing(&user("eve", &["agent-ready:break-glass"])), Standing::BreakGlass);
        assert_eq!(policy.standing(&user("eve", &["system:masters"])), Standing::Other);
        assert_eq!(policy.standing(&user("agent-ready:break-glass", &[provisioner])), Standing::Other);
        assert_eq!(policy.standing(&user("", &[])), Standing::Other);
    }
}
