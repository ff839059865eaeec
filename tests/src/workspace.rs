//! Where things are in the checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The checkout's root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A program of the workspace, built with the profile the caller was built with.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the own program")?;
    // Test programs are one folder below the others, in `deps`.
    let folders = own.ancestors().skip(1).take(2);
    for candidate in folders.map(|folder| folder.join(name)) {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("program {name} is not built: run `cargo build --workspace` first")
}
