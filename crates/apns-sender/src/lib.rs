//! APNs client: sends one notification by `POST /3/device/<token>` over HTTP/2 and TLS.
//!
//! [`ApnsSender`] owns a pool of connections to one APNs environment under one provider key.
//! Connections are opened by need, never hold more requests than Apple allows at the moment, and
//! are replaced when Apple says so. What Apple's answers mean is one pure table, [`response`].
//!
//! The crate knows nothing of tenants, Mattermost or queues; retries are its caller's business,
//! save for requests that Apple provably has not processed.

mod certificate;
mod coalesce;
mod connection;
mod keep_alive;
mod pool;
pub mod response;
mod sender;
mod tls;
mod token;

pub use certificate::Certificate;
pub use connection::Endpoint;
pub use sender::{ApnsSender, Identity, Settings};
pub use tls::TlsError;
pub use token::{InvalidCredentials, ProviderToken, TokenKey};
