//! What every HTTP surface of hpns shares: listeners, the accept loop with its limits, and the one
//! form of error body.
//!
//! The loop logs no URL and no header: a licence key may stand in either.

mod activity;
mod body;
mod drain;
mod edge;
mod floor;
mod limits;
mod listener;
mod peer;
mod problem;
mod rates;
mod server;
mod tls;

pub use body::{Arriving, BodyFault, discard, read};
pub use drain::DrainService;
pub use edge::Edge;
pub use limits::{Limit, Limits};
pub use listener::bind;
pub use peer::{Peer, TrustedProxies, networks, site};
pub use problem::{ErrorKind, Problem};
pub use rates::{NetworkRates, Rates};
pub use server::serve;
pub use tls::{Tls, TlsError};
