//! `.local/env`: what a shell needs to use the platform.

use std::path::Path;

use anyhow::Result;

use crate::data::{Login, RedisLogin};
use crate::demo::Demonstrated;
use crate::pki::write_secret;
use crate::platform::Platform;

/// Writes it, for its owner alone: it holds an administrator's credentials.
pub fn write(path: &Path, platform: &Platform, owner: Option<&Demonstrated>) -> Result<()> {
    let data = platform.data();
    let mut variables = vec![
        ("KUBECONFIG", platform.kubeconfig().display().to_string()),
        ("PROVISIONER_URL", platform.provisioner_url()),
        ("WEBHOOK_URL", platform.webhook_url()),
        ("DATABASE_URL", data.database_url_with_ca(Login::Superuser)),
        ("REDIS_URL", data.redis_url(RedisLogin::Observer)),
        ("CA_FILE", platform.ca_file().display().to_string()),
    ];
    if let Some(owner) = owner {
        variables.extend([
            ("TENANT_ID", owner.tenant_id.clone()),
            ("TENANT_NAMESPACE", owner.namespace.clone()),
            ("TENANT_POD", owner.pod.clone()),
            ("OWNER_EMAIL", owner.owner_email.clone()),
            ("OWNER_PASSWORD", owner.owner_password.clone()),
        ]);
    }
    let line = |(name, value): &(&str, String)| format!("export {name}='{}'\n", value.replace('\'', "'\\''"));
    write_secret(path, &variables.iter().map(line).collect::<Vec<_>>().concat())
}
