//! Answers in the order of their time.

use std::cmp::Ordering;

use tokio::time::Instant;

use super::{Reply, Request};

/// An answer that waits for its time; the earliest comes first.
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) order: u64,
    pub(super) request: Request,
    pub(super) reply: Reply,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
