//! Certificates as data: an authority and a serving certificate, made, read from a Secret, judged.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

/// Life of the authority. Its rotation needs both authorities in the bundle for a while.
const CA_LIFE: Duration = Duration::days(3650);
/// Life of a serving certificate; renewed after two thirds of it.
const LEAF_LIFE: Duration = Duration::days(90);
/// Clocks of the API server's hosts may be this much behind.
const CLOCK_SKEW: Duration = Duration::minutes(10);

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

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

/// An authority with its key, and a serving certificate with its key; all PEM. No `Debug`: it holds keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority's certificate: the `caBundle`.
    pub ca: String,
    ca_key: String,
    /// The serving certificate.
    pub certificate: String,
    /// The serving certificate's key.
    pub key: String,
}

/// What a certificate says of itself.
struct Facts {
    names: Vec<String>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    not_before: i64,
    not_after: i64,
}

impl Material {
    /// A new authority and a serving certificate for these names.
    pub fn make(names: &[String], now: OffsetDateTime) -> Result<Self, MaterialError> {
        let ca_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // The time tells two authorities apart in a bundle.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("agent-ready webhook {}", now.unix_timestamp()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (now - CLOCK_SKEW, now + CA_LIFE);
        let ca = params.self_signed(&ca_key)?.pem();
        Self::sign(ca, ca_key.serialize_pem(), names, now)
    }

    /// A new serving certificate of the same authority, for these names beside those of the present one.
    pub fn renew(&self, names: &[String], now: OffsetDateTime) -> Result<Self, MaterialError> {
        let mut all = read(&self.certificate).map(|facts| facts.names).unwrap_or_default();
        all.extend(names.iter().cloned());
        all.sort();
        all.dedup();
        Self::sign(self.ca.clone(), self.ca_key.clone(), &all, now)
    }

    fn sign(
        ca: String,
        ca_key: String,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Self, MaterialError> {
        let issuer = Issuer::from_ca_cert_pem(&ca, KeyPair::from_pem(&ca_key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "agent-ready webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (now - CLOCK_SKEW, now + LEAF_LIFE);
        let certificate = params.signed_by(&key, &issuer)?.pem();
        drop(issuer);
        Ok(Self { ca, ca_key, certificate, key: key.serialize_pem() })
    }

    /// Whether the authority can still sign a serving certificate for its whole life.
    pub fn authority_lasts(&self, now: OffsetDateTime) -> bool {
        read(&self.ca).is_some_and(|facts| {
            (now + LEAF_LIFE).unix_timestamp() < facts.not_after && facts.has_key(&self.ca_key)
        })
    }

    /// Whether the serving certificate is of this authority, has all these names and its key, and is in the first two
    /// thirds of its life.
    pub fn serves(&self, names: &[String], now: OffsetDateTime) -> bool {
        let (Some(leaf), Some(ca)) = (read(&self.certificate), read(&self.ca)) else { return false };
        let renewal = leaf.not_before + (leaf.not_after - leaf.not_before) / 3 * 2;
        (leaf.not_before..renewal).contains(&now.unix_timestamp())
            && leaf.issuer == ca.subject
            && leaf.has_key(&self.key)
            && names.iter().all(|name| leaf.names.contains(name))
    }

    /// When the serving certificate ends, in seconds since 1970.
    pub fn ends_at(&self) -> i64 {
        read(&self.certificate).map_or(0, |facts| facts.not_after)
    }

    /// Reads the data of a Secret. A broken serving certificate is left to [`Self::serves`]: the authority outlives it.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, MaterialError> {
        let text = |key: &'static str| match data.get(key).map(|bytes| String::from_utf8(bytes.0.clone())) {
            Some(Ok(text)) => Ok(text),
            _ if key == CERTIFICATE || key == KEY => Ok(String::new()),
            _ => Err(MaterialError::Missing(key)),
        };
        Ok(Self { ca: text(CA)?, ca_key: text(CA_KEY)?, certificate: text(CERTIFICATE)?, key: text(KEY)? })
    }

    /// The data of a Secret.
    pub fn to_secret(&self) -> BTreeMap<String, ByteString> {
        [(CA, &self.ca), (CA_KEY, &self.ca_key), (CERTIFICATE, &self.certificate), (KEY, &self.key)]
            .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
            .into()
    }
}

impl Facts {
    fn has_key(&self, pem: &str) -> bool {
        KeyPair::from_pem(pem).is_ok_and(|key| key.public_key_raw() == self.public_key)
    }
}

fn read(pem: &str) -> Option<Facts> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
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
mod tests {
    use super::*;
    use crate::serve::tls;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_made_serves_its_names_until_two_thirds_of_its_life() {
        let now = OffsetDateTime::now_utc();
        let both = names(&["webhook.agent-ready-system.svc", "10.0.0.1"]);
        let material = Material::make(&both, now).unwrap();
        assert!(material.serves(&both, now) && material.authority_lasts(now));
        assert!(material.serves(&both[..1], now + Duration::days(59)));
        assert!(!material.serves(&both, now + Duration::days(61)));
        assert!(!material.serves(&both, now - Duration::days(1)));
        assert!(!material.serves(&names(&["other.svc"]), now));
        assert!(!material.authority_lasts(now + Duration::days(3600)));
        let read = Material::from_secret(&material.to_secret()).unwrap();
        assert!(read == material);
    }

    #[test]
    fn a_renewal_keeps_the_authority_and_the_names() {
        let now = OffsetDateTime::now_utc();
        let first = Material::make(&names(&["a.svc"]), now).unwrap();
        let renewed = first.renew(&names(&["10.0.0.1"]), now).unwrap();
        assert_eq!(renewed.ca, first.ca);
        assert!(renewed.serves(&names(&["a.svc", "10.0.0.1"]), now));
    }

    #[test]
    fn what_does_not_belong_together_is_not_served() {
        let now = OffsetDateTime::now_utc();
        let name = names(&["a.svc"]);
        let (first, later) =
            (Material::make(&name, now).unwrap(), Material::make(&name, now + Duration::SECOND).unwrap());
        assert!(!Material { key: later.key.clone(), ..first.clone() }.serves(&name, now));
        assert!(
            !Material { certificate: later.certificate, key: later.key, ..first.clone() }.serves(&name, now)
        );
        assert!(!Material { ca_key: later.ca_key, ..first.clone() }.authority_lasts(now));
        let mut data = first.to_secret();
        data.remove(CERTIFICATE);
        let read = Material::from_secret(&data).unwrap();
        assert!(read.authority_lasts(now) && !read.serves(&name, now));
        assert!(read.renew(&name, now).unwrap().serves(&name, now));
    }

    #[test]
    fn a_broken_secret_is_named() {
        let mut data = Material::make(&names(&["a.svc"]), OffsetDateTime::now_utc()).unwrap().to_secret();
        data.remove(CA_KEY);
        assert!(matches!(Material::from_secret(&data), Err(MaterialError::Missing(CA_KEY))));
        data.insert(CA_KEY.to_owned(), ByteString(vec![0xff]));
        assert!(Material::from_secret(&data).is_err());
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_accepts_the_chain_before_and_after_a_renewal() {
        runtime::crypto::install();
        let first = Material::make(&names(&["127.0.0.1"]), OffsetDateTime::now_utc()).unwrap();
        let renewed = first.renew(&[], OffsetDateTime::now_utc()).unwrap();
        for material in [&first, &renewed] {
            let acceptor = tokio_rustls::TlsAcceptor::from(
                tls::server_config(&material.certificate, &material.key).unwrap(),
            );
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server =
                tokio::spawn(
                    async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() },
                );
            tls::self_test(address, "127.0.0.1", &first.ca).await.unwrap();
            assert!(server.await.unwrap());
        }
    }
}
