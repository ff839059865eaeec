//! Benchmarks of the main job, on the real platform, release programs. Each figure stands beside its floor, measured
//! in the same run on the same machine: what counts is the ratio.
//!
//! `make bench` runs all; `make bench ARGS=admission` one section.

#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints its figures")]

mod admission;
mod apiserver;
mod configuration;
mod creation;
mod hold;
mod metrics;
mod process;
mod ready;
mod report;
mod scale;
mod servers;
mod stats;
mod tenant;
mod wrk;

use anyhow::{Context, Result};
use tests::platform::{Platform, Purpose};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, kind, address, folder] = arguments.as_slice()
        && serve == "serve"
    {
        if kind == "apiserver" {
            return apiserver::run(address.parse()?, folder);
        }
        return servers::run(kind, address.parse()?, folder.as_ref());
    }
    let wants = |section: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == section);
    let folder = tempfile::tempdir()?;
    if wants("admission") {
        admission::run(folder.path())?;
    }
    if wants("scale") {
        scale::run(folder.path())?;
    }
    if ["creation", "writes", "reloads", "hold", "ready", "refusal"].into_iter().any(wants) {
        tokio::runtime::Runtime::new()?.block_on(on_platform(wants, folder.path()))?;
    }
    Ok(())
}

async fn on_platform(wants: impl Fn(&str) -> bool, folder: &std::path::Path) -> Result<()> {
    let state = tests::workspace::root().join(".local/bench");
    let platform = Platform::up(&state, Purpose::Journeys, &|line| println!("{line}"))
        .await
        .context("start the platform")?;
    let client = platform.client().await?;
    let provisioner = tests::api::Api::at(platform.provisioner_url())?;
    if wants("creation") {
        creation::run(&client, &provisioner).await?;
    }
    if wants("writes") {
        configuration::writes(&platform, &provisioner).await?;
    }
    if wants("reloads") {
        configuration::reloads(&client, &provisioner, folder).await?;
    }
    if wants("hold") {
        hold::run(&platform).await?;
    }
    if wants("ready") {
        ready::run(&platform, &client).await?;
    }
    // Last: a thousand namespaces take minutes to go.
    if wants("refusal") {
        admission::whole_refusal(&platform, &client, folder).await?;
    }
    Ok(())
}
