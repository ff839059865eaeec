//! The decisions, apart from all I/O: a review and the facts it needs go in, a verdict comes out.
//!
//! Nothing here knows a Kubernetes client, a runtime or a web server; a test keeps it so.

pub mod gate;
pub mod inject;
pub mod label_guard;
pub mod metadata;
pub mod policy;
pub mod refusal;
pub mod review;
pub mod sidecar;
pub mod text;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Crates and modules through which a decision could reach the world, the clock or another thread.
    const IMPURE: [&str; 11] = [
        "tokio",
        "kube::",
        "axum",
        "hyper",
        "reqwest",
        "std::fs",
        "std::net",
        "std::time",
        "std::env",
        "crate::cluster",
        "crate::serve",
    ];

    #[test]
    fn decisions_know_no_io() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admission");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.extension().is_none_or(|kind| kind != "rs") || name == "mod.rs" {
                continue;
            }
            files += 1;
            let source = std::fs::read_to_string(&path).unwrap();
            for word in IMPURE {
                assert!(!source.contains(word), "{name} mentions {word}");
            }
        }
        assert!(files > 8, "the modules have moved: {files}");
    }
}
