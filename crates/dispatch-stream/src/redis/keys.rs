//! Redis key names, all under one prefix. No key names an app but its evidence: a lane's cost does not grow
//! with the apps.

use std::sync::Arc;

use push_domain::Provider;

/// How many streams of jobs a lane has.
pub(super) const QUEUES: usize = 4;

/// Key names of one service on a lane.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

/// The number of a stream of jobs: of one provider, calls apart from the others.
pub(super) const fn queue_of(provider: Provider, is_call: bool) -> usize {
    2 * provider as usize + if is_call { 0 } else { 1 }
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// A stream of jobs, by [`queue_of`].
    pub(super) fn queue(&self, number: usize) -> String {
        let names: [&str; QUEUES] = ["apns:call", "apns:other", "fcm:call", "fcm:other"];
        format!("{}:jobs:{}", self.prefix, names[number])
    }

    /// All streams of jobs, in the order of their numbers.
    pub(super) fn queues(&self) -> [String; QUEUES] {
        std::array::from_fn(|number| self.queue(number))
    }

    /// A gateway's book: the number of its last call, and what became of the last one with jobs.
    pub(super) fn call_record(&self, gateway: &str) -> String {
        format!("{}:g:{gateway}", self.prefix)
    }

    /// The reply stream of a gateway.
    pub(super) fn replies(&self, gateway: &str) -> String {
        format!("{}:r:{gateway}", self.prefix)
    }

    /// What the workers show of their lives: by worker, a number that changes with every heartbeat.
    pub(super) fn beats(&self) -> String {
        format!("{}:beats", self.prefix)
    }

    /// The workers that are dead, as long as they have left anything.
    pub(super) fn dead(&self) -> String {
        format!("{}:dead", self.prefix)
    }

    /// What is known of the lane itself: the last heartbeat, the epoch of its clock, its reaper.
    pub(super) fn lane(&self) -> String {
        format!("{}:lane", self.prefix)
    }

    /// The state of a process.
    pub(super) fn state(&self, process: &str) -> String {
        format!("{}:state:{process}", self.prefix)
    }

    /// The names of all processes.
    pub(super) fn processes(&self) -> String {
        format!("{}:states", self.prefix)
    }

    /// What all processes are together, as one of them has added it up.
    pub(super) fn summary(&self) -> String {
        format!("{}:summary", self.prefix)
    }

    /// There while somebody wants to see details.
    pub(super) fn watched(&self) -> String {
        format!("{}:watched", self.prefix)
    }

    /// What the workers have seen of an app, or of a tenant in it.
    pub(super) fn guard(&self, subject: &str) -> String {
        format!("{}:guard:{subject}", self.prefix)
    }

    /// A rate that all processes share.
    pub(super) fn rate(&self, credential: &str) -> String {
        format!("{}:rl:{credential}", self.prefix)
    }
}

/// Says whose jobs lie in a queue.
pub(super) const fn provider_of(queue: usize) -> Provider {
    if queue < 2 { Provider::Apns } else { Provider::Fcm }
}
