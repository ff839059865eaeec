//! Starts, shows and stops the local platform.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match tests::cli::run(tests::cli::Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("platform: {error:#}");
            ExitCode::FAILURE
        }
    }
}
