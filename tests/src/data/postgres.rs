//! PostgreSQL: TLS and SCRAM only, durability off (its data lives as long as the platform).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{DataServices, Login, POSTGRES_PORT, bootstrap, install_certificate, server_user};
use crate::host::Host;
use crate::pki::{Authority, write_secret};
use crate::process::{Component, Ready};

/// Backends for the pooler's cap ([`super::pgbouncer`]), the programs' pools and tests beside them.
const CONNECTIONS: u16 = 200;

/// No plain connection, no trust, no other method than SCRAM.
const ACCESS: &str = "\
hostssl   all all all scram-sha-256
hostnossl all all all reject
";

/// Makes the cluster and starts the server; then roles and database.
pub async fn start(host: &Host, authority: &Authority, services: &DataServices) -> Result<()> {
    let user = server_user("postgres");
    let folder = host.data_folder("postgres", Some(user))?;
    let binaries = binaries()?;
    install_certificate(host, authority, &folder, user)?;
    initialize(host, &folder, &binaries, services).await?;

    let inside = |name: &str| host.inside(&folder.join(name)).display().to_string();
    let settings = [
        ("listen_addresses", if host.isolated() { "*".to_owned() } else { host.node_ip().to_string() }),
        ("port", host.port(POSTGRES_PORT).to_string()),
        ("unix_socket_directories", String::new()),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", inside("server.crt")),
        ("ssl_key_file", inside("server.key")),
        ("ssl_min_protocol_version", "TLSv1.2".to_owned()),
        ("hba_file", inside("access.conf")),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("max_connections", CONNECTIONS.to_string()),
        ("shared_buffers", "64MB".to_owned()),
        ("fsync", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        // Statements of tenants hold nothing secret, those of the programs may: none is logged but for its error.
        ("log_statement", "none".to_owned()),
        ("log_min_error_statement", "panic".to_owned()),
    ];
    let mut argv = vec![binaries.join("postgres").display().to_string(), "-D".to_owned(), inside("data")];
    for (name, value) in settings {
        argv.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let component = Component::new("postgres", argv).user(user);
    host.start(component, &Ready::Tcp(services.postgres), Duration::from_secs(30)).await?;
    bootstrap::run(services).await
}

async fn initialize(host: &Host, folder: &Path, binaries: &Path, services: &DataServices) -> Result<()> {
    let user = server_user("postgres");
    fs::write(folder.join("access.conf"), ACCESS)?;
    if folder.join("data/PG_VERSION").exists() {
        return Ok(());
    }
    let password = folder.join("password");
    write_secret(&password, services.credentials(Login::Superuser).1)?;
    host.give(&password, user)?;
    let argv = [
        binaries.join("initdb").display().to_string(),
        format!("--pgdata={}", host.inside(&folder.join("data")).display()),
        format!("--pwfile={}", host.inside(&password).display()),
        "--username=postgres".to_owned(),
        "--auth=scram-sha-256".to_owned(),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--no-sync".to_owned(),
        "--no-instructions".to_owned(),
    ];
    let output = host.run(Component::new("initdb", argv).user(user)).await?;
    fs::remove_file(&password)?;
    output.success().context("initdb").map(drop)
}

/// The newest installed server's programs: distributions keep them out of the path.
pub(crate) fn binaries() -> Result<PathBuf> {
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let installed = versions.filter_map(|path| {
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let folder = path.join("bin");
        folder.join("postgres").is_file().then_some((version, folder))
    });
    if let Some((_, folder)) = installed.max() {
        return Ok(folder);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|folder| folder.join("postgres").is_file());
    found.context("PostgreSQL is not installed: `postgres` is neither in /usr/lib/postgresql nor in the path")
}
