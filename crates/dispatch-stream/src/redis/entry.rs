//! One job that this worker has, and where its verdict goes.

use std::sync::Arc;

use push_domain::JobId;
use uuid::Uuid;

use super::value::StreamEntry;
use super::worker::End;
use crate::{Job, JobSink, Verdict};

/// Where an entry stands: the number of its queue among the worker's, and its id.
pub(super) type Place = (usize, String);

/// What stands in the open beside the envelope.
pub(super) struct Label {
    pub(super) job: JobId,
    pub(super) gateway: String,
    pub(super) deadline_ms: u64,
}

impl Label {
    /// Reads it. Fields that are not known are those of a later version.
    pub(super) fn read(entry: &StreamEntry) -> Option<Self> {
        let text = |name: &[u8]| std::str::from_utf8(entry.field(name)?).ok();
        Some(Self {
            job: JobId::from_uuid(Uuid::from_slice(entry.field(b"j")?).ok()?),
            gateway: text(b"g")?.to_owned(),
            deadline_ms: text(b"x")?.parse().ok()?,
        })
    }
}

/// The right to one entry, in one life of its worker.
pub(super) struct Entry {
    pub(super) end: Arc<End>,
    pub(super) place: Place,
    pub(super) gateway: String,
    pub(super) life: u64,
}

impl JobSink for Entry {
    fn finish(&self, job: &Job, verdict: Verdict) {
        self.end.settle(self.place.clone(), &self.gateway, job.notification.id, &verdict);
    }

    fn may_send(&self) -> bool {
        self.end.heart.beats() && self.end.heart.life() == self.life
    }

    fn abandon(&self) {
        self.end.release(&self.place);
    }
}
