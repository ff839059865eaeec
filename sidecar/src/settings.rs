//! What can be set, by flag or by the environment variable of the same name.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::duration::parse;

/// The config sidecar.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Settings {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the sidecar can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the tenant's configuration on localhost and follow changes.
    Serve(Box<Serve>),
}

/// Settings of `sidecar serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Directory with database-url, redis-url, ca.crt and organization; read again at every connect.
    #[arg(long, env, default_value = contract::names::CREDENTIALS_DIR)]
    pub credentials_dir: PathBuf,
    /// Address of the API. Only local names are accepted in the Host header.
    #[arg(long, env, default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Address of the probes and metrics, for the kubelet and Prometheus.
    #[arg(long, env, default_value = "0.0.0.0:7071")]
    pub pod_listen: SocketAddr,
    /// Shortest time between two complete reads.
    #[arg(long, env, value_parser = parse, default_value = "5m")]
    pub reconcile_min: Duration,
    /// Longest time between two complete reads.
    #[arg(long, env, value_parser = parse, default_value = "10m")]
    pub reconcile_max: Duration,
    /// How often PostgreSQL is asked for changes while Redis cannot be heard.
    #[arg(long, env, value_parser = parse, default_value = "10s")]
    pub deaf_poll: Duration,
    /// Time between two PINGs to Redis, and how long an answer may take.
    #[arg(long, env, value_parser = parse, default_value = "5s")]
    pub heartbeat: Duration,
    /// Allow fault points. For tests only.
    #[arg(long, env, hide = true)]
    pub enable_fault_points: bool,
    /// Fault point: milliseconds to pause between a subscription and the read that follows it.
    #[arg(long, env, hide = true)]
    pub fault_pause_after_subscribe: Option<u64>,
}

/// Settings that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A fault point without the switch that allows them.
    #[error("--fault-pause-after-subscribe needs --enable-fault-points")]
    FaultPoint,
    /// The range of the reconcile interval is empty.
    #[error("--reconcile-min is longer than --reconcile-max")]
    Reconcile,
    /// The API would be reachable from outside the pod.
    #[error("--listen must be a loopback address: values are for this pod alone")]
    Listen,
}

impl Serve {
    /// Whether the settings fit together.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.fault_pause_after_subscribe.is_some() && !self.enable_fault_points {
            return Err(Unfit::FaultPoint);
        }
        if self.reconcile_min > self.reconcile_max {
            return Err(Unfit::Reconcile);
        }
        if !self.listen.ip().is_loopback() {
            return Err(Unfit::Listen);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str]) -> Result<(), Unfit> {
        let arguments = ["sidecar", "serve"].iter().chain(flags);
        let Command::Serve(serve) = Settings::try_parse_from(arguments).unwrap().command;
        serve.check()
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["--fault-pause-after-subscribe", "5"]), Err(Unfit::FaultPoint));
        assert_eq!(check(&["--fault-pause-after-subscribe", "5", "--enable-fault-points"]), Ok(()));
        assert_eq!(check(&["--reconcile-min", "20m"]), Err(Unfit::Reconcile));
        assert_eq!(check(&["--listen", "0.0.0.0:7070"]), Err(Unfit::Listen));
        assert_eq!(check(&["--listen", "[::1]:7070"]), Ok(()));
    }
}
