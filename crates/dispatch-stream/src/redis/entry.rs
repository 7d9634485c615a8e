//! Claimed stream entry of this worker, and the sink for its verdict.

use std::sync::Arc;

use push_domain::{AppId, Provider, Verdict};

use super::value::StreamEntry;
use super::worker::LaneConsumer;
use crate::wire::Parcel;
use crate::{Job, VerdictSink, wire};

/// Reference to a stream entry: the number of its queue, and its id.
pub(super) type EntryRef = (usize, String);

/// Reads what stands in an entry. Fields that are not known are those of a later version.
pub(super) fn read_parcel(entry: &mut StreamEntry) -> Option<Parcel> {
    wire::read_parcel(entry.take(b"p")?).ok()
}

/// An entry that was claimed in one incarnation of its worker and waits for a thread to open it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) consumer: Arc<LaneConsumer>,
    pub(super) place: EntryRef,
    pub(super) parcel: Parcel,
    pub(super) incarnation: u64,
}

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
        // In this order: a liveness that beats again after a gap is in another incarnation by then. Asked the
        // other way round, a gap that ends between the two questions would go unnoticed.
        self.consumer.liveness.is_alive() && self.consumer.liveness.incarnation() == self.incarnation
    }

    fn abandon(self: Box<Self>) {
        self.consumer.claim_queue.finished(self.provider, &self.app);
        self.consumer.release(&self.place);
    }
}
