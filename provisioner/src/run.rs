//! What the program does, by its subcommand.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::{
    admin, http, migrate,
    settings::{Cli, Command, ServeSettings},
    state::AppState,
    tenancy::worker,
    watchdog,
};

/// Does what the command line asks for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(settings) => serve(*settings).await,
        Command::Migrate(settings) => migrate::run(&settings).await,
        Command::Admin(settings) => admin::run(settings).await,
    }
}

/// Serves until the signal; then no more requests are taken, and operations that run may end.
async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    let listen = settings.listen;
    let stop = runtime::shutdown::signal();
    let state = AppState::connect(settings).await?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, "serving");

    let tasks = TaskTracker::new();
    if !state.settings.no_resume {
        tasks.spawn(worker::run(Arc::clone(&state.tenancy), stop.clone()));
    }
    let (identity, keys_stop) = (state.identity.clone(), stop.clone());
    tasks.spawn(async move { identity.follow(keys_stop).await });
    let (configuration, platform) = (state.config.clone(), state.platform.clone());
    let outbox_stop = stop.clone();
    tasks.spawn(async move { configuration.run_outbox(platform, outbox_stop).await });
    tasks.spawn(watchdog::run(state.platform.clone(), stop.clone()));
    tasks.close();

    let tenancy = Arc::clone(&state.tenancy);
    runtime::http::serve(listener, http::router(state), stop.clone()).await?;
    stop.cancel();
    tasks.wait().await;
    tenancy.finish(runtime::http::DRAIN_MAX).await;
    Ok(())
}
