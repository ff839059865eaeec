//! What a component of the platform is: a program, how it is started and how one knows that it serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program the supervisor runs, or runs once to its end.
///
/// Paths are those the program sees: see [`crate::host::Host::inside`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Unique in its platform; names the log file `log/<name>.log`.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the supervisor's environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; the state folder when absent.
    pub cwd: Option<PathBuf>,
    /// The user to run as, without supplementary groups; ignored unless the platform runs as root.
    pub user: Option<String>,
    /// Written to the standard input, which is closed after it.
    pub input: Option<String>,
}

impl Component {
    /// A component `name` that runs `argv`.
    pub fn new<I>(name: &str, argv: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self {
            name: name.to_owned(),
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: None,
            user: None,
            input: None,
        }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Runs as `user` where the platform is root.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Sets the working directory, as the program sees it.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets what the program reads on its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = Some(input.into());
        self
    }
}

/// How one knows that a component serves.
#[derive(Clone, Debug)]
pub enum Ready {
    /// It runs; nothing more is asked.
    Started,
    /// It accepts TCP connections here (as seen from the host).
    Tcp(SocketAddr),
    /// This URL answers 200; the server's certificate is not checked.
    Http(String),
    /// This file or socket exists (as seen from the host).
    Exists(PathBuf),
}

/// What a program that ran to its end left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The exit code; 128 and more for a signal, as shells do.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// The standard output, or an error with both streams unless the exit code is 0.
    pub fn success(self) -> anyhow::Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        anyhow::bail!("exit code {}: {}{}", self.code, self.stdout, self.stderr)
    }
}

/// Where a component is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It runs.
    Running,
    /// It ended because it was told to.
    Stopped,
    /// It ended by itself: how, and its last log lines.
    Crashed {
        /// Exit code or signal, in words.
        how: String,
        /// The end of its log.
        log: String,
    },
}

/// A component as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The component's name.
    pub name: String,
    /// Its process id inside the platform's own process namespace (the host's without root).
    pub pid: i32,
    /// Where it is in its life.
    pub phase: Phase,
}
