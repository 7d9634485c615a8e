//! TLS termination, for who has no ingress: one certificate, renewed without a restart.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use push_domain::{SecretBytes, Timestamp};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Error of a certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate in PEM.
    #[error("the certificate file is not a PEM file with X.509 certificates")]
    Certificate,
    /// No private key in PEM.
    #[error("the key file is not a PEM file with a private key")]
    Key,
    /// The key belongs to another certificate, or is of an unknown kind.
    #[error("the key does not belong to the certificate, or is of an unknown kind")]
    Mismatch,
    /// rustls refused the set-up.
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

/// The TLS side of a listener: 1.2 and 1.3, HTTP/1.1 and HTTP/2, session resumption by tickets.
///
/// Cheap to clone; all clones serve one certificate and accept each other's tickets, in whatever thread.
#[derive(Clone)]
pub struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    served: Arc<Served>,
}

/// Certificate resolver: serves the current certificate.
struct Served {
    key: ArcSwap<CertifiedKey>,
    expires_at: ArcSwap<Timestamp>,
}

impl Tls {
    /// Reads PEM: the certificate with its chain, and its key.
    pub fn new(certificate: &SecretBytes, key: &SecretBytes) -> Result<Self, TlsError> {
        let (certified, expires_at) = read(certificate, key)?;
        let served = Arc::new(Served {
            key: ArcSwap::from_pointee(certified),
            expires_at: ArcSwap::from_pointee(expires_at),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), served })
    }

    /// Serves another certificate from the next handshake on. On an error the present one stays.
    pub fn renew(&self, certificate: &SecretBytes, key: &SecretBytes) -> Result<(), TlsError> {
        let (certified, expires_at) = read(certificate, key)?;
        self.served.key.store(Arc::new(certified));
        self.served.expires_at.store(Arc::new(expires_at));
        Ok(())
    }

    /// Returns when the present certificate ends to be good.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        **self.served.expires_at.load()
    }
}

fn read(certificate: &SecretBytes, key: &SecretBytes) -> Result<(CertifiedKey, Timestamp), TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Certificate)?;
    let first = chain.first().ok_or(TlsError::Certificate)?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| TlsError::Certificate)?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| TlsError::Key)?;
    let certified =
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|_| TlsError::Mismatch)?;
    Ok((certified, Timestamp::from_millis(seconds.saturating_mul(1000))))
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("expires_at", &self.expires_at()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn a_certificate() -> (SecretBytes, SecretBytes) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        (SecretBytes::new(certificate.pem().into()), SecretBytes::new(key.serialize_pem().into()))
    }

    #[test]
    fn what_cannot_be_served_is_named_and_leaves_the_present_certificate() {
        let ((certificate, key), (_, other)) = (a_certificate(), a_certificate());
        let junk = SecretBytes::new(b"junk".to_vec());
        let tls = Tls::new(&certificate, &key).unwrap();

        assert!(matches!(tls.renew(&junk, &key), Err(TlsError::Certificate)));
        assert!(matches!(tls.renew(&certificate, &junk), Err(TlsError::Key)));
        assert!(matches!(tls.renew(&certificate, &other), Err(TlsError::Mismatch)));
        assert!(tls.renew(&certificate, &key).is_ok());
    }
}
