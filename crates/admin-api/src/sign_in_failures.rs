//! Failed sign-ins, counted until they are noted in sum.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Sources that are told apart.
const SOURCES: usize = 1000;

/// Counter of failed sign-ins since they were last recorded in the audit log.
#[derive(Debug, Default)]
pub(crate) struct FailedSignIns(Mutex<Tally>);

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) failures: u64,
    pub(crate) sources: HashSet<u64>,
}

impl FailedSignIns {
    /// Counts one of a source.
    pub(crate) fn count(&self, source: u64) {
        metrics::counter!("admin_sign_in_failures_total").increment(1);
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.failures += 1;
        if tally.sources.len() < SOURCES {
            tally.sources.insert(source);
        }
    }

    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn put_back(&self, tally: Tally) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failures += tally.failures;
        kept.sources.extend(tally.sources);
    }
}
