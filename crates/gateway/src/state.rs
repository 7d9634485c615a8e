//! What every request needs, put together once.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use dispatch_stream::Submit;
use push_domain::{AppCatalogue, Clock};
use quick_cache::sync::Cache;
use tokio_util::task::TaskTracker;

use crate::device::DeviceGuard;
use crate::fair::FairQueue;
use crate::front::Front;
use crate::gate::Gate;
use crate::{Access, Config, Outages, mattermost};

/// How many acks are remembered, so that each counts once.
const REMEMBERED_ACKS: usize = 65_536;

/// What `/version` says.
#[derive(Debug, Clone)]
pub struct Version {
    /// The commit.
    pub hash: String,
    /// The release.
    pub version: String,
}

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// Who may push.
    pub gate: Arc<Gate>,
    /// To which apps.
    pub apps: Arc<AppCatalogue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What `/version` says.
    pub version: Version,
}

/// The gateway of one process: shared by its serving threads, each of which has its own way to the workers.
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) gate: Arc<Gate>,
    pub(crate) apps: Arc<AppCatalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) version: Version,
    pub(crate) metrics: mattermost::Metrics,
    pub(crate) acks: Cache<u64, ()>,
    pub(crate) devices: DeviceGuard,
    outages: Arc<Outages>,
}

impl Gateway {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, gate, apps, clock, version } = parts;
        let metrics = mattermost::Metrics::new(&apps);
        let devices = DeviceGuard::new(config.device_rate_per_second, config.device_burst);
        let (acks, outages) = (Cache::new(REMEMBERED_ACKS), Arc::default());
        Arc::new(Self { config, gate, apps, clock, version, metrics, acks, devices, outages })
    }

    /// Returns where to say which apps' providers are out of order.
    #[must_use]
    pub fn outages(&self) -> Arc<Outages> {
        Arc::clone(&self.outages)
    }

    /// Returns the service for one serving thread, whose pushes go to `dispatch` and are waited for in
    /// `tasks`: a push is settled, counted and logged also when its caller has left.
    #[must_use]
    pub fn service(self: &Arc<Self>, dispatch: Arc<dyn Submit>, tasks: TaskTracker) -> Front {
        let has_tenants = self.config.access == Access::Licensed;
        let queue = Arc::new(FairQueue::new(dispatch, &self.apps, self.outages(), has_tenants));
        let router: Router = mattermost::router(Arc::clone(self), queue, tasks);
        crate::front(router)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("gate", &self.gate).finish_non_exhaustive()
    }
}
