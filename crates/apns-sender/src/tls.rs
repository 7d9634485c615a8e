//! TLS towards Apple: rustls with aws-lc-rs, ALPN `h2`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::Certificate;

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file is missing, unreadable or holds no certificate.
    #[error("the CA file holds no readable PEM certificate")]
    CaFile,
    /// The machine has no root certificates.
    #[error("no root certificates were found on this machine")]
    NoRoots,
    /// rustls refused the set-up.
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

/// Trusts the machine's roots, or only those in `ca_file` when it is given; shows `certificate` if there
/// is one.
pub(crate) fn client_config(
    ca_file: Option<&Path>,
    certificate: Option<&Certificate>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path).map_err(|_| TlsError::CaFile)?;
        for certificate in certificates {
            roots.add(certificate.map_err(|_| TlsError::CaFile)?).map_err(|_| TlsError::CaFile)?;
        }
        if roots.is_empty() {
            return Err(TlsError::CaFile);
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
