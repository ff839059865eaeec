//! Starts, shows and stops the local platform.
fn main() -> anyhow::Result<()> {
    Ok(())
}
