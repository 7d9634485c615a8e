//! Signals of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Signal listener for shutdown. Made before the first request is taken, so that none is missed.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Asks other programs to read their settings again.
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    info!("SIGHUP changes nothing: credentials and apps are looked at all the time, settings at the start");
                }
            }
        }
    }
}
