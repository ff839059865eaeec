//! Container images made from single static programs, without a container engine.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cluster::{external, node};
use crate::host::Host;

/// A program as an image.
pub struct Image<'a> {
    /// The full name, with its tag.
    pub name: &'a str,
    /// The program's file name, and its path in the image.
    pub program: &'a str,
    /// The command when a pod says nothing.
    pub entrypoint: &'a [&'a str],
}

/// Everything the node runs. Nothing is ever pulled.
pub const IMAGES: [Image; 5] = [
    Image { name: node::PAUSE_IMAGE, program: "probe", entrypoint: &["/probe", "pause"] },
    Image { name: "localhost/agent-ready/probe:local", program: "probe", entrypoint: &["/probe"] },
    Image { name: "localhost/agent-ready/webhook:local", program: "webhook", entrypoint: &["/webhook"] },
    Image {
        name: "localhost/agent-ready/provisioner:local",
        program: "provisioner",
        entrypoint: &["/provisioner"],
    },
    Image { name: "localhost/agent-ready/sidecar:local", program: "sidecar", entrypoint: &["/sidecar"] },
];

/// What was imported last of a program's image; empty if nothing was.
pub fn imported(host: &Host, program: &str) -> String {
    fs::read_to_string(host.state().join(format!("images/{program}-local.sha256"))).unwrap_or_default()
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Puts an image on the node, or on those of a `kind` cluster, unless this very one is there; tells whether it did.
pub async fn import(host: &Host, kind: Option<&str>, image: &Image<'_>) -> Result<bool> {
    let binary = crate::workspace::binary(image.program)?;
    let folder = host.state().join("images");
    fs::create_dir_all(&folder)?;
    let file_name = image.name.rsplit('/').next().unwrap_or(image.name).replace(':', "-");
    let (stamp, archive) =
        (folder.join(format!("{file_name}.sha256")), folder.join(format!("{file_name}.tar")));
    let digest = digest(&binary)?;
    if fs::read_to_string(&stamp).is_ok_and(|known| known == digest) {
        return Ok(false);
    }
    write_archive(image, &stripped(&binary, &folder), &archive)?;
    match kind {
        Some(cluster) => external::load(cluster, &archive).await?,
        None => {
            node::ctr(host, &["images", "import", &host.inside(&archive).to_string_lossy()]).await?;
        }
    }
    fs::remove_file(&archive)?;
    fs::write(&stamp, &digest)?;
    Ok(true)
}

/// A docker-archive with one layer that holds the program and nothing else; equal for equal programs.
fn write_archive(image: &Image, program: &Path, archive: &Path) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, image.program, 0o755, &fs::read(program)?)?;
    let layer = layer.into_inner().context("build the layer")?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": image.entrypoint },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex_digest(&layer))] },
    })
    .to_string();
    let config_name = format!("{}.json", hex_digest(config.as_bytes()));
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [image.name], "Layers": ["layer.tar"] }]).to_string();
    let mut outer = tar::Builder::new(File::create(archive)?);
    append(&mut outer, &config_name, 0o644, config.as_bytes())?;
    append(&mut outer, "layer.tar", 0o644, &layer)?;
    append(&mut outer, "manifest.json", 0o644, manifest.as_bytes())?;
    outer.into_inner().context("write the image")?;
    Ok(())
}

fn append<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, content).with_context(|| format!("add {name}"))
}

/// The program without its debugging data where `strip` is there: images a tenth the size.
fn stripped(binary: &Path, folder: &Path) -> PathBuf {
    let output = folder.join("stripped");
    match Command::new("strip").arg("-o").arg(&output).arg(binary).status() {
        Ok(status) if status.success() => output,
        _ => binary.to_owned(),
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_makes_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("p");
        fs::write(&program, b"program").unwrap();
        let make = |name: &str| {
            let archive = folder.path().join(name);
            write_archive(&IMAGES[1], &program, &archive).unwrap();
            fs::read(archive).unwrap()
        };
        assert_eq!(make("a.tar"), make("b.tar"));
    }
}
