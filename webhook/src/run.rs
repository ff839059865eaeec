//! Starts the parts of a command, and ends them.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use kube::Client;
use runtime::{backoff::Backoff, shutdown};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        certificates::Store,
        configurations::Registration,
        live::Live,
        material::Material,
        registration,
        shared::Shared,
        store::{self, Stores},
    },
    jitter::jitter,
    manifests, offline,
    serve::{
        decide::Decider,
        handlers::App,
        metrics::{self, Metrics},
        server::{self, Certificate},
        tls,
    },
    settings::{Cli, Command, Serve},
};

/// Runs the command.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => serve(*settings).await.map(|()| ExitCode::SUCCESS),
            Command::Manifests(settings) => manifests::print(&settings).map(|()| ExitCode::SUCCESS),
            Command::Review(settings) => offline::review(&settings).await,
        }
    })
}

async fn serve(settings: Serve) -> anyhow::Result<()> {
    let stop = shutdown::signal();
    let client = Client::try_default().await.context("no way to the API server")?;
    let registration = settings.registration.registration(&settings.namespace, &settings.policy);
    let policy = settings.policy.policy(registration.exempt.clone());
    let decider = Decider::new(policy, Arc::new(Shared::new(Live::new(client.clone()))));
    let mut registry = metrics::registry();
    let reviews = Metrics::register(&mut registry);
    let stores = Stores::default();
    store::register(&stores, &mut registry);
    let app = App::new(decider, reviews, registry);

    let plain = TcpListener::bind(settings.plain_listen).await.context("plain listener")?;
    let plain = tokio::spawn(server::serve_plain(plain, app.clone(), stop.clone()));

    let names = registration.target.server_names();
    let secret = Store::new(client.clone(), &settings.namespace, &settings.cert_secret, names);
    let Some(material) = certificates(&secret, &stop).await else { return Ok(()) };
    let certificate = Certificate::new(tls::server_config(&material.certificate, &material.key)?);
    app.metrics().certificate_ends(material.ends_at());
    let listener = std::net::TcpListener::bind(settings.listen).context("HTTPS listener")?;
    let address = listener.local_addr()?;
    let ending = CancellationToken::new();
    let https = tokio::spawn(server::serve(listener, certificate.clone(), app.clone(), ending.clone()));

    let (sender, receiver) = watch::channel(material);
    let parts = [
        tokio::spawn(secret.follow(sender)),
        tokio::spawn(stores.clone().follow(client.clone())),
        tokio::spawn(register(client, registration, receiver, certificate, app.clone(), loopback(address))),
    ];
    stop.cancelled().await;
    // Not ready first: the endpoint must be gone from the Service before connections are refused.
    app.set_ready(false);
    tokio::time::sleep(settings.drain_delay()).await;
    ending.cancel();
    https.await??;
    plain.await??;
    for part in parts {
        part.abort();
    }
    Ok(())
}

/// The first certificates; waits for the API server as long as it takes.
async fn certificates(store: &Store, stop: &CancellationToken) -> Option<Material> {
    let mut backoff = Backoff::default();
    loop {
        match store.ensure().await {
            Ok(material) => return Some(material),
            Err(error) => tracing::warn!(%error, "no certificates yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(backoff.next(jitter())) => {}
        }
    }
}

/// Serves each new certificate, and registers with its authority once the own listener has passed the test.
async fn register(
    client: Client,
    mut registration: Registration,
    mut current: watch::Receiver<Material>,
    certificate: Certificate,
    app: App,
    address: SocketAddr,
) {
    let mut backoff = Backoff::default();
    loop {
        let material = current.borrow_and_update().clone();
        match register_once(&client, &mut registration, &material, &certificate, address).await {
            Ok(()) => {
                backoff.reset();
                app.metrics().certificate_ends(material.ends_at());
                app.set_ready(true);
                tracing::info!(address = ?registration.target, "registered");
                if current.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "not registered");
                tokio::time::sleep(backoff.next(jitter())).await;
            }
        }
    }
}

async fn register_once(
    client: &Client,
    registration: &mut Registration,
    material: &Material,
    certificate: &Certificate,
    address: SocketAddr,
) -> anyhow::Result<()> {
    certificate.replace(tls::server_config(&material.certificate, &material.key)?);
    let name = registration.target.server_names().into_iter().next().context("no server name")?;
    tls::self_test(address, &name, &material.ca).await.context("the own listener failed the test")?;
    registration.ca_bundle = Some(material.ca.clone());
    registration::apply(client, registration).await.context("writing the webhook configurations")
}

/// Where the own listener answers from inside.
fn loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
