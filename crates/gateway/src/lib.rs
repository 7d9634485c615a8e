//! The customers' API: takes pushes from their servers and answers with the truth.
//!
//! A *face* turns its dialect into a notification and the exact request for its provider; the
//! [`Gate`] says who may push and how fast; the dispatch stream carries the push to a worker, and
//! the gateway keeps it until it has answered. The only face so far is Mattermost's.
//!
//! The crate does not know the senders: only the stream connects who accepts and who sends.

mod caller;
mod config;
mod entrance;
mod fair;
mod front;
mod gate;
mod limiter;
mod mattermost;
mod outage;
mod receipts;
mod refusals;
mod state;
mod usage;

pub use config::{Access, Config, MattermostConfig};
pub use entrance::{Entrance, TestTier};
pub use front::{Front, front};
pub use gate::{Gate, keep_fresh};
pub use mattermost::edge;
#[cfg(fuzzing)]
pub use mattermost::fuzzing;
pub use outage::Outages;
pub use state::{Gateway, Load, Parts, Version};
