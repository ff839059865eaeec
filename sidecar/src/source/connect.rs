//! One connection to PostgreSQL, with the credentials of this moment.

use std::{path::Path, str::FromStr};

use contract::OrganizationId;
use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::SourceError;
use crate::credentials::Credentials;

pub(super) async fn connect(
    directory: &Path,
    organization: OrganizationId,
) -> Result<PgConnection, SourceError> {
    let credentials = Credentials::read(directory)?;
    if credentials.organization != organization {
        return Err(SourceError::Organization(credentials.organization));
    }
    Ok(options(&credentials)?.connect().await?)
}

/// Anything short of an explicit `sslmode=disable` (a development database) means a verified server.
fn options(credentials: &Credentials) -> Result<PgConnectOptions, SourceError> {
    let options = PgConnectOptions::from_str(&credentials.database_url)
        .map_err(|_| SourceError::Url)?
        .application_name("config-sidecar")
        // PgBouncer refuses start-up parameters that it does not track.
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if matches!(options.get_ssl_mode(), PgSslMode::Disable) {
        return Ok(options);
    }
    let ca = credentials.ca.clone().ok_or(SourceError::NoCa)?;
    Ok(options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(ca))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, ca: Option<&str>) -> Result<PgSslMode, String> {
        let credentials = Credentials {
            database_url: url.into(),
            redis_url: String::new(),
            ca: ca.map(|pem| pem.as_bytes().to_vec()),
            organization: "0191f0c0-0000-7000-8000-00000000000a".parse().unwrap(),
        };
        options(&credentials).map(|options| options.get_ssl_mode()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_server_is_verified_unless_tls_is_off_on_purpose() {
        for url in [
            "postgres://t:pw@h/d",
            "postgres://t:pw@h/d?sslmode=require",
            "postgres://t:pw@h/d?sslmode=allow",
        ] {
            assert!(matches!(mode(url, Some("pem")), Ok(PgSslMode::VerifyFull)), "{url}");
            assert!(mode(url, None).unwrap_err().contains("ca.crt"));
        }
        assert!(matches!(mode("postgres://t:pw@h/d?sslmode=disable", None), Ok(PgSslMode::Disable)));
    }

    #[test]
    fn a_bad_url_is_not_shown() {
        for url in ["postgres://t:s3cret@h:port/d", "s3cret", "postgres://t:pw@h/d?sslmode=s3cret"] {
            assert!(!mode(url, None).unwrap_err().contains("s3cret"));
        }
    }
}
