//! Takes over what crashed replicas left: any replica resumes any operation, and Kubernetes is swept of what a failed
//! operation may have left behind.

use std::{sync::Arc, time::Duration};

use contract::names;
use kube::api::{DeleteParams, ListParams, Preconditions};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Tenancy, effects::World, store::uncancelled};
use crate::kube::call;

/// Operations that one replica resumes at once.
const RESUMED_MAX: usize = 8;
/// How often failed operations' namespaces are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Namespaces of a page of the sweep.
const PAGE: u32 = 500;

/// Works until `stop`; operations that are under way then are finished by their own tasks.
pub async fn run(tenancy: Arc<Tenancy>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(RESUMED_MAX));
    let mut swept: Option<Instant> = None;
    while !stop.is_cancelled() {
        let wanted = i64::try_from(slots.available_permits()).unwrap_or(0);
        match tenancy.claim(wanted).await {
            Ok(claimed) => {
                for claimed in claimed {
                    let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
                    let tenancy = Arc::clone(&tenancy);
                    tokio::spawn(async move {
                        tenancy.resume(claimed).await;
                        drop(permit);
                    });
                }
            }
            Err(failure) => tracing::warn!(%failure, "cannot look for operations to resume"),
        }
        if swept.is_none_or(|last| last.elapsed() >= SWEEP_EVERY) {
            swept = Some(Instant::now());
            sweep(&tenancy).await;
        }
        let pause =
            tenancy.saga().lease().min(Duration::from_secs(4)).mul_f64(0.25 + rand::random::<f64>() * 0.25);
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn sweep(tenancy: &Tenancy) {
    if let Err(failure) = sweep_throttle(tenancy).await {
        tracing::warn!(%failure, "registration counters not swept");
    }
    if let Err(failure) = sweep_orphans(tenancy).await {
        tracing::warn!(%failure, "orphans not swept");
    }
}

async fn sweep_throttle(tenancy: &Tenancy) -> Result<(), super::Failure> {
    let pool = tenancy.world().platform.clone();
    uncancelled(tenancy.saga().call_max(), async move {
        sqlx::query!("DELETE FROM throttle WHERE bucket LIKE 'register:%' AND window_start < now() - interval '5 minutes'")
            .execute(&pool)
            .await?;
        Ok(())
    })
    .await
}

/// Deletes namespaces of operations that ended failed. There are none, unless a replica was paused for longer than its
/// lease in the very moment of a call; then the call came after the compensation.
async fn sweep_orphans(tenancy: &Tenancy) -> Result<(), super::Failure> {
    let world: &World = tenancy.world();
    let api = world.namespaces();
    let mut page = ListParams::default().labels(names::ORGANIZATION_LABEL).limit(PAGE);
    loop {
        let listed = call(world.call_max, api.list_metadata(&page)).await?;
        let made: Vec<(Uuid, String, String)> = listed
            .items
            .iter()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
            .filter_map(|namespace| {
                let operation = namespace.metadata.annotations.as_ref()?.get(names::OPERATION_ANNOTATION)?;
                Some((
                    operation.parse().ok()?,
                    namespace.metadata.name.clone()?,
                    namespace.metadata.uid.clone()?,
                ))
            })
            .collect();
        let failed = failed_among(tenancy, made.iter().map(|(operation, ..)| *operation).collect()).await?;
        for (operation, name, uid) in made.into_iter().filter(|(operation, ..)| failed.contains(operation)) {
            tracing::warn!(%operation, namespace = name, "deleting what a failed operation left");
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let parameters =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            if let Err(error) = call(world.call_max, api.delete(&name, &parameters)).await {
                tracing::warn!(namespace = name, %error, "not deleted");
            }
        }
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

async fn failed_among(tenancy: &Tenancy, operations: Vec<Uuid>) -> Result<Vec<Uuid>, super::Failure> {
    let pool = tenancy.world().platform.clone();
    uncancelled(tenancy.saga().call_max(), async move {
        sqlx::query_scalar!("SELECT id FROM operations WHERE id = ANY($1) AND state = 'FAILED'", &operations)
            .fetch_all(&pool)
            .await
    })
    .await
}
