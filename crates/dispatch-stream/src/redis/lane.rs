//! Lane: one independent Redis server, its address and its key prefix.

use std::fmt;
use std::sync::Arc;

use redis::{Client, IntoConnectionInfo, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};

use super::keys::Keys;

/// A lane whose address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLane {
    /// Not an address. (It is not repeated: it may hold a password.)
    #[error(
        "a lane is redis://, rediss:// (TLS) or unix://, with user and password where the server asks for them"
    )]
    Address,
    /// The CA certificate cannot be used.
    #[error("the certificate of the lanes' authority cannot be used")]
    Certificate,
}

/// Why a lane may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneFault {
    /// Nobody answers there, or not as a Redis does.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Its configuration would keep pushes on a disk, or lose them silently.
    #[error("its configuration is not safe: {0}")]
    Unsafe(String),
}

/// Lane: the client of one Redis server, and its key names. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    name: Arc<str>,
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) checks_server: bool,
}

impl Lane {
    /// Takes an address; nothing is connected yet.
    ///
    /// `name` stands for the lane in logs and metrics. All keys begin with `prefix`. With
    /// `checks_server` a server whose configuration is not safe is never used, at no reconnection.
    /// `authority` is a CA certificate in PEM, for servers with one of their own.
    pub fn new(
        name: &str,
        address: &SecretString,
        prefix: &str,
        checks_server: bool,
        authority: Option<Vec<u8>>,
    ) -> Result<Self, InvalidLane> {
        let info = address.expose_secret().into_connection_info().map_err(|_| InvalidLane::Address)?;
        let client = match authority {
            None => Client::open(info).map_err(|_| InvalidLane::Address)?,
            Some(root) => {
                let trusted = TlsCertificates { client_tls: None, root_cert: Some(root) };
                Client::build_with_tls(info, trusted).map_err(|_| InvalidLane::Certificate)?
            }
        };
        Ok(Self { name: name.into(), client, keys: Keys::new(prefix), checks_server })
    }

    /// Returns its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).finish_non_exhaustive()
    }
}
