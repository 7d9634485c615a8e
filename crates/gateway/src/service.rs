//! The gateway as a service of one serving thread: its queue, the faces, and the sinks of what becomes of pushes.

use std::sync::{Arc, PoisonError};

use dispatch_stream::JobProducer;
use tokio_util::task::TaskTracker;

use crate::config::Access;
use crate::credential::{CredentialService, with_credentials};
use crate::delivery::Pipeline;
use crate::event::Sink;
use crate::faces::{mattermost, v1};
use crate::fair::FairQueue;
use crate::level_metrics::LevelMetrics;
use crate::state::{Gateway, Thread};
use crate::usage::Usage;

impl Gateway {
    /// Returns the service for one serving thread, whose pushes go to `dispatch` and are waited for in
    /// `tasks`: a push is settled, counted and logged also when its caller has left.
    #[must_use]
    pub fn service(
        self: &Arc<Self>,
        dispatch: Arc<dyn JobProducer>,
        tasks: TaskTracker,
    ) -> CredentialService {
        let has_tenants = self.config.access == Access::Licensed;
        let queue =
            Arc::new(FairQueue::new(dispatch, Arc::clone(&self.outages), self.share.clone(), has_tenants));
        let usage = Arc::new(Usage::new());
        let thread = Thread { queue: Arc::downgrade(&queue), usage: Arc::downgrade(&usage) };
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        let level = Arc::new(LevelMetrics::new(self.ledger.objectives()));
        let common: [Arc<dyn Sink>; 3] = [usage, self.ledger.thread(), level];
        let metrics = Arc::new(mattermost::Metrics::new());
        let own = self.pipeline(Arc::clone(&queue), common.to_vec(), tasks.clone());
        let peers = [Arc::clone(&metrics) as _].into_iter().chain(common).collect();
        let mattermost = mattermost::router(self.pipeline(queue, peers, tasks), metrics);
        with_credentials(mattermost.merge(v1::router(own)).merge(self.authenticator.regions().router()))
    }
}

impl Gateway {
    /// The pipeline of a face on one serving thread. Its sinks, and the log.
    pub(crate) fn pipeline(
        self: &Arc<Self>,
        queue: Arc<FairQueue>,
        mut sinks: Vec<Arc<dyn Sink>>,
        tasks: TaskTracker,
    ) -> Arc<Pipeline> {
        sinks.push(Arc::clone(&self.log) as _);
        Arc::new(Pipeline::new(Arc::clone(self), queue, sinks, tasks))
    }
}
