//! PgBouncer: the tenants' only way to PostgreSQL, and the limits that keep one from starving the others.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::{DATABASE, DataServices, PGBOUNCER_PORT, POSTGRES_PORT, install_certificate, server_user};
use crate::host::Host;
use crate::pki::{Authority, write_secret};
use crate::process::{Component, Ready};

/// Starts the pooler.
pub async fn start(host: &Host, authority: &Authority, services: &DataServices) -> Result<()> {
    // It refuses to run as root, and reads nothing of PostgreSQL's: its own folder has all it needs.
    let user = server_user("postgres");
    let folder = host.data_folder("pgbouncer", Some(user))?;
    install_certificate(host, authority, &folder, user)?;
    let users = folder.join("users.txt");
    write_secret(&users, &format!("\"{}\" \"{}\"\n", contract::sql::POOLER, services.secrets.pooler))?;
    host.give(&users, user)?;
    let configuration = folder.join("pgbouncer.ini");
    fs::write(&configuration, settings(host))?;
    let argv = ["pgbouncer".to_owned(), host.inside(&configuration).display().to_string()];
    let component = Component::new("pgbouncer", argv).user(user);
    host.start(component, &Ready::Tcp(services.pgbouncer), Duration::from_secs(15)).await
}

fn settings(host: &Host) -> String {
    let folder = host.inside(&host.state().join("pgbouncer"));
    let folder = folder.display();
    let address = if host.isolated() { "0.0.0.0".to_owned() } else { host.node_ip().to_string() };
    let (port, server, server_port) = (host.port(PGBOUNCER_PORT), host.node_ip(), host.port(POSTGRES_PORT));
    let pooler = contract::sql::POOLER;
    format!(
        "[databases]
{DATABASE} = host={server} port={server_port} dbname={DATABASE}

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
pool_mode = transaction

auth_type = scram-sha-256
auth_file = {folder}/users.txt
auth_user = {pooler}
auth_query = SELECT username, verifier FROM public.pooler_lookup($1)

client_tls_sslmode = require
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
server_tls_sslmode = verify-full
server_tls_ca_file = {folder}/ca.crt

; A pool is per user, so per tenant and slot. The cap leaves PostgreSQL room for the programs.
default_pool_size = 2
max_db_connections = 100
max_client_conn = 4000
server_idle_timeout = 10
; One pod's SET must not reach another's transaction, nor the limits of the role be gone for longer than one.
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_lifetime = 3600

; Neither can be SET away by the tenant, unlike PostgreSQL's own.
query_timeout = 5
idle_transaction_timeout = 5
query_wait_timeout = 10
client_login_timeout = 10
; After an outage of PostgreSQL nobody has to wait the 15 s of the default.
server_login_retry = 1

; What drivers send at start-up and no pooled session can keep.
ignore_startup_parameters = extra_float_digits

log_connections = 0
log_disconnections = 0
stats_period = 3600
"
    )
}
