//! O2: etcd, read directly, holds no tenant's password.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::names::{self, credentials};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tests::Platform;
use tests::api::{self, Wanted};
use tests::namespace::Namespace;
use uuid::Uuid;

/// Everything that etcd has written: its database and its write-ahead log.
fn written(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(written(&entry.path())?);
        } else {
            files.push(fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Lossy text is enough: what is looked for is ASCII.
fn holds(files: &[Vec<u8>], text: &str) -> bool {
    files.iter().any(|file| String::from_utf8_lossy(file).contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_holds_no_tenants_password_in_the_clear() -> Result<()> {
    let platform = Platform::shared().await?;
    let client = platform.client().await?;
    let wanted = Wanted::fresh("o2");
    let made = api::Api::at(platform.provisioner_url())?.create(&wanted, None).await?.expect(201)?;
    let namespace = made.body["namespace"].as_str().unwrap_or_default().to_owned();
    let secret = Api::<Secret>::namespaced(client.clone(), &namespace).get(names::SECRET_NAME).await?;
    let data = secret.data.unwrap_or_default();

    // The control: what is no Secret is found, so that the search can find.
    let control = Namespace::create(platform, "o2", &[]).await?;
    let known = Uuid::new_v4().simple().to_string();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "control"}, "data": {"known": known}}))?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &control.name);
    maps.create(&PostParams::default(), &map).await?;

    let files = written(&platform.host().data_folder("etcd", None)?)?;
    ensure!(holds(&files, &known), "the search does not find what is there");
    for key in [credentials::DATABASE_URL, credentials::REDIS_URL] {
        let url = String::from_utf8(data.get(key).map(|value| value.0.clone()).unwrap_or_default())?;
        let password = url.split(['/', ':', '@']).nth(4).unwrap_or_default();
        ensure!(password.len() >= 32, "no password in {key}");
        for form in [password.to_owned(), STANDARD.encode(&url), STANDARD.encode(password)] {
            ensure!(!holds(&files, &form), "etcd holds the password of {key}");
        }
    }
    Ok(())
}
