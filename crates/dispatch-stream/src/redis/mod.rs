//! The hand-over through Redis: two or more independent servers, *lanes*, none of which keeps anything.
//!
//! The gateway owns a push until it has answered; a lane is a volatile way from it to the workers and
//! back. Every step is one script call for all that waits at that moment, and can be repeated:
//!
//! ```text
//! gateway   enqueue.lua ──> hpns:q:<app>, hpns:q:call:<app>   one entry a job, sealed
//! worker    XREADGROUP  <──                                   as many as can start, calls first
//! worker    finish.lua  ──> hpns:r:<gateway>                  verdicts; the first one of a job holds
//! gateway   XREAD       <──
//! ```
//!
//! `hpns:d:<moment>` marks the jobs of a quarter of a second, until half a minute after the last news of one of them: `Q`
//! while a job is queued, `R` and its verdict after. So a gateway that lost sight of a job submits it again, on the same
//! lane or another, and gets the verdict if there is one. Workers show that they live in `hpns:hb`; `reap.lua` takes over
//! what dead ones left.

mod beat;
mod board;
mod care;
mod check;
mod enqueue;
mod entry;
mod gateway;
mod keys;
mod lane;
mod link;
mod mailbox;
mod replies;
mod script;
mod settle;
mod value;
mod worker;

pub(crate) use board::LaneBoard;
pub use gateway::RedisGateway;
pub use lane::{InvalidLane, Lane, LaneFault};
pub use worker::RedisWorker;

use std::time::Duration;

use rand::RngExt;

/// The consumer group of all workers.
const GROUP: &str = "w";
/// How long a job's mark and a gateway's replies are kept: longer than the largest budget, 25 s.
const KEPT: Duration = Duration::from_secs(30);
/// How many jobs one script call carries at most.
const MAX_BATCH: usize = 256;
/// How long a blocking read waits for something to come.
const BLOCK: Duration = Duration::from_secs(1);

/// A short pause before the next try, different each time.
async fn pause() {
    let pause = Duration::from_millis(rand::rng().random_range(20..100));
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod deaths;
#[cfg(test)]
mod model;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
