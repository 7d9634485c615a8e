//! Job queue between gateways and workers: both ends, over Redis Streams or in one process.
//!
//! A gateway submits a [`Job`] and waits for its [`Verdict`](push_domain::Verdict); a worker claims jobs, as many as it
//! can start, and finishes each one. The two ends share nothing else: that is how any number of
//! gateways and workers can come and go.
//!
//! [`InProcessQueue`] keeps both ends in one process. [`RedisGateway`] and [`RedisWorker`] meet in one or
//! more Redis servers, which keep nothing and see nothing but sealed envelopes. One conformance suite
//! holds both ways to the same laws.

mod config;
#[cfg(test)]
mod conformance;
mod directory;
mod evidence;
#[cfg(fuzzing)]
pub mod fuzzing;
mod in_process;
mod job;
mod message_auth;
mod peer_state;
mod redis;
mod seal;
mod vital;
mod wire;

pub use config::Config;
pub use directory::PeerDirectory;
pub use evidence::Evidence;
pub use in_process::InProcessQueue;
pub use job::{Claimed, Job, JobConsumer, JobProducer, SubmitError, VerdictSink};
pub use message_auth::BoardKeys;
pub use peer_state::{AppQueueState, AppState, LaneDepth, Lease, ProcessState, Summary, TenantState};
pub use redis::{GatewayThread, InvalidLane, Lane, LaneFault, RedisGateway, RedisWorker, WorkerThread};
pub use seal::{InvalidKeyRing, KeyRing};
pub use vital::VitalTasks;
