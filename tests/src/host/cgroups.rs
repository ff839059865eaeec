//! The platform's own cgroup, above those of its pods: two kubelets under one would end each other's pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Identity;

/// Makes it in every hierarchy.
pub fn make(identity: &Identity) -> Result<()> {
    for root in hierarchies() {
        let cgroup = root.join(identity.cgroup());
        fs::create_dir_all(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
        if root.join("cgroup.controllers").exists() {
            for folder in [&root, &cgroup] {
                // Not every controller is there on every machine, and systemd may have turned them on already.
                for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                    let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(root.join(file)) {
                // Version 1: a cpuset without processors takes no process.
                fs::write(cgroup.join(file), value).with_context(|| format!("set {file}"))?;
            }
        }
    }
    Ok(())
}

/// Where it is.
pub fn existing(identity: &Identity) -> Vec<PathBuf> {
    let paths = hierarchies().into_iter().map(|root| root.join(identity.cgroup()));
    paths.filter(|path| path.exists()).collect()
}

/// Removes it everywhere, as soon as the kernel has taken its last process out.
pub async fn remove(identity: &Identity, deadline: Instant) -> Result<()> {
    for root in hierarchies() {
        let cgroup = root.join(identity.cgroup());
        while let Err(error) = remove_tree(&cgroup) {
            if Instant::now() > deadline {
                return Err(error).with_context(|| format!("remove {}", cgroup.display()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The roots of all cgroup hierarchies: `/sys/fs/cgroup` itself (version 2), or its folders (version 1).
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let folders = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    // Links are second names of joint hierarchies (cpu, cpuacct).
    folders.filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

/// Removes a cgroup and those below it; their files go with them.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
