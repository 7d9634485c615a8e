//! Measurement library: child processes, a load generator, a fault proxy, CPU and memory use.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

pub mod api;
pub mod client;
pub mod cost;
pub mod hosted;
pub mod ledger;
pub mod process;
pub mod proxy;
pub mod servers;
