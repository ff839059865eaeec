//! TLS settings from PEM, and the self-test of the serving chain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// How long the self-test may take.
const SELF_TEST_TIME_MAX: Duration = Duration::from_secs(3);

/// Why certificates cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not what it should be.
    #[error("the PEM data cannot be read: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// rustls refuses them.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// What a listener serves with: HTTP/1.1 only, which the API server keeps open and pools.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts only this authority.
pub fn client_config(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Asks the own listener as the API server will: by this name, trusting this bundle.
pub async fn self_test(address: SocketAddr, name: &str, ca_pem: &str) -> anyhow::Result<()> {
    tokio::time::timeout(SELF_TEST_TIME_MAX, ask(address, name, ca_pem)).await?
}

async fn ask(address: SocketAddr, name: &str, ca_pem: &str) -> anyhow::Result<()> {
    let connector = TlsConnector::from(client_config(ca_pem)?);
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(ServerName::try_from(name.to_owned())?, stream).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: self-test\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    ensure!(status == *b"HTTP/1.1 200", "the own listener answered {}", String::from_utf8_lossy(&status));
    Ok(())
}
