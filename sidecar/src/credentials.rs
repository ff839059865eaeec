//! The mounted Secret: one file per value, read again whenever a connection is made, so that rotation needs no restart.

use std::{fmt, fs, io, path::Path};

use contract::{OrganizationId, names::credentials as keys};

/// What a tenant's sidecar needs to reach PostgreSQL and Redis. Its `Debug` shows no secret.
pub struct Credentials {
    /// PostgreSQL URL, with the password.
    pub database_url: String,
    /// Redis URL, with the password.
    pub redis_url: String,
    /// PEM bundle; absent only where neither URL asks for TLS.
    pub ca: Option<Vec<u8>>,
    /// Whose configuration it is.
    pub organization: OrganizationId,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// Why the credentials cannot be used. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// Name of the file in the credentials directory.
        file: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The file `organization` holds no organization.
    #[error("organization: {0}")]
    Organization(contract::InvalidIdentifier),
}

impl Credentials {
    /// Reads `directory`. The files are a few hundred bytes on a memory file system, so reading blocks for microseconds.
    pub fn read(directory: &Path) -> Result<Self, CredentialsError> {
        let organization = text(directory, keys::ORGANIZATION)?;
        Ok(Self {
            database_url: text(directory, keys::DATABASE_URL)?,
            redis_url: text(directory, keys::REDIS_URL)?,
            ca: match fs::read(directory.join(keys::CA)) {
                Ok(pem) => Some(pem),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(CredentialsError::File { file: keys::CA, source }),
            },
            organization: organization.parse().map_err(CredentialsError::Organization)?,
        })
    }
}

fn text(directory: &Path, file: &'static str) -> Result<String, CredentialsError> {
    let content =
        fs::read_to_string(directory.join(file)).map_err(|source| CredentialsError::File { file, source })?;
    Ok(content.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_files_and_shows_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &str| fs::write(directory.path().join(file), content).unwrap();
        assert!(Credentials::read(directory.path()).unwrap_err().to_string().starts_with("organization: "));
        write("organization", "0191f0c0-0000-7000-8000-00000000000a\n");
        write("database-url", "postgres://t:secret@h/agent_ready\n");
        write("redis-url", "rediss://t:secret@h");
        let credentials = Credentials::read(directory.path()).unwrap();
        assert_eq!(credentials.database_url, "postgres://t:secret@h/agent_ready");
        assert!(credentials.ca.is_none());
        assert!(!format!("{credentials:?}").contains("secret"));
        write("organization", "nobody");
        assert!(matches!(Credentials::read(directory.path()), Err(CredentialsError::Organization(_))));
    }
}
