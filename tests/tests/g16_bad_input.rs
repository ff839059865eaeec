//! G16: no bytes make the gate panic or admit what it must not. The fuzz targets' own checks, run without libFuzzer over
//! their seeds and what damage makes of these.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// Between two places that are damaged.
const STEP: usize = 13;
/// What a damaged byte becomes.
const DAMAGE: [u8; 6] = [0, b'"', b'{', b']', b'\\', 0xff];

fn seeds(kind: &str) -> Result<Vec<Vec<u8>>> {
    let folder: PathBuf = tests::workspace::root().join("tests/fuzz/seeds").join(kind);
    let seeds: Vec<Vec<u8>> =
        fs::read_dir(folder)?.map(|seed| Ok(fs::read(seed?.path())?)).collect::<Result<_>>()?;
    ensure!(seeds.len() >= 30, "the seeds of {kind} are gone");
    Ok(seeds)
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

fn stands(kind: &str, check: fn(&[u8])) -> Result<()> {
    let mut inputs = 0;
    for seed in seeds(kind)? {
        for input in damaged(&seed) {
            let checked = std::panic::catch_unwind(|| check(&input));
            ensure!(checked.is_ok(), "fails for {:?}", String::from_utf8_lossy(&input));
            inputs += 1;
        }
    }
    ensure!(inputs > 5_000, "only {inputs} inputs");
    Ok(())
}

#[test]
fn the_review_decoder_stands_damage() -> Result<()> {
    stands("reviews", fuzz::review)
}

#[test]
fn the_whole_decision_stands_damage() -> Result<()> {
    stands("reviews", fuzz::decision)
}
