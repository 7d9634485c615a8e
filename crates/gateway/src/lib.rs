//! Push gateway: the customers' HTTP API. It takes pushes from their servers and answers with the truth.
//!
//! A *face* reads requests of its dialect and answers in it (`faces`). One pipeline is between, the same for all:
//! `credential` takes what a request presents, the [`Authenticator`] (`admission`) says who calls, may they, and how fast,
//! `delivery` applies the privacy policy and carries the push through the fair queue (`fair`) to the workers, and `event` tells
//! every end to metrics, usage and the log.
//!
//! The crate does not know the senders: only the stream connects who accepts and who sends.

mod admission;
mod config;
mod credential;
mod delivery;
#[cfg(test)]
mod delivery_tests;
mod event;
mod face;
mod faces;
mod fair;
mod ledger;
mod level_metrics;
mod outage;
mod push_log;
mod receipts;
mod refusal;
mod refusal_log;
mod regions;
mod service;
mod state;
mod usage;

pub use admission::{Authenticator, keep_fresh};
pub use config::{Access, AdmissionConfig, Config, MattermostConfig, TestTier, TlsFiles};
pub use credential::CredentialService;
pub use faces::mattermost::edge;
#[cfg(fuzzing)]
pub use faces::mattermost::fuzzing;
pub use ledger::Ledger;
pub use regions::Regions;
pub use state::{Gateway, LoadReport, Parts, Version};
