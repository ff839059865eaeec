//! Signing keys: PEM files in a directory, the newest name signs, all are published.
//!
//! A key is rolled by adding a file whose name sorts last (say `2026-11-01.pem`) and by removing the old one after the
//! longest token life. Replicas re-read the directory every few seconds and when a token names a key they do not know.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};

/// How often the directory is read again.
pub const REREAD_EVERY: Duration = Duration::from_secs(5);
/// Least time between two reads that unknown key ids ask for.
const REREAD_PAUSE: Duration = Duration::from_secs(1);
/// Most keys in the directory: rotation needs two or three.
const KEYS_MAX: usize = 16;

/// Key files by name: their contents.
type Files = BTreeMap<String, Vec<u8>>;

/// Why keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file in it cannot be read.
    #[error("signing keys in {path}: {cause}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A file is not a PEM private key on P-256.
    #[error("signing key {name}: not a PEM private key (PKCS #8) on P-256")]
    Format {
        /// The file's name.
        name: String,
    },
    /// No key, or too many.
    #[error("{found} signing keys found, 1 to {KEYS_MAX} expected")]
    Count {
        /// How many there were.
        found: usize,
    },
}

/// The keys of one moment: the one that signs, and the public half of all.
pub struct KeyRing {
    signing_id: String,
    signing: EncodingKey,
    verifying: BTreeMap<String, DecodingKey>,
    published: JwkSet,
}

impl std::fmt::Debug for KeyRing {
    /// The key ids alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.verifying.keys().collect();
        f.debug_struct("KeyRing")
            .field("signing", &self.signing_id)
            .field("all", &ids)
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Builds the ring from the files' names and contents; the greatest name signs.
    pub fn new(files: &Files) -> Result<Self, KeyError> {
        if files.is_empty() || files.len() > KEYS_MAX {
            return Err(KeyError::Count { found: files.len() });
        }
        let mut verifying = BTreeMap::new();
        let mut published = JwkSet::default();
        let mut newest = None;
        for (name, pem) in files {
            let (id, key, public) = read(pem).ok_or_else(|| KeyError::Format { name: name.clone() })?;
            let decoding =
                DecodingKey::from_jwk(&public).map_err(|_| KeyError::Format { name: name.clone() })?;
            if verifying.insert(id.clone(), decoding).is_none() {
                published.keys.push(public);
            }
            newest = Some((id, key));
        }
        let (signing_id, signing) = newest.ok_or(KeyError::Count { found: 0 })?;
        Ok(Self { signing_id, signing, verifying, published })
    }

    /// The id of the key that signs.
    pub fn signing_id(&self) -> &str {
        &self.signing_id
    }

    /// The key that signs.
    pub fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// The public half of the key with this id.
    pub fn verifying(&self, id: &str) -> Option<&DecodingKey> {
        self.verifying.get(id)
    }

    /// The public halves as a JWK set.
    pub fn published(&self) -> &JwkSet {
        &self.published
    }
}

fn read(pem: &[u8]) -> Option<(String, EncodingKey, Jwk)> {
    let key = EncodingKey::from_ec_pem(pem).ok()?;
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).ok()?;
    let id = public.thumbprint(ThumbprintHash::SHA256).ok()?;
    public.common.key_id = Some(id.clone());
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    Some((id, key, public))
}

/// The directory's keys, kept up to date.
#[derive(Debug)]
pub struct SigningKeys {
    directory: PathBuf,
    state: RwLock<(Arc<KeyRing>, Files)>,
    last_read: Mutex<Instant>,
}

impl SigningKeys {
    /// Reads the directory for the first time; here a fault is an error.
    pub fn load(directory: &Path) -> Result<Self, KeyError> {
        let files = read_directory(directory)?;
        let ring = Arc::new(KeyRing::new(&files)?);
        Ok(Self {
            directory: directory.to_owned(),
            state: RwLock::new((ring, files)),
            last_read: Mutex::new(Instant::now()),
        })
    }

    /// The keys as last read.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Reads the directory again; a fault is logged and the last good keys stay.
    pub fn reread(&self) {
        let outcome = read_directory(&self.directory).and_then(|files| {
            if self.state.read().unwrap_or_else(PoisonError::into_inner).1 == files {
                return Ok(None);
            }
            Ok(Some((Arc::new(KeyRing::new(&files)?), files)))
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(fresh)) => {
                tracing::info!(keys = ?fresh.0, "signing keys changed");
                *self.state.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            Err(error) => {
                tracing::error!(%error, "signing keys cannot be read again; the last good ones stay");
            }
        }
    }

    /// The keys, read again first if `id` is unknown and the last read is not just over.
    pub fn ring_with(&self, id: &str) -> Arc<KeyRing> {
        let ring = self.ring();
        if ring.verifying(id).is_some() || !self.may_reread() {
            return ring;
        }
        self.reread();
        self.ring()
    }

    /// Tokens with invented key ids must not make us read files at every request.
    fn may_reread(&self) -> bool {
        let mut last = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= REREAD_PAUSE;
        if due {
            *last = Instant::now();
        }
        due
    }

    /// Re-reads the directory every [`REREAD_EVERY`] until `stop`.
    pub async fn follow(self: Arc<Self>, stop: tokio_util::sync::CancellationToken) {
        let mut every = tokio::time::interval(REREAD_EVERY);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            let keys = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || keys.reread()).await;
        }
    }
}

fn read_directory(directory: &Path) -> Result<Files, KeyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| KeyError::Read { path, cause }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // A mounted Secret keeps its files behind entries that begin with a dot.
        let is_key = path.extension().is_some_and(|extension| extension == "pem") && !name.starts_with('.');
        if is_key {
            files.insert(name.to_owned(), std::fs::read(&path).map_err(failed(&path))?);
        }
    }
    Ok(files)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh P-256 private key as PEM.
    pub(crate) fn pem() -> String {
        rcgen::KeyPair::generate().unwrap().serialize_pem()
    }

    pub(crate) fn ring(pems: &[&str]) -> KeyRing {
        let files = pems.iter().enumerate().map(|(i, pem)| (format!("{i}.pem"), pem.as_bytes().to_vec()));
        KeyRing::new(&files.collect()).unwrap()
    }

    pub(crate) struct Directory(pub PathBuf);

    impl Directory {
        pub(crate) fn new() -> Self {
            let path = std::env::temp_dir().join(format!("keys-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn put(&self, name: &str, content: &str) {
            std::fs::write(self.0.join(name), content).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_newest_name_signs_and_all_are_published() {
        let (older, newer) = (pem(), pem());
        let both = ring(&[&older, &newer]);
        assert_eq!(both.published().keys.len(), 2);
        assert_eq!(both.signing_id(), ring(&[&newer]).signing_id());
        assert!(both.verifying(ring(&[&older]).signing_id()).is_some());
        for key in &both.published().keys {
            let json = serde_json::to_value(key).unwrap();
            let told = ["kty", "crv", "alg", "use"].map(|name| json[name].as_str().unwrap().to_owned());
            assert_eq!(told, ["EC", "P-256", "ES256", "sig"]);
            assert!(json.get("d").is_none(), "the private half is never published");
        }
    }

    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_7638() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        use sha2::Digest as _;
        let ring = ring(&[&pem()]);
        let key = serde_json::to_value(&ring.published().keys[0]).unwrap();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        assert_eq!(ring.signing_id(), URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(canonical)));
        assert_eq!(key["kid"], ring.signing_id());
    }

    #[test]
    fn a_changed_directory_is_followed_and_a_broken_one_is_not() {
        let directory = Directory::new();
        directory.put("1.pem", &pem());
        directory.put("note.txt", "no key");
        let keys = SigningKeys::load(&directory.0).unwrap();
        let first = keys.ring().signing_id().to_owned();
        directory.put("2.pem", &pem());
        keys.reread();
        assert_ne!(keys.ring().signing_id(), first);
        assert!(keys.ring().verifying(&first).is_some());
        directory.put("3.pem", "rubbish");
        keys.reread();
        assert_eq!(keys.ring().published().keys.len(), 2, "the last good keys stay");
    }

    #[test]
    fn no_key_is_an_error() {
        let directory = Directory::new();
        assert!(matches!(SigningKeys::load(&directory.0), Err(KeyError::Count { found: 0 })));
        assert!(matches!(SigningKeys::load(Path::new("/nonexistent")), Err(KeyError::Read { .. })));
    }
}
