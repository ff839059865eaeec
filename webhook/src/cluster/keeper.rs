//! Keeps certificates and registration right: by level, in a look every few seconds, and at once when a watch says that
//! something changed. What a look finds decides; a watch that is silent only makes it later.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::Secret,
};
use kube::{
    Api, Client,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::Notify;

use super::{
    certificates::Store,
    configurations::{MUTATING, VALIDATING},
    material::{self, Material},
    registration::{Outcome, Registrar},
};
use crate::{
    readiness::Part,
    serve::{server::Certificate, tls},
};

/// The same after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often certificates and registration are looked at without being told: a deleted configuration is back within it.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// Between two looks, however often watches speak.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// A look that was well holds for this long; then the replica is not ready.
pub const AGE_MAX: Duration = Duration::from_secs(30);
/// Watches have been seen to stall behind load balancers: these are opened anew after this time, answered or not.
const WATCH_SECONDS_MAX: u32 = 120;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Layer {
    layer: &'static str,
}

/// Metrics of certificates and registration.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    expiry: Family<Layer, Gauge>,
    written: Counter,
    failures: Counter,
    registered: Gauge,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When a layer of the serving chain ends, in seconds since 1970: the leaf, its authority, and the authority's \
             certificate in the caBundle as last registered (0: it is not in there)",
            metrics.expiry.clone(),
        );
        registry.register(
            "registration_writes",
            "Webhook configurations made or put right by this replica",
            metrics.written.clone(),
        );
        registry.register(
            "registration_failures",
            "Looks at certificates and registration that failed",
            metrics.failures.clone(),
        );
        registry.register(
            "registered",
            "1: as this replica wants it; 0: a newer version has registered, or the installation is being removed",
            metrics.registered.clone(),
        );
        metrics
    }

    fn ends(&self, layer: &'static str, at: i64) {
        self.expiry.get_or_create(&Layer { layer }).set(at);
    }
}

/// What is kept right, and with what.
pub struct Keeper {
    /// The certificates' Secret.
    pub store: Store,
    /// The webhook configurations.
    pub registrar: Registrar,
    /// What the listener serves.
    pub certificate: Certificate,
    /// Where the listener answers from inside.
    pub address: SocketAddr,
    /// The name that the API server asks for.
    pub server_name: String,
    /// Told of every look that was well.
    pub part: Part,
    /// Where the counts go.
    pub metrics: Metrics,
}

impl Keeper {
    /// Looks for ever, with `current` being served already.
    pub async fn run(self, mut current: Material, changed: Arc<Notify>) {
        let mut registered = None;
        loop {
            let wait = match self.look(&mut current, &mut registered).await {
                Ok(()) => {
                    self.part.heard();
                    LOOK_EVERY
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "certificates and registration are not looked after"
                    );
                    LOOK_AGAIN
                }
            };
            tokio::time::sleep(LOOK_PAUSE).await;
            // A change during the look is kept by the Notify.
            let _ = tokio::time::timeout(wait, changed.notified()).await;
        }
    }

    async fn look(&self, current: &mut Material, registered: &mut Option<String>) -> anyhow::Result<()> {
        let material = self.store.ensure(registered.as_deref()).await?;
        let same_authority = material.authority.certificate == current.authority.certificate;
        // Another program's new authority is registered before its certificate is served; within our own rotation it is
        // known long before, and the first registration of all follows a passed test.
        let trusted = registered.is_none()
            || same_authority
            || registered
                .as_deref()
                .is_some_and(|bundle| material::contains(bundle, &material.authority.certificate));
        if trusted {
            self.serve(&material, current)?;
            self.test(&material).await?;
        }
        *registered = None;
        let outcome = self.registrar.settle(&material.bundle).await.context("the webhook configurations")?;
        if !trusted {
            self.serve(&material, current)?;
            self.test(&material).await?;
        }
        if let Outcome::Registered { written } = outcome {
            self.metrics.written.inc_by(written as u64);
            *registered = Some(material.bundle.clone());
        }
        self.metrics.registered.set(i64::from(registered.is_some()));
        self.metrics.ends("leaf", material::ends_at(&material.certificate));
        self.metrics.ends("authority", material::ends_at(&material.authority.certificate));
        let bundle = registered.as_deref().unwrap_or_default();
        self.metrics.ends("caBundle", material::issuer_ends_at(bundle, &material.certificate));
        Ok(())
    }

    fn serve(&self, material: &Material, current: &mut Material) -> anyhow::Result<()> {
        if material.certificate != current.certificate || material.key != current.key {
            self.certificate.replace(tls::server_config(&material.certificate, &material.key)?);
            tracing::info!("a new certificate is served");
        }
        current.clone_from(material);
        Ok(())
    }

    async fn test(&self, material: &Material) -> anyhow::Result<()> {
        let test = tls::self_test(self.address, &self.server_name, &material.bundle).await;
        test.context("the own listener failed the test")
    }
}

/// Notifies of every change of the Secret and of both configurations, for ever.
pub async fn watch(client: Client, namespace: String, secret: String, changed: Arc<Notify>) {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &namespace);
    let validating: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> = Api::all(client.clone());
    let mutating: Api<PartialObjectMeta<MutatingWebhookConfiguration>> = Api::all(client);
    let all = || {
        futures::stream::select_all([
            events(watcher(secrets.clone(), only(&secret))),
            events(watcher(validating.clone(), only(VALIDATING))),
            events(watcher(mutating.clone(), only(MUTATING))),
        ])
    };
    loop {
        let mut events = all();
        let told = async {
            while let Some(well) = events.next().await {
                if well {
                    changed.notify_one();
                }
            }
        };
        let anew = Duration::from_secs(u64::from(WATCH_SECONDS_MAX) + 10);
        let _ = tokio::time::timeout(anew, told).await;
    }
}

fn only(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS_MAX)
}

/// Whether each event of a watch is a change; a failure is no news, the look in a moment says more.
fn events<K: 'static>(
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
) -> BoxStream<'static, bool> {
    let events = events.default_backoff();
    events
        .map(|event| match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => true,
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(%error, "a watch failed");
                false
            }
        })
        .boxed()
}
