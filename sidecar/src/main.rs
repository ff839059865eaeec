//! The config sidecar's program: reads its settings and runs until it is asked to end.

use clap::Parser;
use sidecar::settings::{Command, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(serve) = Settings::parse().command;
    let _telemetry = runtime::telemetry::init("sidecar");
    runtime::crypto::install();
    sidecar::run(*serve, runtime::shutdown::signal()).await
}
