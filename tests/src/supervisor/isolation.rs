//! The inside of a platform's mount namespace, furnished by its first process.
//!
//! What the programs would leave in the machine's folders (`/run`, `/var/lib`, `/var/log`) lands in folders of the
//! platform; what the kubelet would set in the machine's kernel (`/proc/sys`) lands in plain files.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};

/// The state folder as the programs see it: short, and open to users who may not enter the folders above it.
pub const INSIDE: &str = "/run/agent-ready";

/// Kernel settings of the whole machine that the kubelet would change.
const TUNABLES: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Mounts everything; `state` and `keep` stay visible.
pub fn furnish(state: &Path, keep: &[PathBuf]) -> Result<()> {
    let mut kept = Vec::new();
    for folder in keep.iter().map(PathBuf::as_path).chain([state]) {
        kept.push((folder, handle(folder)?));
    }
    let private = state.join("host");
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    mount(Some("none"), "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the mounts private")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("mount a private /run")?;
    for folder in ["var/lib", "var/log"] {
        let source = private.join(folder);
        fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
        bind(&source, &Path::new("/").join(folder))?;
    }
    for (folder, handle) in &kept {
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            bind(&by_handle(handle), folder)?;
        }
    }
    fs::create_dir_all(INSIDE)?;
    bind(&by_handle(&kept[kept.len() - 1].1), Path::new(INSIDE))?;
    for folder in ["/run/netns", "/run/tmp", "/run/lock"] {
        fs::create_dir_all(folder)?;
    }
    fs::write("/run/resolv.conf", resolv)?;
    shield_tunables()
}

fn handle(folder: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(folder);
    options.with_context(|| format!("open {}", folder.display()))
}

fn by_handle(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("bind {} on {}", source.display(), target.display()))
}

/// Lets the kubelet write its settings to files that nobody reads.
fn shield_tunables() -> Result<()> {
    let folder = Path::new("/run/sysctl");
    for name in TUNABLES {
        let target = Path::new("/proc/sys").join(name);
        let Ok(value) = fs::read_to_string(&target) else { continue };
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(&file, value)?;
        bind(&file, &target)?;
    }
    Ok(())
}
