//! Pods that carry our scheduling gate.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use contract::names;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};

/// Whether the pod carries our scheduling gate.
pub fn is_held(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|gate| gate.name == names::HOLD_GATE))
}

/// Runs `start`, which says when the clock starts, and then tells after which time the first and the last of `count` held
/// pods were released.
pub async fn released(
    pods: Api<Pod>,
    count: usize,
    start: impl Future<Output = Result<Instant>>,
) -> Result<(Duration, Duration)> {
    let mut events = watcher(pods, watcher::Config::default()).boxed();
    let mut held = HashSet::new();
    loop {
        match events.try_next().await?.context("the watch ended")? {
            Event::InitApply(pod) if is_held(&pod) => drop(held.insert(pod.metadata.name)),
            Event::InitDone => break,
            _ => {}
        }
    }
    ensure!(held.len() == count, "{} pods are held, not {count}", held.len());
    let clock = tokio::spawn(async move {
        let mut first = None;
        while !held.is_empty() {
            if let Some(Event::Apply(pod)) = events.try_next().await?
                && !is_held(&pod)
                && held.remove(&pod.metadata.name)
            {
                first.get_or_insert_with(Instant::now);
            }
        }
        anyhow::Ok((first.context("none was held")?, Instant::now()))
    });
    let from = start.await?;
    let Ok(clock) = tokio::time::timeout(Duration::from_mins(1), clock).await else {
        bail!("some are still held after a minute")
    };
    let (first, last) = clock??;
    Ok((first.saturating_duration_since(from), last.saturating_duration_since(from)))
}
