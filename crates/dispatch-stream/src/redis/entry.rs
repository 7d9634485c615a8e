//! Handle of a claimed stream entry: the sink for its verdict.

use std::sync::Arc;

use push_domain::{AppId, Provider, Verdict};

use super::consumer::{EntryRef, LaneConsumer};
use crate::job::{Job, VerdictSink};
use crate::wire;

/// Handle of a claimed entry; it holds for one incarnation of its worker.
pub(super) struct EntryHandle {
    pub(super) consumer: Arc<LaneConsumer>,
    pub(super) place: EntryRef,
    pub(super) gateway: Arc<str>,
    pub(super) app: AppId,
    pub(super) provider: Provider,
    pub(super) incarnation: u64,
}

impl VerdictSink for EntryHandle {
    fn finish(self: Box<Self>, job: &Job, verdict: Verdict) {
        self.consumer.claim_queue.finished(self.provider, &self.app);
        let verdict = wire::write_verdict(&verdict);
        self.consumer.settle(self.place, self.gateway, job.notification.id, verdict);
    }

    fn may_send(&self) -> bool {
        // In this order: a heart that beats again after a gap is in another incarnation by then. Asked the
        // other way round, a gap that ends between the two questions would go unnoticed.
        self.consumer.liveness.is_alive() && self.consumer.liveness.incarnation() == self.incarnation
    }

    fn abandon(self: Box<Self>) {
        self.consumer.claim_queue.finished(self.provider, &self.app);
        self.consumer.release(&self.place);
    }
}
