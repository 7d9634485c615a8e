//! Both ends of the hand-over between those who accept pushes and those who send them.
//!
//! A gateway submits a [`Job`] and waits for its [`Verdict`](push_domain::Verdict); a worker claims jobs, as many as it
//! can start, and finishes each one. The two ends share nothing else: that is how any number of
//! gateways and workers can come and go.
//!
//! [`InProcess`] keeps both ends in one process. [`RedisGateway`] and [`RedisWorker`] meet in one or
//! more Redis servers, which keep nothing and see nothing but sealed envelopes. One conformance suite
//! holds both ways to the same laws.

mod attest;
mod board;
mod config;
#[cfg(test)]
mod conformance;
mod evidence;
#[cfg(fuzzing)]
pub mod fuzzing;
mod in_process;
mod job;
mod redis;
mod seal;
mod vital;
mod wire;

pub use attest::BoardKeys;
pub use board::{AppState, Board, LaneDepth, Lease, LineState, ProcessState, Summary, TenantState};
pub use config::Config;
pub use evidence::Evidence;
pub use in_process::InProcess;
pub use job::{Claimed, Job, JobSink, JobSource, Submit, SubmitError};
pub use redis::{GatewayThread, InvalidLane, Lane, LaneFault, RedisGateway, RedisWorker, WorkerThread};
pub use seal::{InvalidKeyRing, KeyRing};
pub use vital::VitalTasks;
