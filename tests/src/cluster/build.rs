//! etcd and Kubernetes in one program, built from Go modules once per user and version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// The programs it is, by the name it is called by.
pub const APPLETS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// What the build is made of; any change makes another build.
const SOURCES: [&str; 3] = ["main.go", "go.mod", "go.sum"];

/// The folder of builds, shared by all checkouts of this user.
pub fn cache_folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor a home folder")?.join("agent-ready-k8s"))
}

/// The program, built if no build of these sources is cached. `say` tells what takes long.
pub fn controlplane(say: &dyn Fn(&str)) -> Result<PathBuf> {
    let source = crate::workspace::root().join("tests/controlplane");
    let flags = linker_flags(&fs::read_to_string(source.join("go.mod")).context("read go.mod")?)?;
    let folder = cache_folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let program = folder.join(format!("controlplane-{}", digest(&source, &flags)?));
    if program.exists() {
        return Ok(program);
    }
    let lock = File::create(folder.join("lock")).context("open the cache's lock")?;
    lock.lock().context("wait for another checkout's build")?;
    if !program.exists() {
        say("building etcd and Kubernetes from Go modules, once per version (5 to 10 minutes)");
        build(&source, &flags, &folder, &program)?;
    }
    Ok(program)
}

/// Makes the folder of names by which the program is its applets; those that `assets` has are taken from there, and
/// told.
pub fn link_applets(program: &Path, assets: Option<&Path>, folder: &Path) -> Result<Vec<&'static str>> {
    fs::create_dir_all(folder)?;
    let mut from_assets = Vec::new();
    for applet in APPLETS {
        let asset = assets.map(|assets| assets.join(applet)).filter(|asset| asset.is_file());
        if asset.is_some() {
            from_assets.push(applet);
        }
        let (target, link) = (asset.unwrap_or_else(|| program.to_owned()), folder.join(applet));
        std::os::unix::fs::symlink(target, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(from_assets)
}

fn build(source: &Path, flags: &str, folder: &Path, program: &Path) -> Result<()> {
    // In the cache's folder, so that the rename is atomic; gone with the value if the build fails.
    let partial = tempfile::Builder::new().prefix("partial-").tempdir_in(folder)?;
    let output = partial.path().join("controlplane");
    let status = Command::new("go")
        .args(["build", "-trimpath", "-mod=readonly", "-ldflags", flags, "-o"])
        .arg(&output)
        .arg(".")
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .status()
        .context("run go (is Go installed?)")?;
    if !status.success() {
        bail!("go build of tests/controlplane failed")
    }
    fs::rename(&output, program).context("move the build into the cache")
}

/// Stamps the version of Kubernetes that go.mod asks for.
fn linker_flags(go_mod: &str) -> Result<String> {
    let version = go_mod.lines().find_map(|line| {
        line.trim().trim_start_matches("require ").trim_start().strip_prefix("k8s.io/kubernetes ")
    });
    let version = version.context("go.mod names no version of k8s.io/kubernetes")?.trim();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    Ok(format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    ))
}

fn digest(source: &Path, flags: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for name in SOURCES {
        let content = fs::read(source.join(name)).with_context(|| format!("read {name}"))?;
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(&content);
    }
    hash.update(flags);
    Ok(hash.finalize().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_go_mod() {
        let flags = linker_flags("module x\n\nrequire k8s.io/kubernetes v1.36.3\n").unwrap();
        assert!(flags.contains("gitVersion=v1.36.3") && flags.contains("gitMinor=36"), "{flags}");
        assert!(linker_flags("module x").is_err());
    }
}
