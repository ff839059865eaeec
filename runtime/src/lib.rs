//! What every program of ours needs around its own work: telemetry, TLS set-up, shutdown, back-off.
