//! TLS towards Apple: rustls with aws-lc-rs, ALPN `h2`.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::Certificate;

/// No TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct TlsError(#[from] rustls::Error);

/// Trusts `roots`, which all senders of a process share; shows `certificate` if there is one.
pub(crate) fn client_config(
    roots: Arc<RootCertStore>,
    certificate: Option<&Certificate>,
) -> Result<Arc<ClientConfig>, TlsError> {
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
