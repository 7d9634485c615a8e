//! Process context: what the roles of a process share.

use std::sync::Arc;

use dispatch_stream::{PeerDirectory, VitalTasks};
use push_domain::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::lanes::Lanes;

/// Process context, shared by the roles. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ProcessContext {
    pub(crate) config: Arc<Config>,
    /// Names this process for as long as it runs.
    pub(crate) id: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// The way between gateways and workers, where they are processes of their own.
    pub(crate) lanes: Option<Arc<Lanes>>,
    /// What the processes know of each other.
    pub(crate) peers: Arc<PeerDirectory>,
    /// What goes on beside the pushes.
    pub(crate) tasks: TaskTracker,
    /// Asks callers to go elsewhere.
    pub(crate) draining: CancellationToken,
    /// Takes no more.
    pub(crate) stop: CancellationToken,
    /// A task that the process cannot do without has panicked.
    pub(crate) lost: CancellationToken,
    /// Ends what outlives the serving threads: the private ports.
    pub(crate) end: CancellationToken,
}

impl ProcessContext {
    pub(crate) async fn open(config: Arc<Config>) -> anyhow::Result<Self> {
        let lanes = Lanes::open(&config).await?.map(Arc::new);
        let id = uuid::Uuid::new_v4().simple().to_string();
        let peers = Arc::new(match &lanes {
            Some(lanes) => PeerDirectory::new(&id, &lanes.all, &lanes.peer_keys),
            None => PeerDirectory::alone(&id),
        });
        let (draining, stop, lost, end) = Default::default();
        let (clock, tasks) = (Arc::new(SystemClock), TaskTracker::new());
        Ok(Self { config, id, clock, lanes, peers, tasks, draining, stop, lost, end })
    }

    /// The same for one serving thread: with tokens of its own, as every request asks them, and asking takes a lock.
    pub(crate) fn for_thread(&self) -> Self {
        let (draining, stop) = (self.draining.child_token(), self.stop.child_token());
        Self { draining, stop, ..self.clone() }
    }

    /// Where other processes may be met; nowhere for one that is alone.
    pub(crate) fn shared_peers(&self) -> Option<&Arc<PeerDirectory>> {
        self.lanes.is_some().then_some(&self.peers)
    }

    /// Runs tasks whose panic ends the process.
    pub(crate) fn vital_tasks(&self) -> VitalTasks {
        VitalTasks::new(self.tasks.clone(), self.lost.clone())
    }
}
