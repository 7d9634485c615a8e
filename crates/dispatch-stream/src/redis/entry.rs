//! One job that this worker has, and where its verdict goes.

use std::sync::Arc;

use push_domain::{AppId, JobId, Provider};
use uuid::Uuid;

use super::value::StreamEntry;
use super::worker::End;
use crate::{Job, JobSink, Verdict, wire};

/// Where an entry stands: the number of its queue, and its id.
pub(super) type Place = (usize, String);

/// What stands in the open beside the envelope.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) job: JobId,
    pub(super) gateway: String,
    pub(super) app: AppId,
    pub(super) deadline_ms: u64,
    /// The epoch of the lane's clock in which the deadline was written.
    pub(super) epoch: u64,
}

impl Label {
    /// Reads it. Fields that are not known are those of a later version.
    pub(super) fn read(entry: &StreamEntry) -> Option<Self> {
        let text = |name: &[u8]| std::str::from_utf8(entry.field(name)?).ok();
        Some(Self {
            job: JobId::from_uuid(Uuid::from_slice(entry.field(b"j")?).ok()?),
            gateway: text(b"g")?.to_owned(),
            app: AppId::new(text(b"a")?),
            deadline_ms: text(b"x")?.parse().ok()?,
            epoch: text(b"e")?.parse().ok()?,
        })
    }
}

/// An entry that was claimed in one life of its worker and waits for a thread to open it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) end: Arc<End>,
    pub(super) place: Place,
    pub(super) label: Label,
    pub(super) envelope: Vec<u8>,
    pub(super) life: u64,
}

/// The right to one entry, in one life of its worker.
pub(super) struct Entry {
    pub(super) end: Arc<End>,
    pub(super) place: Place,
    pub(super) gateway: String,
    pub(super) app: AppId,
    pub(super) provider: Provider,
    pub(super) life: u64,
}

impl JobSink for Entry {
    fn finish(&self, job: &Job, verdict: Verdict) {
        self.end.intake.finished(self.provider, &self.app);
        let verdict = wire::write_verdict(&verdict);
        self.end.settle(self.place.clone(), &self.gateway, job.notification.id, verdict);
    }

    fn may_send(&self) -> bool {
        self.end.heart.beats() && self.end.heart.life() == self.life
    }

    fn abandon(&self) {
        self.end.intake.finished(self.provider, &self.app);
        self.end.release(&self.place);
    }
}
