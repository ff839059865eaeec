//! The platform's own certificate authority, for every server and client on it.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// How long certificates hold: a local platform is made anew long before.
const VALIDITY: Duration = Duration::days(365);

/// A certificate authority with its folder: `ca.crt`, `ca.key`, and a pair `<name>.crt`, `<name>.key` per certificate.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, on disk and in hand (PEM, ECDSA P-256).
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate's file.
    pub certificate_file: PathBuf,
    /// The private key's file, for its owner alone.
    pub key_file: PathBuf,
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl Authority {
    /// Opens the authority in `folder`, or makes a new one.
    pub fn open_or_create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        if !certificate.exists() {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "agent-ready local authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            set_validity(&mut params);
            let pair = KeyPair::generate().context("generate the authority's key")?;
            let signed = params.self_signed(&pair).context("sign the authority's certificate")?;
            write_secret(&key, &pair.serialize_pem())?;
            fs::write(&certificate, signed.pem())?;
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(&key)?).context("read the authority's key")?;
        let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(&certificate)?, pair)
            .context("read the authority's certificate")?;
        Ok(Self { folder: folder.to_owned(), issuer })
    }

    /// The authority's certificate file (PEM).
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Issues a certificate for servers and clients: `cn` and `organizations` name the client, `names` (host names
    /// and addresses) the server.
    pub fn issue(&self, name: &str, cn: &str, organizations: &[&str], names: &[&str]) -> Result<Issued> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, cn);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().with_context(|| format!("host name {name}"))?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params);
        let pair = KeyPair::generate().context("generate a key")?;
        let certificate = params.signed_by(&pair, &self.issuer).context("sign a certificate")?.pem();
        let key = pair.serialize_pem();
        let certificate_file = self.folder.join(format!("{name}.crt"));
        let key_file = self.folder.join(format!("{name}.key"));
        write_secret(&key_file, &key)?;
        fs::write(&certificate_file, &certificate)?;
        Ok(Issued { certificate_file, key_file, certificate, key })
    }
}

fn set_validity(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    // Clocks of other programs may be a little behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + VALIDITY;
}

/// Writes a file that its owner alone may read.
pub fn write_secret(path: &Path, content: &str) -> Result<()> {
    // The mode counts at creation alone.
    let _ = fs::remove_file(path);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    file.write_all(content.as_bytes()).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_authority_is_opened_again_and_its_keys_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open_or_create(folder.path()).unwrap();
        let first = fs::read_to_string(folder.path().join("ca.crt")).unwrap();
        let authority = Authority::open_or_create(folder.path()).unwrap();
        assert_eq!(first, fs::read_to_string(authority.certificate_file()).unwrap());
        let issued = authority.issue("x", "x", &["system:nodes"], &["127.0.0.1", "localhost"]).unwrap();
        assert_eq!(fs::metadata(issued.key_file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
