//! Writes notes to the journal beside the work, gathered, so that no step waits for another's note.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{Run, Step, Store};

/// How long notes gather before they are written. A creation without trouble ends about then, and its end notes all.
const GATHER: Duration = Duration::from_millis(100);
/// How long a note that could not be written waits for the next try.
const RETRY: Duration = Duration::from_millis(500);

enum Message {
    Note(Step),
    Flush(oneshot::Sender<()>),
    Discard(oneshot::Sender<()>),
}

/// The notes of one run on their way to the journal.
#[derive(Clone)]
pub struct Recorder {
    messages: mpsc::UnboundedSender<Message>,
}

impl Recorder {
    /// Starts to write the notes of `run`. Ends when all clones are dropped.
    pub fn start<S: Store>(run: Arc<Run>, store: Arc<S>) -> Self {
        // Unbounded, and still bounded: a run sends a few notes a step.
        let (messages, inbox) = mpsc::unbounded_channel();
        tokio::spawn(write(run, store, inbox));
        Self { messages }
    }

    /// Notes that a step moved on; does not wait.
    pub fn note(&self, step: Step) {
        let _ = self.messages.send(Message::Note(step));
    }

    /// Waits until all notes are written, or one try to write them failed.
    pub async fn flush(&self) {
        self.ask(Message::Flush).await;
    }

    /// Drops the notes that are not yet written and waits for the write that is under way, so that whoever writes next
    /// meets nobody.
    pub async fn discard(&self) {
        self.ask(Message::Discard).await;
    }

    async fn ask(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, wait) = oneshot::channel();
        if self.messages.send(message(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

async fn write<S: Store>(run: Arc<Run>, store: Arc<S>, mut inbox: mpsc::UnboundedReceiver<Message>) {
    let mut pending = BTreeSet::new();
    let mut due = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            message = inbox.recv() => message,
            () = sleep_until(due), if !pending.is_empty() => {
                write_pending(&run, store.as_ref(), &mut pending).await;
                due = Instant::now() + RETRY;
                continue;
            }
        };
        match message {
            None => return,
            Some(Message::Note(step)) => {
                if pending.is_empty() {
                    due = Instant::now() + GATHER;
                }
                pending.insert(step);
            }
            Some(Message::Flush(done)) => {
                write_pending(&run, store.as_ref(), &mut pending).await;
                let _ = done.send(());
            }
            Some(Message::Discard(done)) => {
                pending.clear();
                let _ = done.send(());
            }
        }
    }
}

async fn write_pending<S: Store>(run: &Run, store: &S, pending: &mut BTreeSet<Step>) {
    if pending.is_empty() {
        return;
    }
    let notes: Vec<_> = pending.iter().map(|step| (*step, run.record(*step))).collect();
    match store.note(run.lease, &notes, &run.outputs()).await {
        Ok(()) => pending.clear(),
        // Nothing is lost but the report: a resumed run does the step again.
        Err(failure) => tracing::warn!(operation = %run.operation.id, %failure, "notes not written"),
    }
}
