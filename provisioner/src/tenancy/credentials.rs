//! A tenant's credentials: derived from the master key, so that every step can be done again without a stored secret.

use std::{fmt, path::Path};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose};
use contract::OrganizationId;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Least length of the master key, in bytes.
const KEY_BYTES_MIN: usize = 32;
/// Rounds of PBKDF2 in a SCRAM verifier. Rounds slow down guessing, and nobody guesses 256 random bits; PostgreSQL would
/// compute each of them again when the role is made, and at every login.
const SCRAM_ROUNDS: u32 = 1;

/// Where a tenant logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PostgreSQL, through the pooler.
    Database,
    /// Redis.
    Redis,
}

impl Target {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Database => b"pg",
            Self::Redis => b"redis",
        }
    }
}

/// Which of a tenant's credentials: two login slots take turns, a generation is one password of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// 0 or 1.
    pub slot: i16,
    /// Counts the passwords of the slot.
    pub generation: u32,
}

impl Login {
    /// The login that a new tenant gets.
    pub const FIRST: Self = Self { slot: 0, generation: 0 };
}

/// The key that all tenants' passwords are derived from.
#[derive(Clone)]
pub struct MasterKey(Hkdf<Sha256>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// Reads the key file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("master key {}", path.display()))?;
        Self::new(&bytes).with_context(|| format!("master key {}", path.display()))
    }

    /// A key from its bytes.
    pub fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        ensure!(bytes.len() >= KEY_BYTES_MIN, "at least {KEY_BYTES_MIN} bytes are needed");
        Ok(Self(Hkdf::new(Some(b"agent-ready-k8s tenant credentials"), bytes)))
    }

    /// The password of a tenant's login: 256 bits in base64url, which needs no escaping in a URL.
    pub fn password(&self, target: Target, organization: OrganizationId, login: Login) -> String {
        general_purpose::URL_SAFE_NO_PAD.encode(self.derive(&[
            target.label(),
            organization.0.as_bytes(),
            &login.slot.to_be_bytes(),
            &login.generation.to_be_bytes(),
        ]))
    }

    /// The SCRAM salt of a tenant's login. Derived too, so that a repeated step writes the same verifier.
    fn salt(&self, organization: OrganizationId, login: Login) -> [u8; 16] {
        let mut salt = [0; 16];
        let derived = self.derive(&[
            b"salt",
            organization.0.as_bytes(),
            &login.slot.to_be_bytes(),
            &login.generation.to_be_bytes(),
        ]);
        salt.copy_from_slice(&derived[..16]);
        salt
    }

    #[allow(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
    fn derive(&self, info: &[&[u8]]) -> [u8; 32] {
        let mut output = [0; 32];
        self.0.expand_multi_info(info, &mut output).expect("32 bytes are within HKDF's limit");
        output
    }

    /// The SCRAM-SHA-256 verifier that PostgreSQL keeps for the tenant's login.
    pub fn scram_verifier(&self, organization: OrganizationId, login: Login) -> String {
        let password = self.password(Target::Database, organization, login);
        scram_verifier(&password, &self.salt(organization, login), SCRAM_ROUNDS)
    }
}

/// The verifier as PostgreSQL stores it: `SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey` (RFC 5802 section 3, RFC 7677).
fn scram_verifier(password: &str, salt: &[u8], rounds: u32) -> String {
    let salted: [u8; 32] = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, rounds);
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    let server_key = hmac(&salted, b"Server Key");
    let base64 = |bytes: &[u8]| general_purpose::STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${rounds}:{}${}:{}", base64(salt), base64(&stored_key), base64(&server_key))
}

#[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_verifier_is_rfc_7677s_example() {
        // RFC 7677 section 3: user, password `pencil`, salt W22ZaJ0SNY7soEsUEjb6gQ==, 4096 rounds. Its proof and signature
        // are checked here through the keys that PostgreSQL 15 computes for the same password and salt.
        let salt = general_purpose::STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            scram_verifier("pencil", &salt, 4096),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn every_login_has_its_own_password_and_always_the_same() {
        let key = MasterKey::new(&[7; 32]).unwrap();
        let (a, b) = (OrganizationId(Uuid::from_u128(1)), OrganizationId(Uuid::from_u128(2)));
        let other = Login { slot: 1, generation: 0 };
        let renewed = Login { slot: 0, generation: 1 };
        let passwords = [
            key.password(Target::Database, a, Login::FIRST),
            key.password(Target::Redis, a, Login::FIRST),
            key.password(Target::Database, b, Login::FIRST),
            key.password(Target::Database, a, other),
            key.password(Target::Database, a, renewed),
        ];
        assert_eq!(passwords.iter().collect::<std::collections::HashSet<_>>().len(), passwords.len());
        assert_eq!(passwords[0], key.password(Target::Database, a, Login::FIRST));
        assert_eq!(passwords[0].len(), 43);
        assert_eq!(key.scram_verifier(a, Login::FIRST), key.scram_verifier(a, Login::FIRST));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(MasterKey::new(&[7; 31]).is_err());
    }
}
