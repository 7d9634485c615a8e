//! `ProxyResolver` HTTP proxy, for a service that reaches the providers through one.

use secrecy::SecretString;

/// An HTTP proxy that takes CONNECT (RFC 9110, section 9.3.6).
#[derive(Debug, Clone)]
pub struct OutboundProxy {
    /// `http://host:port`, without a login.
    pub address: String,
    /// The value of `Proxy-Authorization`, if it asks for one.
    pub authorization: Option<SecretString>,
}
