//! Constant load on the gate: pods are created in namespaces that are ready, never were, and become so and cease to be,
//! while faults strike; every outcome is counted.

mod faults;
mod lanes;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use faults::{Fault, Webhook};
pub use report::{Outcome, Report};

/// Where pods are created.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// Without a baseline, never ready.
    pub bare: Vec<String>,
    /// With a whole baseline, never ready.
    pub complete: Vec<String>,
    /// Ready all the time.
    pub ready: Vec<String>,
    /// Made ready and unready in turn.
    pub changing: Vec<String>,
}

/// What the lanes know of the cluster's state, told by who strikes.
#[derive(Debug, Default)]
struct State {
    /// The apiserver's /readyz does not answer.
    down: AtomicBool,
    /// Counts every change of `down`: a request during which it changed proves nothing.
    changes: AtomicU64,
}

impl State {
    fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of changes while the apiserver is up.
    fn up(&self) -> Option<u64> {
        (!self.down.load(Ordering::SeqCst)).then(|| self.changes.load(Ordering::SeqCst))
    }
}

/// Load that runs until [`Load::end`].
pub struct Load {
    state: Arc<State>,
    report: Arc<Report>,
    stop: CancellationToken,
    lanes: JoinSet<()>,
}

impl Load {
    /// Starts a lane for each namespace. `admin` creates pods, `writer` may write the label.
    pub fn start(admin: &Client, writer: &Client, namespaces: &Namespaces) -> Self {
        let (state, report) = (Arc::new(State::default()), Arc::new(Report::default()));
        let stop = CancellationToken::new();
        let mut lanes = JoinSet::new();
        let never = |complete| move |name: &String| (name.clone(), complete);
        for (name, complete) in
            namespaces.bare.iter().map(never(false)).chain(namespaces.complete.iter().map(never(true)))
        {
            let lane = lanes::Lane::new(admin, &name, &state, &report, &stop);
            lanes.spawn(lane.never_ready(complete));
        }
        for name in &namespaces.ready {
            lanes.spawn(lanes::Lane::new(admin, name, &state, &report, &stop).ready());
        }
        for name in &namespaces.changing {
            lanes.spawn(lanes::Lane::new(admin, name, &state, &report, &stop).changing(writer.clone()));
        }
        Self { state, report, stop, lanes }
    }

    /// What was counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Ends all lanes.
    pub async fn end(mut self) -> Result<Arc<Report>> {
        self.stop.cancel();
        while let Some(lane) = self.lanes.join_next().await {
            lane?;
        }
        Ok(self.report)
    }
}
