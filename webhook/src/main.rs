//! The webhook's program: reads the settings and runs the command.

use std::process::ExitCode;

use clap::Parser as _;
use webhook::{run, settings::Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _telemetry = runtime::telemetry::init_with_traces("webhook");
    runtime::crypto::install();
    match run::run(cli) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the webhook ends");
            ExitCode::FAILURE
        }
    }
}
