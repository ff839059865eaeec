//! What our programs are told on a platform. Passwords are generated; nothing here is an administrator's.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rcgen::KeyPair;
use serde_json::json;

use super::environment;
use crate::data::{Login, RedisLogin};
use crate::pki::write_secret;
use crate::platform::{Platform, Purpose};

/// The folder of keys, below the state folder.
fn folder(platform: &Platform) -> PathBuf {
    platform.host().state().join("keys")
}

/// Makes the keys of the provisioner once.
pub fn write_keys(platform: &Platform) -> Result<()> {
    let folder = folder(platform);
    if folder.join("ca.crt").exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    let master: [u8; 32] = rand::random();
    let master = master.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    write_secret(&folder.join("master.key"), &master)?;
    let signing = KeyPair::generate().context("generate the signing key")?;
    write_secret(&folder.join("signing-1.pem"), &signing.serialize_pem())?;
    fs::copy(platform.ca_file(), folder.join("ca.crt")).context("copy the authority's certificate")?;
    Ok(())
}

/// The content of the Secret `provisioner-keys`.
pub fn keys(platform: &Platform) -> Result<BTreeMap<String, String>> {
    let folder = folder(platform);
    let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"));
    let names = ["ca.crt", "master.key", "signing-1.pem"];
    names.into_iter().map(|name| Ok((name.to_owned(), read(name)?))).collect()
}

/// The content of the Secret `provisioner-settings`: the same for a pod and for a process.
pub fn provisioner(platform: &Platform) -> BTreeMap<String, String> {
    let data = platform.data();
    let mut settings = environment([
        ("DATABASE_URL", data.database_url(Login::Service)),
        ("PLATFORM_DATABASE_URL", data.database_url(Login::Platform)),
        ("REDIS_URL", data.redis_url(RedisLogin::Publisher)),
        ("REDIS_ADMIN_URL", data.redis_url(RedisLogin::AclAdmin)),
        ("TENANT_DATABASE_ADDRESS", data.tenant_database_address()),
        ("TENANT_REDIS_ADDRESS", data.tenant_redis_address()),
        ("PLATFORM_PEERS", peers(platform)),
        ("ISSUER", platform.provisioner_url()),
    ]);
    if platform.purpose() == Purpose::Journeys {
        // The journeys create hundreds of tenants a minute from one address.
        settings.insert("REGISTRATIONS_PER_EMAIL".into(), "100000".into());
        settings.insert("REGISTRATIONS_PER_ADDRESS".into(), "100000".into());
        settings.insert("LOGIN_FAILURES_PER_ADDRESS".into(), "100000".into());
    }
    settings
}

/// The whole environment of `provisioner serve` as a process of this machine, but for KUBECONFIG.
pub fn provisioner_process(platform: &Platform) -> BTreeMap<String, String> {
    let folder = folder(platform);
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut settings = provisioner(platform);
    settings.extend(environment([
        ("CA_FILE", file("ca.crt")),
        ("MASTER_KEY_FILE", file("master.key")),
        ("SIGNING_KEYS_DIR", folder.to_string_lossy().into_owned()),
        ("LISTEN", platform.host().address(8080).to_string()),
    ]));
    settings
}

/// The whole environment of `webhook serve` as a process of this machine, but for KUBECONFIG.
pub fn webhook_process(platform: &Platform) -> BTreeMap<String, String> {
    let (https, plain) = (platform.host().address(8443), platform.host().address(8081));
    environment([
        ("LISTEN", https.to_string()),
        ("PLAIN_LISTEN", plain.to_string()),
        ("WEBHOOK_URL", format!("https://{https}")),
        ("NAMESPACE", super::NAMESPACE.to_owned()),
    ])
}

/// The environment of `provisioner migrate`.
pub fn migration(platform: &Platform) -> BTreeMap<String, String> {
    environment([
        ("MIGRATION_DATABASE_URL", platform.data().database_url(Login::Migrator)),
        ("CA_FILE", platform.ca_file().to_string_lossy().into_owned()),
    ])
}

/// What tenants' pods may reach, and who may reach their sidecars.
fn peers(platform: &Platform) -> String {
    let port = |usual: u16| json!({ "port": platform.host().port(usual) });
    json!([
        { "cidr": format!("{}/32", platform.node_ip()), "ports": [port(6432), port(6379)] },
        {
            "direction": "ingress",
            "namespace": { "kubernetes.io/metadata.name": "monitoring" },
            "ports": [{ "port": 7071 }],
        },
    ])
    .to_string()
}
