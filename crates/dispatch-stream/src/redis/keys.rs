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

    /// The mark of a job.
    pub(super) fn mark(&self, job: JobId) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 3 + 16);
        key.extend(self.prefix.as_bytes());
        key.extend(b":d:");
        key.extend(job.uuid().as_bytes());
        key
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
