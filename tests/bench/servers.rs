//! The servers that wrk loads, each a process of its own: this program with another argument.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use contract::names;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio_util::sync::CancellationToken;
use webhook::admission::gate::{Missing, Namespace, NamespaceState};
use webhook::admission::policy::Policy;
use webhook::facts::{Facts, NamespaceKeys};
use webhook::readiness::Readiness;
use webhook::serve::{
    decide::Decider,
    handlers::App,
    metrics::{self, Metrics},
    server, tls,
};

use crate::process::{Process, free_port, wait_for_port};

/// A server that runs until this value is dropped.
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where it answers.
    pub address: SocketAddr,
}

/// Starts this program as `kind` (`echo`, `gate` or `gate-ready`) with the certificate in `folder`.
pub fn start(kind: &str, folder: &Path) -> Result<Server> {
    let address = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", kind, &address.to_string()]).arg(folder);
    let process = Process::start(&mut command, &folder.join(format!("{kind}.log")))?;
    wait_for_port(address)?;
    Ok(Server { process, address })
}

/// The other side of [`start`].
pub fn run(kind: &str, address: SocketAddr, folder: &Path) -> Result<()> {
    runtime::crypto::install();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    let config = tls::server_config(&read("bench.crt")?, &read("bench.key")?)?;
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        if kind == "echo" {
            let answer = "x".repeat(160);
            let routes = Router::new().route("/validate", post(async move |_: Bytes| answer.clone()));
            let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(config))?;
            server.serve(routes.into_make_service()).await?;
        } else {
            let state = if kind == "gate" { InHand::unready() } else { InHand::ready() };
            let decider = Decider::new(Policy::new("image"), Arc::new(state));
            let mut registry = metrics::registry();
            let reviews = Metrics::register(&mut registry);
            let (app, certificate) = (
                App::new(decider, reviews, registry, Readiness::default()),
                server::Certificate::new(config),
            );
            server::serve(listener, certificate, app, CancellationToken::new()).await?;
        }
        Ok(())
    })
}

/// The namespace's state in hand: what the decision costs without its live read.
struct InHand(Arc<NamespaceState>);

impl InHand {
    /// A fresh namespace without policies: a refusal that says so.
    fn unready() -> Self {
        let parts =
            ["no NetworkPolicy denies ingress to all pods", "no NetworkPolicy denies egress from all pods"];
        let missing = Missing::Parts(parts.map(str::to_owned).to_vec());
        Self(Arc::new(NamespaceState::Found(Namespace { missing, ..Namespace::default() })))
    }

    /// A namespace that is ready by now: the shortest answer, as long as the floor's.
    fn ready() -> Self {
        let labels = [(names::GATE_LABEL.to_owned(), names::GATE_OPEN.to_owned())].into();
        Self(Arc::new(NamespaceState::Found(Namespace { labels, ..Namespace::default() })))
    }
}

impl Facts for InHand {
    fn namespace(&self, _: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        ready(Arc::clone(&self.0)).boxed()
    }

    fn proof(
        &self,
        _: &str,
        _: NamespaceKeys,
    ) -> BoxFuture<'_, Result<Vec<contract::proof::Defect>, String>> {
        ready(Ok(Vec::new())).boxed()
    }
}
