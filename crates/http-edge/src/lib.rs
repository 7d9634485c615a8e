//! HTTP server that every surface of hpns shares: listeners, the accept loop with its limits, and the one
//! form of error body.
//!
//! The loop logs no URL and no header: a licence key may stand in either.

mod activity;
mod body;
mod connection_table;
mod drain;
mod edge;
mod limits;
mod listener;
mod peer;
mod problem;
mod rate_limiter;
mod server;
mod tls;

pub use body::{BodyFault, LimitedBody, discard, read};
pub use drain::DrainService;
pub use edge::Edge;
pub use limits::{Limit, Limits};
pub use listener::bind;
pub use peer::{Peer, TrustedProxies, networks, site};
pub use problem::{ErrorKind, Problem};
pub use rate_limiter::{KeyedRateLimiter, NetworkRateLimiter};
pub use server::serve;
pub use tls::{Tls, TlsError};
