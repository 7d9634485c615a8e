//! Delivery worker between the dispatch stream and the providers: claims as many jobs as it can start,
//! sends each, retries or settles it inside its deadline, and records what it learned.
//!
//! The worker sees `dyn PushSender`; it knows neither Apple's nor Google's protocol, and nothing of
//! the faces that made the requests.

mod app_delivery;
mod app_guard;
mod breaker;
mod circuit;
mod config;
mod guards;
mod hold;
mod isolation;
mod proof;
mod rate_limiter;
mod removals;
mod retry;
mod slots;
mod suspicion;
mod tenants;
mod window;
mod worker;

pub use config::Config;
pub use guards::{Guards, RateLimit};
pub use proof::CredentialProofs;
pub use worker::{Parts, SenderSource, Worker};
