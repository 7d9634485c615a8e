//! The Mattermost face: what a stock Mattermost server sends to its push proxy, and what it is told.
//!
//! The peer is mattermost-push-proxy. Its wire contract is kept, save for what docs/MATTERMOST.md
//! lists as mended.

mod ack;
mod apns;
mod body;
mod emoji;
mod fcm;
mod fields;
mod message;
mod metrics;
mod platform;
mod privacy;
mod reply;
mod routes;
mod text;

pub(crate) use metrics::Metrics;
pub(crate) use routes::router;

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
