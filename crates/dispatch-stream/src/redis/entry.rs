//! One job that this worker has, and where its verdict goes.

use std::sync::Arc;

use push_domain::{AppId, Provider, Verdict};

use super::value::StreamEntry;
use super::worker::End;
use crate::wire::Parcel;
use crate::{Job, JobSink, wire};

/// Where an entry stands: the number of its queue, and its id.
pub(super) type Place = (usize, String);

/// Reads what stands in an entry. Fields that are not known are those of a later version.
pub(super) fn read_parcel(entry: &mut StreamEntry) -> Option<Parcel> {
    wire::read_parcel(entry.take(b"p")?).ok()
}

/// An entry that was claimed in one life of its worker and waits for a thread to open it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) end: Arc<End>,
    pub(super) place: Place,
    pub(super) parcel: Parcel,
    pub(super) life: u64,
}

/// The right to one entry, in one life of its worker.
pub(super) struct Entry {
    pub(super) end: Arc<End>,
    pub(super) place: Place,
    pub(super) gateway: Arc<str>,
    pub(super) app: AppId,
    pub(super) provider: Provider,
    pub(super) life: u64,
}

impl JobSink for Entry {
    fn finish(self: Box<Self>, job: &Job, verdict: Verdict) {
        self.end.intake.finished(self.provider, &self.app);
        let verdict = wire::write_verdict(&verdict);
        self.end.settle(self.place, self.gateway, job.notification.id, verdict);
    }

    fn may_send(&self) -> bool {
        self.end.heart.beats() && self.end.heart.life() == self.life
    }

    fn abandon(self: Box<Self>) {
        self.end.intake.finished(self.provider, &self.app);
        self.end.release(&self.place);
    }
}
