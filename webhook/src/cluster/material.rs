//! Certificates as data: an authority and a serving certificate, made, read from a Secret, judged.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{extensions::GeneralName, pem::Pem};

/// Clocks of the API server's hosts may be this much behind; of a short life a tenth.
const CLOCK_SKEW: Duration = Duration::minutes(10);

const PEM_END: &str = "-----END CERTIFICATE-----";
/// Authorities that are trusted at once.
const BUNDLE_MAX: usize = 4;

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca-bundle.crt";
const NEXT_CA: &str = "next-ca.crt";
const NEXT_CA_KEY: &str = "next-ca.key";

/// Why certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// Making them failed.
    #[error("certificates cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The Secret lacks a key, or it is no PEM text.
    #[error("the Secret has no usable {0}")]
    Missing(&'static str),
}

/// How long certificates live, and how long each stage of an authority's rotation lasts.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Of the authority.
    pub authority: Duration,
    /// Of the serving certificate.
    pub leaf: Duration,
    /// From one stage of a rotation to the next: within it every replica and every API server has followed.
    pub overlap: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { authority: Duration::days(3650), leaf: Duration::days(90), overlap: Duration::hours(1) }
    }
}

/// An authority: its certificate and its key, PEM. No `Debug`: it holds a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    pub certificate: String,
    pub(super) key: String,
}

/// What is served, and what signs it; all PEM. No `Debug`: it holds keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority that signed the serving certificate. Its key is empty where another program signs.
    pub authority: Authority,
    /// The authority that will sign the next one; the bundle has it already.
    pub next: Option<Authority>,
    /// The `caBundle`: every authority whose certificates may be met.
    pub bundle: String,
    /// The serving certificate, and what is between it and its authority.
    pub certificate: String,
    /// The serving certificate's key.
    pub key: String,
}

/// What a certificate says of itself.
pub(super) struct Facts {
    names: Vec<String>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    not_before: i64,
    not_after: i64,
}

impl Authority {
    /// A new one.
    pub fn make(life: Duration, now: OffsetDateTime) -> Result<Self, MaterialError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // The time tells two authorities apart in a bundle.
        let made = now.unix_timestamp_nanos() / 1_000_000;
        params.distinguished_name.push(DnType::CommonName, format!("agent-ready webhook {made}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (now - skew(life), now + life);
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }

    /// Whether it can sign: valid, with its own key.
    pub fn signs(&self, now: OffsetDateTime) -> bool {
        read(&self.certificate).is_some_and(|facts| facts.valid(now) && facts.has_key(&self.key))
    }

    /// Whether it is at least this old.
    pub fn older_than(&self, age: Duration, lives: &Lives, now: OffsetDateTime) -> bool {
        older(&self.certificate, age, lives.authority, now)
    }

    /// Whether a third of its life or less is left.
    pub fn due(&self, now: OffsetDateTime) -> bool {
        read(&self.certificate).is_none_or(|facts| now.unix_timestamp() >= facts.renewal())
    }
}

impl Material {
    /// A serving certificate of a new authority, for these names. What `trusted` has stays in the bundle.
    pub fn make(
        names: &[String],
        lives: &Lives,
        trusted: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Self, MaterialError> {
        let authority = Authority::make(lives.authority, now)?;
        let bundle = bundle(&authority.certificate, trusted.unwrap_or_default());
        Self::sign(authority, bundle, names, lives, now)
    }

    /// A new serving certificate of the same authority, for these names beside those of the present one.
    pub fn renew(&self, names: &[String], lives: &Lives, now: OffsetDateTime) -> Result<Self, MaterialError> {
        let signed =
            Self::sign(self.authority.clone(), self.bundle.clone(), &self.all_names(names), lives, now)?;
        Ok(Self { next: self.next.clone(), ..signed })
    }

    /// A serving certificate of the next authority, whose predecessor stays in the bundle.
    pub fn promote(
        &self,
        next: &Authority,
        names: &[String],
        lives: &Lives,
        now: OffsetDateTime,
    ) -> Result<Self, MaterialError> {
        Self::sign(next.clone(), self.bundle.clone(), &self.all_names(names), lives, now)
    }

    fn all_names(&self, names: &[String]) -> Vec<String> {
        let mut all = read(&self.certificate).map(|facts| facts.names).unwrap_or_default();
        all.extend(names.iter().cloned());
        all.sort();
        all.dedup();
        all
    }

    fn sign(
        authority: Authority,
        bundle: String,
        names: &[String],
        lives: &Lives,
        now: OffsetDateTime,
    ) -> Result<Self, MaterialError> {
        let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "agent-ready webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let end = ends_at(&authority.certificate);
        let end = OffsetDateTime::from_unix_timestamp(end).unwrap_or(now + lives.leaf);
        (params.not_before, params.not_after) = (now - skew(lives.leaf), (now + lives.leaf).min(end));
        let certificate = params.signed_by(&key, &issuer)?.pem();
        drop(issuer);
        Ok(Self { authority, next: None, bundle, certificate, key: key.serialize_pem() })
    }

    /// Whether the serving certificate is valid, of this authority, for all these names and its key.
    pub fn serves(&self, names: &[String], now: OffsetDateTime) -> bool {
        let (Some(leaf), Some(ca)) = (read(&self.certificate), read(&self.authority.certificate)) else {
            return false;
        };
        leaf.valid(now)
            && leaf.issuer == ca.subject
            && leaf.has_key(&self.key)
            && names.iter().all(|name| leaf.names.contains(name))
    }

    /// Whether a third of the serving certificate's life or less is left.
    pub fn leaf_due(&self, now: OffsetDateTime) -> bool {
        read(&self.certificate).is_none_or(|facts| now.unix_timestamp() >= facts.renewal())
    }

    /// Whether the serving certificate is at least this old.
    pub fn leaf_older_than(&self, age: Duration, lives: &Lives, now: OffsetDateTime) -> bool {
        older(&self.certificate, age, lives.leaf, now)
    }

    /// Reads the data of a Secret. A broken serving certificate is left to [`Self::serves`], a lost key of the authority to
    /// [`Authority::signs`]: the authority outlives them.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, MaterialError> {
        let text = |key: &str| {
            data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default()
        };
        let certificate = text(CA);
        if read(&certificate).is_none() {
            return Err(MaterialError::Missing(CA));
        }
        let next = Authority { certificate: text(NEXT_CA), key: text(NEXT_CA_KEY) };
        let next = read(&next.certificate).is_some().then_some(next);
        let mut bundle = text(BUNDLE);
        for authority in next.iter().map(|next| &next.certificate).chain([&certificate]) {
            if !contains(&bundle, authority) {
                bundle = self::bundle(authority, &bundle);
            }
        }
        let authority = Authority { certificate, key: text(CA_KEY) };
        Ok(Self { authority, next, bundle, certificate: text(CERTIFICATE), key: text(KEY) })
    }

    /// The data of a Secret.
    pub fn to_secret(&self) -> BTreeMap<String, ByteString> {
        let next = self.next.iter().flat_map(|next| [(NEXT_CA, &next.certificate), (NEXT_CA_KEY, &next.key)]);
        let fixed = [
            (CA, &self.authority.certificate),
            (CA_KEY, &self.authority.key),
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
            (BUNDLE, &self.bundle),
        ];
        let data = fixed.into_iter().chain(next);
        data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).collect()
    }
}

impl Facts {
    fn has_key(&self, pem: &str) -> bool {
        KeyPair::from_pem(pem).is_ok_and(|key| key.public_key_raw() == self.public_key)
    }

    fn valid(&self, now: OffsetDateTime) -> bool {
        (self.not_before..self.not_after).contains(&now.unix_timestamp())
    }

    /// When two thirds of the life are over.
    fn renewal(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}

/// The certificate before those of `older`, [`BUNDLE_MAX`] in all.
pub fn bundle(certificate: &str, older: &str) -> String {
    let older =
        older.split_inclusive(PEM_END).filter(|pem| pem.contains("BEGIN") && !contains(certificate, pem));
    let older = older.take(BUNDLE_MAX - 1).map(|pem| pem.trim().to_owned() + "\n");
    older.fold(certificate.to_owned(), |bundle, pem| bundle + &pem)
}

/// Whether a bundle has this certificate.
pub fn contains(bundle: &str, certificate: &str) -> bool {
    let Some(wanted) = pems(certificate).next() else { return false };
    pems(bundle).any(|pem| pem.contents == wanted.contents)
}

/// When the first certificate of a PEM text ends, in seconds since 1970; 0 if there is none.
pub fn ends_at(pem: &str) -> i64 {
    read(pem).map_or(0, |facts| facts.not_after)
}

/// When the authority in `bundle` that signed `leaf` ends, in seconds since 1970; 0 if it has none.
pub fn issuer_ends_at(bundle: &str, leaf: &str) -> i64 {
    let Some(leaf) = read(leaf) else { return 0 };
    let authorities = pems(bundle).filter_map(|pem| facts(&pem));
    authorities.filter(|ca| ca.subject == leaf.issuer).map(|ca| ca.not_after).max().unwrap_or(0)
}

/// Whether a certificate, made for this life, is at least this old.
fn older(pem: &str, age: Duration, life: Duration, now: OffsetDateTime) -> bool {
    let not_before = read(pem).map_or(0, |facts| facts.not_before);
    now - skew(life) - age >= OffsetDateTime::from_unix_timestamp(not_before).unwrap_or(now)
}

fn skew(life: Duration) -> Duration {
    CLOCK_SKEW.min(life / 10)
}

fn pems(text: &str) -> impl Iterator<Item = Pem> + '_ {
    Pem::iter_from_buffer(text.as_bytes()).map_while(Result::ok)
}

fn read(pem: &str) -> Option<Facts> {
    facts(&pems(pem).next()?)
}

fn facts(pem: &Pem) -> Option<Facts> {
    let certificate = pem.parse_x509().ok()?;
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name_of).collect(),
        _ => Vec::new(),
    };
    let validity = certificate.validity();
    Some(Facts {
        names,
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "material_tests.rs"]
mod tests;
