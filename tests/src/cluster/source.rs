//! Where the platform's cluster comes from.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// Names the source to use, instead of the first that is there.
const WISH: &str = "AGENT_READY_CLUSTER";

/// A cluster, in the order in which they are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The cluster of the caller's KUBECONFIG, only when asked for: it may be anyone's.
    Kubeconfig(PathBuf),
    /// A kind cluster of the platform's own, on a container engine.
    Kind,
    /// etcd and kube-apiserver from `KUBEBUILDER_ASSETS`; what is missing there is built.
    Envtest(PathBuf),
    /// Everything built from Go modules.
    Build,
}

/// What is there to choose from.
#[derive(Debug)]
pub struct Surroundings {
    /// What the caller asks for.
    pub wish: Option<String>,
    /// The caller's KUBECONFIG.
    pub kubeconfig: Option<PathBuf>,
    /// The folder of envtest's programs.
    pub assets: Option<PathBuf>,
    /// Why kind cannot be used, if so.
    pub no_kind: Option<String>,
}

impl Surroundings {
    /// Looks around on this machine.
    pub fn look() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            wish: variable(WISH).map(|wish| wish.to_string_lossy().into_owned()),
            kubeconfig: variable("KUBECONFIG").map(PathBuf::from),
            assets: variable("KUBEBUILDER_ASSETS").map(PathBuf::from),
            no_kind: ["docker info", "kind version"].iter().find_map(|words| fails(words)),
        }
    }
}

/// Chooses, and says why.
pub fn choose(around: &Surroundings) -> Result<(Source, String)> {
    let assets = || around.assets.clone().context("KUBEBUILDER_ASSETS is not set");
    match around.wish.as_deref() {
        Some("kubeconfig") => {
            let path = around.kubeconfig.clone().context("KUBECONFIG is not set")?;
            return Ok((Source::Kubeconfig(path), format!("the cluster of KUBECONFIG, as {WISH} asks")));
        }
        Some("kind") => {
            if let Some(why) = &around.no_kind {
                bail!("{WISH}=kind, but {why}")
            }
            return Ok((Source::Kind, format!("kind, as {WISH} asks")));
        }
        Some("envtest") => return Ok((Source::Envtest(assets()?), format!("envtest, as {WISH} asks"))),
        Some("build") => return Ok((Source::Build, format!("built from Go modules, as {WISH} asks"))),
        Some(other) => bail!("{WISH}={other}: must be kubeconfig, kind, envtest or build"),
        None => {}
    }
    let Some(why) = &around.no_kind else {
        return Ok((Source::Kind, "kind, for a container engine answers".to_owned()));
    };
    match assets() {
        Ok(folder) => Ok((Source::Envtest(folder), format!("envtest, for KUBEBUILDER_ASSETS is set; {why}"))),
        Err(_) => Ok((Source::Build, format!("built from Go modules; {why}"))),
    }
}

/// Why a command does not succeed, if so.
fn fails(words: &str) -> Option<String> {
    let mut parts = words.split(' ');
    let output = Command::new(parts.next()?).args(parts).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(_) => Some(format!("`{words}` does not answer")),
        Err(_) => Some(format!("`{words}` is not installed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wish: Option<&str>, kind: bool, assets: bool, expected: Option<&Source>) {
        let around = Surroundings {
            wish: wish.map(str::to_owned),
            kubeconfig: Some("/k".into()),
            assets: assets.then(|| "/a".into()),
            no_kind: (!kind).then(|| "no engine".to_owned()),
        };
        let chosen = choose(&around).ok().map(|(source, _)| source);
        assert_eq!(chosen.as_ref(), expected, "{around:?}");
    }

    #[test]
    fn the_first_that_is_there_is_taken_and_a_kubeconfig_only_on_request() {
        check(None, true, true, Some(&Source::Kind));
        check(None, false, true, Some(&Source::Envtest("/a".into())));
        check(None, false, false, Some(&Source::Build));
        check(Some("kubeconfig"), true, true, Some(&Source::Kubeconfig("/k".into())));
        check(Some("build"), true, true, Some(&Source::Build));
    }

    #[test]
    fn a_wish_that_cannot_be_had_is_an_error_and_nothing_else_is_taken() {
        check(Some("kind"), false, true, None);
        check(Some("envtest"), true, false, None);
        check(Some("minikube"), true, true, None);
    }
}
