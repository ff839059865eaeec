//! Redis: TLS port only, every user from an ACL file, nothing on disk but that file (it carries announcements).

use std::fs;
use std::time::Duration;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::secrets::Secrets;
use super::{DataServices, REDIS_PORT, install_certificate, server_user};
use crate::host::Host;
use crate::pki::{Authority, write_secret};
use crate::process::{Component, Ready};

/// Starts the server.
pub async fn start(host: &Host, authority: &Authority, services: &DataServices) -> Result<()> {
    let user = server_user("redis");
    // The server writes here: ACL SAVE replaces the file by a new one beside it.
    let folder = host.data_folder("redis", Some(user))?;
    install_certificate(host, authority, &folder, user)?;
    let users = folder.join("users.acl");
    if !users.exists() {
        write_secret(&users, &acl(&services.secrets))?;
        host.give(&users, user)?;
    }
    let configuration = folder.join("redis.conf");
    fs::write(&configuration, settings(host))?;
    let argv = ["redis-server".to_owned(), host.inside(&configuration).display().to_string()];
    let component = Component::new("redis", argv).user(user).cwd(host.inside(&folder));
    host.start(component, &Ready::Tcp(services.redis), Duration::from_secs(15)).await
}

fn settings(host: &Host) -> String {
    let folder = host.inside(&host.state().join("redis"));
    let folder = folder.display();
    let (address, port) = (
        if host.isolated() { "0.0.0.0".to_owned() } else { host.node_ip().to_string() },
        host.port(REDIS_PORT),
    );
    format!(
        "bind {address}
port 0
tls-port {port}
tls-cert-file {folder}/server.crt
tls-key-file {folder}/server.key
tls-ca-cert-file {folder}/ca.crt
tls-auth-clients no
tls-protocols \"TLSv1.2 TLSv1.3\"
aclfile {folder}/users.acl
acl-pubsub-default resetchannels
dir {folder}
save \"\"
appendonly no
maxclients 10000
maxmemory 64mb
maxmemory-policy noeviction
client-output-buffer-limit pubsub 1mb 256kb 10
timeout 0
tcp-keepalive 30
daemonize no
"
    )
}

/// The platform's own users; tenants' are added by the provisioner.
fn acl(secrets: &Secrets) -> String {
    let hash = |password: &str| {
        Sha256::digest(password.as_bytes())
            .iter()
            .fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    };
    format!(
        "user default off resetkeys resetchannels -@all
user publisher on {} resetkeys resetchannels &config:* -@all +publish +ping
user acl-admin on {} resetkeys resetchannels -@all +acl|setuser +acl|deluser +acl|save +acl|getuser +acl|list +ping
user observer on {} resetkeys resetchannels -@all +monitor +info +client|list +config|get +acl|list +ping
",
        hash(&secrets.redis_publisher),
        hash(&secrets.redis_acl_admin),
        hash(&secrets.redis_observer),
    )
}
