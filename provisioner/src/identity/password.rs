//! Password hashing with Argon2id, on threads of its own, as many as there are cores.
//!
//! Not on the runtime's blocking threads: each of these would keep its own 19 MiB and more in the allocator.

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use tokio::sync::oneshot;

/// Least characters of a new password (NIST SP 800-63B).
pub const LENGTH_MIN: usize = 8;
/// Most bytes of a password: hashing cost and memory stay bounded.
pub const LENGTH_MAX_BYTES: usize = 1024;

/// Why a password cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than [`LENGTH_MIN`] characters.
    #[error("a password has at least {LENGTH_MIN} characters")]
    TooShort,
    /// More than [`LENGTH_MAX_BYTES`] bytes.
    #[error("a password has at most {LENGTH_MAX_BYTES} bytes")]
    TooLong,
}

/// Whether a new password may be set.
pub fn acceptable(password: &str) -> Result<(), WeakPassword> {
    if password.len() > LENGTH_MAX_BYTES {
        Err(WeakPassword::TooLong)
    } else if password.chars().count() < LENGTH_MIN {
        Err(WeakPassword::TooShort)
    } else {
        Ok(())
    }
}

/// Why hashing or checking failed; a wrong password is not among these.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The hash could not be computed, or the stored one cannot be read.
    #[error("password hash: {0}")]
    Hash(#[from] password_hash::Error),
    /// Too many wait already, or the thread that hashed ended early.
    #[error("password hashing was interrupted")]
    Interrupted,
}

/// Most passwords that wait to be hashed; more are refused at once.
const WAITING_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and checks passwords: tens of milliseconds of one core each, never more at once than there are cores.
#[derive(Clone)]
pub struct Passwords {
    jobs: mpsc::SyncSender<Job>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Default for Passwords {
    /// Starts the threads; they end when the last clone is gone.
    fn default() -> Self {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    job();
                }
            });
        }
        Self { jobs }
    }
}

impl Passwords {
    /// The PHC string of a new hash of `password`, with a random salt.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.on_a_core(move || hash_now(&password)).await
    }

    /// Whether `password` is the one behind `stored`.
    ///
    /// Without a stored hash (no such user, or a user without a password) the same work is done against a hash that
    /// nothing matches, so that the time tells nobody which addresses are known.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, PasswordError> {
        self.on_a_core(move || verify_now(&password, stored.as_deref())).await
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            let _ = done.send(work());
        });
        self.jobs.try_send(job).map_err(|_| PasswordError::Interrupted)?;
        Ok(result.await.map_err(|_| PasswordError::Interrupted)??)
    }
}

thread_local! {
    /// The memory of this thread's hashes: used again and again, for the allocator would not give it back between two.
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// The hash of `password` with these parameters and this salt.
fn derive(argon2: &Argon2<'_>, password: &str, salt: &[u8]) -> Result<Output, password_hash::Error> {
    let blocks = argon2.params().block_count();
    let mut output = [0; Output::MAX_LENGTH];
    let output = output
        .get_mut(..argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))
        .ok_or(password_hash::Error::OutputSize)?;
    MEMORY.with_borrow_mut(|memory| {
        if memory.len() < blocks {
            memory.resize(blocks, Block::default());
        }
        argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..blocks])
    })?;
    Ok(Output::new(output)?)
}

fn hash_now(password: &str) -> Result<String, password_hash::Error> {
    let (argon2, salt) = (Argon2::default(), rand::random::<[u8; 16]>());
    let output = derive(&argon2, password, &salt)?;
    let hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(&salt)?),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// A hash with today's parameters, of a random text that is forgotten at once.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now(&uuid::Uuid::new_v4().to_string()).ok());

fn verify_now(password: &str, stored: Option<&str>) -> Result<bool, password_hash::Error> {
    // Ready before the first check, so that no unknown user's check pays for making it.
    let nobody = NOBODY.as_deref().ok_or(password_hash::Error::Crypto)?;
    let hash = PasswordHash::new(stored.unwrap_or(nobody))?;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Err(password_hash::Error::Crypto);
    };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
    // Compared in constant time: that is what `Output`'s equality is.
    let same = derive(&argon2, password, salt)? == *expected;
    Ok(same && stored.is_some())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn the_right_password_passes_and_no_other() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("Correct horse".into(), Some(hash.clone())).await.unwrap());
        assert_ne!(hash, passwords.hash("correct horse".into()).await.unwrap());
    }

    #[test]
    fn hashes_are_the_librarys_in_both_directions() {
        use argon2::{PasswordHasher as _, PasswordVerifier as _};
        let ours = hash_now("correct horse").unwrap();
        Argon2::default().verify_password(b"correct horse", ours.as_str()).unwrap();
        let theirs: PasswordHash = Argon2::default().hash_password(b"correct horse").unwrap();
        assert!(verify_now("correct horse", Some(&theirs.to_string())).unwrap());
    }

    #[tokio::test]
    async fn nobody_has_no_password_and_takes_as_long() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        let best = async |stored: Option<String>| {
            let mut best = Duration::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                assert!(!passwords.verify("guess".into(), stored.clone()).await.unwrap());
                best = best.min(start.elapsed());
            }
            best
        };
        let (known, unknown) = (best(Some(hash)).await, best(None).await);
        let ratio = unknown.as_secs_f64() / known.as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "known {known:?}, unknown {unknown:?}");
    }

    #[tokio::test]
    async fn a_broken_stored_hash_is_an_error_and_not_a_pass() {
        let verdict = Passwords::default().verify("x".into(), Some("plain".into())).await;
        assert!(matches!(verdict, Err(PasswordError::Hash(_))));
    }

    #[test]
    fn length_is_bounded_on_both_sides() {
        assert_eq!(acceptable("1234567"), Err(WeakPassword::TooShort));
        assert_eq!(acceptable("ääääääää"), Ok(()));
        assert_eq!(acceptable(&"x".repeat(1025)), Err(WeakPassword::TooLong));
    }
}
