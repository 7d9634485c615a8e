//! An APNs and FCM simulator: for tests, for the first run, for benchmarks, and for customers who
//! want to see what would reach a phone.
//!
//! It speaks HTTP/2 over TLS through a frame layer of its own, under a throw-away CA that it writes
//! to disk, and checks what Apple and Google check: paths, topics, sizes, signatures, schemas. It
//! shares no code with the senders that it is there to test.

mod apns;
mod clock;
mod control;
mod credentials;
mod fault;
mod fcm;
mod http2;
mod oauth;
mod port;
mod proxy;
mod rates;
mod record;
mod script;
mod simulator;

pub use credentials::{APNS_KEY_ID, APNS_TEAM_ID, CredentialError, FCM_PROJECT};
pub use fault::{AcceptMode, ExcessAction, Fault, FaultProfile, Latency, ProviderName};
pub use record::{Received, Stats};
pub use script::{Action, Script, ScriptedAnswer};
pub use simulator::{Settings, Simulator, StartError};
