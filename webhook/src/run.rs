//! Starts the parts of a command, and ends them.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use kube::Client;
use runtime::{backoff::Backoff, shutdown};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        auditor::{self, Auditor},
        certificates::Store,
        keeper::{self, Keeper},
        live::Live,
        material::Material,
        registration::Registrar,
        release::{self, Release},
        shared::Shared,
        store::{self, Stores},
    },
    jitter::jitter,
    manifests, offline,
    readiness::Readiness,
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
            Command::Review(settings) => Ok(offline::review(&settings).await),
            Command::Audit(settings) => Ok(auditor::command::audit(&settings).await),
        }
    })
}

async fn serve(settings: Serve) -> anyhow::Result<()> {
    let stop = shutdown::signal();
    let drain_delay = settings.drain_delay();
    let client = Client::try_default().await.context("no way to the API server")?;
    let registration = settings.registration.registration(&settings.namespace, &settings.policy);
    let policy = settings.policy.policy(registration.exempt.clone());
    let live = Live::new(client.clone(), policy.clone());
    let decider = Decider::new(policy.clone(), Arc::new(Shared::new(live.clone())));
    let mut registry = metrics::registry();
    let reviews = Metrics::register(&mut registry);
    let stores = Stores::default();
    store::register(&stores, &mut registry);
    let held = release::Metrics::register(&stores.pods, &mut registry);
    let release = Release::new(client.clone(), decider.policy(), stores.clone(), held);
    let keeping = keeper::Metrics::register(&mut registry);
    let readiness = Readiness::default();
    let part = readiness.part("certificates and registration", keeper::AGE_MAX);
    let watched = stores.clone();
    readiness.check("watches", move || watched.usable());
    let audit = auditor::metrics::Metrics::register(&mut registry);
    let auditor =
        Auditor::new(client.clone(), live, stores.clone(), Arc::new(policy), registration.clone(), audit);
    let app = App::new(decider, reviews, registry, readiness.clone());

    let ending = CancellationToken::new();
    let plain = TcpListener::bind(settings.plain_listen).await.context("plain listener")?;
    let plain = tokio::spawn(server::serve_plain(plain, app.clone(), ending.clone()));

    let names = registration.target.server_names();
    let server_name = names.first().context("the webhook's URL has no host")?.clone();
    let secret = settings.certificates.store(client.clone(), &settings.namespace, names);
    let Some(material) = certificates(&secret, &stop).await else { return Ok(()) };
    let certificate = Certificate::new(tls::server_config(&material.certificate, &material.key)?);
    let listener = std::net::TcpListener::bind(settings.listen).context("HTTPS listener")?;
    let address = loopback(listener.local_addr()?);
    let https = tokio::spawn(server::serve(listener, certificate.clone(), app.clone(), ending.clone()));

    let installation = settings.installation.installation(&settings.namespace);
    let revision = settings.installation.revision(&client, &settings.namespace).await;
    let registrar = Registrar::new(client.clone(), registration, installation, revision)?;
    let keeper =
        Keeper { store: secret, registrar, certificate, address, server_name, part, metrics: keeping };
    let changed = Arc::new(Notify::new());
    let certificates = settings.certificates.cert_secret;
    let keeper = tokio::spawn(keeper.run(material, Arc::clone(&changed)));
    let parts = [
        tokio::spawn(keeper::watch(client.clone(), settings.namespace, certificates, changed)),
        tokio::spawn(stores.clone().follow(client)),
        tokio::spawn(release.run()),
        tokio::spawn(auditor.run()),
    ];
    stop.cancelled().await;
    // A replica that ends writes nothing more: those that stay may have other settings.
    keeper.abort();
    // Not ready first: the endpoint must be gone from the Service before connections are refused.
    readiness.end();
    tokio::time::sleep(drain_delay).await;
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
        match store.ensure(None).await {
            Ok(material) => return Some(material),
            Err(error) => tracing::warn!(%error, "no certificates yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(backoff.next(jitter())) => {}
        }
    }
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
