//! Graceful shutdown: softly on the first signal, hard on the second or when the grace period ends.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::thread::ServingThread;
use crate::signals::Signals;

/// Shutdown sequence of a process, with its tokens and times.
pub(crate) struct ShutdownSequence {
    /// Without being asked, when this says that a task is lost.
    pub(crate) lost: CancellationToken,
    /// First it is not ready any more, and its answers end their connections,
    pub(crate) draining: CancellationToken,
    /// for so long;
    pub(crate) drain: Duration,
    /// then it takes no more,
    pub(crate) stop: CancellationToken,
    /// and what was taken may take so long.
    pub(crate) grace: Duration,
}

/// Waits for a signal, or for a serving thread or a vital task that ends by itself; then shuts down.
///
/// Returns `Err` when something ended that should not have, or when requests under way were lost.
pub(crate) async fn until_stopped(
    mut signals: Signals,
    serving: Vec<ServingThread>,
    shutdown: ShutdownSequence,
) -> anyhow::Result<()> {
    let mut ends = JoinSet::new();
    let mut threads = Vec::new();
    for thread in serving {
        ends.spawn(thread.ended);
        threads.push(thread.thread);
    }
    let mut fault = tokio::select! {
        () = signals.next() => None,
        _ = ends.join_next() => Some(anyhow::anyhow!("a serving thread ended by itself")),
        () = shutdown.lost.cancelled() => Some(anyhow::anyhow!("a task without which nothing goes on has panicked")),
    };
    info!("asked to stop");
    shutdown.draining.cancel();
    // What ended by itself leaves nothing to drain.
    let drain = if fault.is_none() { shutdown.drain } else { Duration::ZERO };
    let all_ended = async {
        tokio::time::sleep(drain).await;
        shutdown.stop.cancel();
        while ends.join_next().await.is_some() {}
    };
    tokio::select! {
        () = all_ended => {
            for thread in threads {
                let _ = thread.join();
            }
        }
        () = signals.next() => fault = Some(anyhow::anyhow!("asked to stop again: pushes under way are lost")),
        () = tokio::time::sleep(drain + shutdown.grace) => fault = Some(anyhow::anyhow!("pushes under way did not end in the grace period")),
    }
    fault.map_or(Ok(()), |fault| {
        error!(reason = format!("{fault:#}"), "stopped hard");
        Err(fault)
    })
}
