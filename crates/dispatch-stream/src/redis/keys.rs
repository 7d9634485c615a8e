//! The names of keys, all under one prefix.

use std::sync::Arc;

use push_domain::{AppId, JobId};

/// Makes the keys of one service on a lane.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The stream of an app's jobs.
    pub(super) fn queue(&self, app: &AppId, is_call: bool) -> String {
        let class = if is_call { "q:call" } else { "q" };
        format!("{}:{class}:{app}", self.prefix)
    }

    /// The marks of the jobs whose ids are of one moment, by [`moment`].
    pub(super) fn marks(&self, moment: u64) -> String {
        format!("{}:d:{moment:x}", self.prefix)
    }

    /// The reply stream of a gateway.
    pub(super) fn replies(&self, gateway: &str) -> String {
        format!("{}:r:{gateway}", self.prefix)
    }

    /// The workers' last heartbeats.
    pub(super) fn heartbeats(&self) -> String {
        format!("{}:hb", self.prefix)
    }

    /// The state of a process.
    pub(super) fn state(&self, process: &str) -> String {
        format!("{}:state:{process}", self.prefix)
    }

    /// The names of all processes.
    pub(super) fn processes(&self) -> String {
        format!("{}:states", self.prefix)
    }

    /// What the workers have seen of an app.
    pub(super) fn guard(&self, app: &AppId) -> String {
        format!("{}:guard:{app}", self.prefix)
    }

    /// A rate that all processes share.
    pub(super) fn rate(&self, credential: &str) -> String {
        format!("{}:rl:{credential}", self.prefix)
    }
}

/// The quarter of a second in which a job got its id: its mark lies beside those of the others.
///
/// A key for each job would cost the server an expiry, and each flush a command, for each; a key for many more
/// would take it too long to forget at once.
pub(super) fn moment(job: JobId) -> u64 {
    let (time, _) = job.uuid().as_u64_pair();
    time >> 24
}
