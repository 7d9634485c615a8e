//! What every HTTP surface of hpns shares: listeners, the accept loop with its limits, and the one
//! form of error body.
//!
//! The loop logs no URL and no header: a licence key may stand in either.

mod activity;
mod farewell;
mod listener;
mod peer;
mod problem;
mod rates;
mod server;
mod tls;

pub use farewell::Farewell;
pub use listener::bind;
pub use peer::{Peer, TrustedProxies, site};
pub use problem::{ErrorKind, Problem};
pub use rates::Rates;
pub use server::{Limits, serve};
pub use tls::{Tls, TlsError};
