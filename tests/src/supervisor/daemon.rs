//! The supervisor's process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::protocol::{Reply, Request};
use super::table::Table;
use super::{SOCKET, isolation, record, short_path};

/// How the supervisor is started.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The state folder.
    #[arg(long)]
    state: PathBuf,
    /// It is the first process of namespaces of its own, to be furnished.
    #[arg(long)]
    isolated: bool,
    /// Folders that stay visible although a private one is mounted over a folder above them.
    #[arg(long)]
    keep: Vec<PathBuf>,
}

/// Serves the control socket; returns only on an error.
pub fn run(options: &Options) -> Result<()> {
    let mut state = options.state.clone();
    if options.isolated {
        isolation::furnish(&state, &options.keep)?;
        std::fs::write(state.join(record::INSIDE), "")?;
        state = PathBuf::from(isolation::INSIDE);
    } else {
        nix::sys::prctl::set_child_subreaper(true).context("become the reaper of orphans")?;
    }
    let folder = File::open(&state).context("open the state folder")?;
    // A socket left by a dead supervisor; the caller holds the folder's lock.
    let _ = std::fs::remove_file(state.join(SOCKET));
    let listener = UnixListener::bind(short_path(&folder)).context("bind the control socket")?;
    let table = Arc::new(Table::new(state));
    let reaped = Arc::clone(&table);
    std::thread::spawn(move || reaped.reap());
    for stream in listener.incoming() {
        let table = Arc::clone(&table);
        let stream = stream.context("accept on the control socket")?;
        std::thread::spawn(move || serve(&table, &stream));
    }
    Ok(())
}

fn serve(table: &Table, stream: &UnixStream) {
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line).is_err() {
        return;
    }
    let reply = match serde_json::from_str(&line) {
        Ok(request) => answer(table, request).unwrap_or_else(|error| Reply::Failed(format!("{error:#}"))),
        Err(error) => Reply::Failed(error.to_string()),
    };
    if let Ok(text) = serde_json::to_string(&reply) {
        let mut stream = stream;
        // A caller that went away does not want the answer.
        let _ = writeln!(stream, "{text}");
    }
}

fn answer(table: &Table, request: Request) -> Result<Reply> {
    match request {
        Request::Start(component) => table.start(component)?,
        Request::Restart(name) => table.restart(&name)?,
        Request::Stop { name, kill } => table.stop(&name, kill)?,
        Request::Run(component) => return Ok(Reply::Output(table.run(&component)?)),
        Request::Status => return Ok(Reply::Status(table.status())),
    }
    Ok(Reply::Done)
}
