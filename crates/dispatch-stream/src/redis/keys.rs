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
}
