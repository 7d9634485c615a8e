//! Producer over all lanes, as the tasks of a gateway share it: where to hand a job over, and who waits for its verdict.

use super::lane_selector::LaneSelector;
use super::pending_jobs::PendingJobs;
use crate::message_auth::MessageAuthenticator;

/// Producer of a gateway, on all lanes.
pub(super) struct Producer {
    /// Names this gateway for as long as it lives.
    pub(super) gateway: String,
    pub(super) lane_selector: LaneSelector,
    pub(super) pending_jobs: PendingJobs,
    /// Knows what workers say from what others do.
    pub(super) verdicts: MessageAuthenticator,
}
