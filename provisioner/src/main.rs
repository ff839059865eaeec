//! The `provisioner` program: see `provisioner --help`.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::crypto::install();
    let _telemetry = runtime::telemetry::init("provisioner");
    provisioner::run(provisioner::settings::Cli::parse()).await
}
