//! The one TLS crypto provider (ring) of the process.

/// Makes ring the process's default provider. Later calls change nothing, so libraries and tests may call it freely.
pub fn install() {
    // An error says that a provider is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn may_be_called_twice() {
        super::install();
        super::install();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
