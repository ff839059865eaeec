//! One JSON line asks, one JSON line answers.

use serde::{Deserialize, Serialize};

use crate::process::{Component, Output, Status};

/// What the supervisor can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start a component that is not running.
    Start(Component),
    /// Start a known component again, as it was.
    Restart(String),
    /// Send SIGTERM, or SIGKILL with `kill`, and wait for the end.
    Stop {
        /// Which component.
        name: String,
        /// SIGKILL instead of SIGTERM.
        kill: bool,
    },
    /// Run to the end and give the output.
    Run(Component),
    /// What runs, and what does not.
    Status,
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// A program's output.
    Output(Output),
    /// All components.
    Status(Vec<Status>),
    /// Why not.
    Failed(String),
}
