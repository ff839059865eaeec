//! The `platform` program.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Parser;

use crate::platform::{Platform, Purpose};
use crate::process::Phase;
use crate::supervisor::daemon;
use crate::{demo, environment};

/// The local platform of real components.
#[derive(Debug, Parser)]
#[command(name = "platform")]
pub enum Command {
    /// Start it, or bring a running one up to date.
    Up {
        /// The state folder.
        #[arg(long)]
        state: PathBuf,
        /// Only Kubernetes and the data services, without our programs.
        #[arg(long)]
        bare: bool,
        /// What it is for.
        #[arg(long, value_enum, default_value_t = Purpose::Demonstration)]
        purpose: Purpose,
    },
    /// End it and remove what it made on this machine.
    Down {
        /// The state folder.
        #[arg(long)]
        state: PathBuf,
    },
    /// Show the main job on a running platform, and write a file of shell variables.
    Demo {
        /// The state folder.
        #[arg(long)]
        state: PathBuf,
        /// The file of shell variables.
        #[arg(long)]
        env_file: PathBuf,
    },
    /// Show its components; fails if one has crashed.
    Status {
        /// The state folder.
        #[arg(long)]
        state: PathBuf,
    },
    /// The process that owns the components (started by `up`).
    #[command(hide = true)]
    Supervise(daemon::Options),
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    // The supervisor has threads of its own and forks: it stays outside the runtime.
    if let Command::Supervise(options) = &command {
        return daemon::run(options);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(execute(command))
}

async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Up { state, bare: true, purpose } => Platform::bare(&state, purpose, &say).await.map(drop),
        Command::Up { state, bare: false, purpose } => Platform::up(&state, purpose, &say).await.map(drop),
        Command::Down { state } => Platform::down(&state).await,
        Command::Demo { state, env_file } => demonstrate(&Platform::attach(&state).await?, &env_file).await,
        Command::Status { state } => status(Platform::attach(&state).await?).await,
        Command::Supervise(_) => Ok(()),
    }
}

async fn demonstrate(platform: &Platform, env_file: &Path) -> Result<()> {
    // Useful even when the demonstration fails.
    environment::write(env_file, platform, None)?;
    let owner = demo::run(platform).await?;
    environment::write(env_file, platform, Some(&owner))?;
    demo::farewell(platform, &owner);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command line tool's answer")]
async fn status(platform: Platform) -> Result<()> {
    for status in platform.status().await? {
        let phase = match &status.phase {
            Phase::Running => "running".to_owned(),
            Phase::Stopped => "stopped".to_owned(),
            Phase::Crashed { how, .. } => format!("crashed: {how}"),
        };
        println!("{:<26} {phase}", status.name);
    }
    let crashed = platform.crashed().await?;
    if crashed.is_empty() { Ok(()) } else { bail!(crashed.join("\n")) }
}

/// Progress goes to standard error, so that standard output is the answer alone.
pub fn say(line: &str) {
    eprintln!("{line}");
}
