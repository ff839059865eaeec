//! G16: no bytes make the gate panic or admit what it must not. The fuzz targets' own checks, run without libFuzzer over
//! their seeds, what damage makes of these, and what fuzzing found worth keeping.

#![allow(clippy::print_stdout, reason = "counts are shown")]

use std::{fs, io::Read as _, path::PathBuf};

use anyhow::{Result, ensure};

#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "targets fail by panicking, and call what is faster"
)]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// Between two places that are damaged.
const STEP: usize = 13;
/// What a damaged byte becomes.
const DAMAGE: [u8; 6] = [0, b'"', b'{', b']', b'\\', 0xff];

fn seeds(kind: &str) -> Result<Vec<Vec<u8>>> {
    let folder = fuzz_folder().join("seeds").join(kind);
    let seeds: Vec<Vec<u8>> =
        fs::read_dir(folder)?.map(|seed| Ok(fs::read(seed?.path())?)).collect::<Result<_>>()?;
    ensure!(seeds.len() >= 30, "the seeds of {kind} are gone");
    Ok(seeds)
}

fn kept(target: &str) -> Result<Vec<Vec<u8>>> {
    let mut archive = tar::Archive::new(fs::File::open(fuzz_folder().join(format!("corpus/{target}.tar")))?);
    let mut inputs = Vec::new();
    for entry in archive.entries()? {
        let mut input = Vec::new();
        entry?.read_to_end(&mut input)?;
        inputs.push(input);
    }
    ensure!(inputs.len() >= 500, "what fuzzing of {target} found is gone");
    Ok(inputs)
}

fn fuzz_folder() -> PathBuf {
    tests::workspace::root().join("tests/fuzz")
}

/// The seed, cut at many places, and with a byte changed at many.
fn damaged(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cut = (0..=seed.len()).step_by(STEP).map(|end| seed[..end].to_vec());
    let changed = (0..seed.len()).step_by(STEP).flat_map(move |place| {
        DAMAGE.map(|byte| {
            let mut copy = seed.to_vec();
            copy[place] = byte;
            copy
        })
    });
    std::iter::once(seed.to_vec()).chain(cut).chain(changed)
}

fn stands(kind: &str, target: &str, check: fn(&[u8])) -> Result<()> {
    let (seeds, kept) = (seeds(kind)?, kept(target)?);
    let (mut count, found) = (0, kept.len());
    for input in seeds.iter().flat_map(|seed| damaged(seed)).chain(kept) {
        let checked = std::panic::catch_unwind(|| check(&input));
        ensure!(checked.is_ok(), "fails for {:?}", String::from_utf8_lossy(&input));
        count += 1;
    }
    ensure!(count - found > 5_000, "only {count} inputs, {found} of them found by fuzzing");
    println!("{target}: {count} inputs");
    Ok(())
}

#[test]
fn the_review_decoder_stands_damage() -> Result<()> {
    stands("reviews", "review", fuzz::review)
}

#[test]
fn the_whole_decision_stands_damage() -> Result<()> {
    stands("reviews", "decision", fuzz::decision)
}

#[test]
fn the_offline_reader_stands_damage() -> Result<()> {
    stands("manifests", "offline", fuzz::offline)
}
