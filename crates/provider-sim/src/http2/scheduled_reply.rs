//! Scheduled reply: an answer in the queue, ordered by its time.

use std::cmp::Ordering;

use tokio::time::Instant;

use super::{Reply, Request};

/// Scheduled reply: an answer that waits for its time; the earliest comes first.
pub(super) struct ScheduledReply {
    pub(super) at: Instant,
    pub(super) order: u64,
    pub(super) request: Request,
    pub(super) reply: Reply,
}

impl PartialEq for ScheduledReply {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for ScheduledReply {}
impl PartialOrd for ScheduledReply {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ScheduledReply {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
