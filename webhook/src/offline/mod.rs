//! `webhook review`: decides what a file asks for, without being asked by an API server (row G13).
//!
//! `read` turns bytes into objects, `decide` sends each through the code that answers the API server, `known` holds the
//! facts, `report` prints.

pub mod decide;
pub mod known;
pub mod read;
pub mod report;
pub mod settings;

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

pub use self::read::read;
use self::{
    decide::Asker,
    known::Known,
    settings::{Output, Review},
};
use crate::{cluster::live::Live, serve::decide::Endpoint};

/// Exit status for input that cannot be decided about.
const BAD_INPUT: u8 = 2;

/// Prints the answer; the exit status is 0 if everything is admitted, 1 if something is refused, 2 if the input, or the
/// cluster that was to be asked, could not be read.
pub async fn review(settings: &Review) -> ExitCode {
    match run(settings).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // To stderr as a sentence: who reads it is a person or a pipeline's log, not a collector of logs.
            let _ = writeln!(std::io::stderr(), "webhook review: {error:#}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

async fn run(settings: &Review) -> anyhow::Result<bool> {
    let name = settings.file.display();
    let items = read(&bytes(settings)?).with_context(|| format!("cannot read {name}"))?;
    let policy = settings.policy.policy(settings.exempt_namespaces.clone());
    let mut known = Known::default();
    if settings.live {
        let client = kube::Client::try_default().await.context("no way to the cluster (KUBECONFIG)")?;
        known.live = Some(Live::new(client, policy.clone()));
    } else if !settings.namespace_labels.is_empty() {
        known.given = Some(settings.namespace_labels.iter().cloned().collect());
    }
    let asker = Asker {
        user: settings.user.clone(),
        groups: settings.groups.clone(),
        namespace: settings.namespace.clone(),
        endpoint: if settings.mutate { Endpoint::Mutate } else { Endpoint::Validate },
    };
    let outcomes = decide::decide(items, known, &policy, &asker).await;
    let text = match settings.output {
        Output::Text => report::text(&outcomes),
        Output::Json => serde_json::to_string_pretty(&report::json(&outcomes))? + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("writing the answer")?;
    Ok(report::admitted(&outcomes))
}

/// The whole input, one byte more than is read of it at most.
fn bytes(settings: &Review) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = read::INPUT_BYTES_MAX as u64 + 1;
    if settings.file.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).context("reading stdin")?;
    } else {
        let reading = || format!("reading {}", settings.file.display());
        let file = std::fs::File::open(&settings.file).with_context(reading)?;
        file.take(limit).read_to_end(&mut bytes).with_context(reading)?;
    }
    Ok(bytes)
}
