//! Job queue over Redis Streams: two or more independent servers, *lanes*, none of which keeps anything.
//!
//! The gateway owns a push until it has answered; a lane is a volatile way from it to the workers and
//! back. Every step is one script call for all that waits at that moment, and can be repeated:
//!
//! ```text
//! gateway   enqueue.lua ──> hpns:jobs:<provider>:<call | other>   one entry a job: its deadline, and a sealed parcel
//! worker    XREADGROUP  <──                                       as many as can start, calls first
//! worker    finish.lua  ──> hpns:r:<gateway>                      verdicts, one entry a call
//! gateway   XREAD       <──
//! ```
//!
//! `hpns:g:<gateway>` is the book of a gateway's calls: after a lost answer it tells what became of the call, so that no job is
//! handed over twice; when it is gone, the lane has lost all, and what it had is handed over again. A verdict lies in the reply
//! stream until its gateway has read it. Workers show that they live in `hpns:beats`; one of them finds the dead, and
//! all of them take over what those left (`reap.lua`).
//!
//! A process has one set of connections a lane; its serving threads share them. Nothing that runs without a fault
//! costs by the number of apps.

mod check;
mod claim_queue;
mod consumer;
mod directory;
mod enqueue;
mod entry;
mod gateway;
mod heartbeat;
mod keys;
mod lane;
mod lane_connection;
mod lane_selector;
mod liveness;
mod pending_jobs;
mod producer;
mod read;
mod recovery;
mod replies;
mod script;
mod settle;
mod value;
mod worker;

pub(crate) use directory::{LaneDirectory, LaneRates};
pub use gateway::{GatewayThread, RedisGateway};
pub use lane::{InvalidLane, Lane, LaneFault};
pub use worker::{RedisWorker, WorkerThread};

use std::time::Duration;

use push_domain::LogSampler;
use rand::RngExt;

/// The consumer group of all workers.
const GROUP: &str = "w";
/// How long a gateway's book and its replies are kept: longer than the largest budget, 25 s.
const REPLY_TTL: Duration = Duration::from_secs(30);
/// How many jobs one script call carries at most.
const MAX_BATCH: usize = 256;
/// How long a blocking read waits for something to come.
const BLOCK: Duration = Duration::from_secs(1);

/// What is not believed may come in any number.
static TOLD: LogSampler = LogSampler::new();

/// Notes that something on a lane is not believed: nobody with the key ring has made it, or the rings differ.
fn note_unauthenticated(what: &'static str, why: &dyn std::fmt::Display) {
    metrics::counter!("dispatch_unbelieved_total", "what" => what).increment(1);
    if let Some(left_out) = TOLD.turn() {
        tracing::warn!(what, %why, left_out, "something on a lane is not believed");
    }
}

/// A short pause before the next try, different each time.
async fn pause() {
    let pause = Duration::from_millis(rand::rng().random_range(20..100));
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod differential_tests;
#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;
