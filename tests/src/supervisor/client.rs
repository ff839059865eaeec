//! Asking a supervisor.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Reply, Request};
use super::short_path;
use crate::process::{Component, Output, Status};

/// A supervisor by its state folder.
#[derive(Clone, Debug)]
pub struct Supervisor {
    state: PathBuf,
}

impl Supervisor {
    /// The supervisor of a state folder, whether it runs or not.
    pub fn of(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// The supervisor's process id in the caller's process namespace, or why it does not answer.
    pub async fn pid(&self) -> Result<i32> {
        self.connect().await?.peer_cred()?.pid().context("the supervisor's process id is not visible")
    }

    /// Starts a component.
    pub async fn start(&self, component: Component) -> Result<()> {
        self.done(Request::Start(component)).await
    }

    /// Starts a component again, as it was.
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.done(Request::Restart(name.to_owned())).await
    }

    /// Ends a component with SIGTERM, or SIGKILL with `kill`, and waits for its end.
    pub async fn stop(&self, name: &str, kill: bool) -> Result<()> {
        self.done(Request::Stop { name: name.to_owned(), kill }).await
    }

    /// Runs a program to its end, inside.
    pub async fn run(&self, component: Component) -> Result<Output> {
        match self.ask(&Request::Run(component)).await? {
            Reply::Output(output) => Ok(output),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// All components.
    pub async fn status(&self) -> Result<Vec<Status>> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(status),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    async fn done(&self, request: Request) -> Result<()> {
        self.ask(&request).await.map(drop)
    }

    async fn ask(&self, request: &Request) -> Result<Reply> {
        let mut stream = self.connect().await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await.context("ask the supervisor")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.context("read the supervisor's answer")?;
        match serde_json::from_str(&answer).context("the supervisor ended")? {
            Reply::Failed(why) => bail!(why),
            reply => Ok(reply),
        }
    }

    async fn connect(&self) -> Result<UnixStream> {
        let folder = File::open(&self.state).context("open the state folder")?;
        UnixStream::connect(short_path(&folder)).await.context("the supervisor does not run")
    }
}
