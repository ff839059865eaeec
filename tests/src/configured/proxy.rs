//! A TCP proxy that can hold everything back without closing anything, as a network that drops packets does.

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy on 127.0.0.1; ends, with its connections, with the value.
pub struct Proxy {
    /// Where it listens. The servers' certificates name 127.0.0.1 too.
    pub address: String,
    stalled: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts to pass on to `target`.
    pub async fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind the proxy")?;
        let address = listener.local_addr()?.to_string();
        let (stalled, watching) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, target.to_owned(), watching));
        Ok(Self { address, stalled, accepting })
    }

    /// Holds back every byte, of new connections too.
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// Passes on again, what was held back included.
    pub fn flow(&self) {
        self.stalled.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, stalled: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        // A connection that fails is closed, as the server would.
        tokio::spawn(pass(client, target.clone(), stalled.clone()));
    }
}

async fn pass(client: TcpStream, target: String, mut stalled: watch::Receiver<bool>) -> Result<()> {
    stalled.wait_for(|stalled| !stalled).await?;
    let server = TcpStream::connect(target).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        result = copy(from_client, to_server, stalled.clone()) => result,
        result = copy(from_server, to_client, stalled) => result,
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut stalled: watch::Receiver<bool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        stalled.wait_for(|stalled| !stalled).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
