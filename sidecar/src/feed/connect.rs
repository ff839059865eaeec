//! One connection to Redis, with the credentials of this moment.

use std::path::Path;

use contract::OrganizationId;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, TlsCertificates, aio::PubSub};

use super::FeedError;
use crate::credentials::Credentials;

pub(super) async fn connect(directory: &Path, organization: OrganizationId) -> Result<PubSub, FeedError> {
    let credentials = Credentials::read(directory)?;
    if credentials.organization != organization {
        return Err(FeedError::Organization(credentials.organization));
    }
    Ok(client(&credentials)?.get_async_pubsub().await?)
}

/// `rediss://` means a verified server; `redis://` (a development server) is taken as it is written.
fn client(credentials: &Credentials) -> Result<Client, FeedError> {
    let info = credentials.redis_url.as_str().into_connection_info().map_err(|_| FeedError::Url)?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: false, .. } => {
            let root_cert = Some(credentials.ca.clone().ok_or(FeedError::NoCa)?);
            Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?)
        }
        ConnectionAddr::Tcp(..) => Ok(Client::open(info)?),
        // Unverified TLS, Unix sockets.
        _ => Err(FeedError::Url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_client(url: &str) -> Result<Client, String> {
        client(&Credentials {
            database_url: String::new(),
            redis_url: url.into(),
            ca: None,
            organization: "0191f0c0-0000-7000-8000-00000000000a".parse().unwrap(),
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn tls_is_verified_and_a_bad_url_is_not_shown() {
        assert!(try_client("redis://127.0.0.1:1").is_ok());
        assert!(try_client("rediss://u:s3cret@h").unwrap_err().contains("ca.crt"));
        for url in ["rediss://u:s3cret@h/#insecure", "s3cret", "http://u:s3cret@h", "unix:///s3cret"] {
            assert!(!try_client(url).unwrap_err().contains("s3cret"), "{url}");
        }
    }
}
