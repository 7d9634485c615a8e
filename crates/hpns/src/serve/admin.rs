//! The admin role: serves operators the API and the console.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin_api::Admin;
use anyhow::Context;
use http_edge::{Edge, Limits};
use push_domain::AppCatalogue;
use tenant_registry::{Administration, Keys};
use tokio_util::task::TaskTracker;

use super::context::ProcessContext;

/// What writes to the registry until the end may take so long for its last words.
const REGISTRY_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Admin role of a process.
pub(crate) struct AdminRole {
    pub(super) address: SocketAddr,
    /// What writes to the registry until the end.
    registry_tasks: TaskTracker,
}

impl AdminRole {
    /// Serves until the process ends; `own_gateway` is the plain port of a gateway of the same process.
    pub(super) fn start(
        context: &ProcessContext,
        registry: Arc<dyn Administration>,
        keys: Keys,
        apps: Arc<AppCatalogue>,
        own_gateway: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let config = &context.config;
        let wanted = config.admin.listen;
        let listener = http_edge::bind(wanted, false);
        let listener = listener.with_context(|| format!("admin.listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let admin = Admin::new(admin_api::Parts {
            config: config.admin.clone(),
            region: config.region.clone(),
            objectives: config.service_level,
            own_gateway,
            control: Arc::clone(&registry) as _,
            home: registry,
            keys,
            peers: Arc::clone(&context.peers),
            apps,
            clock: Arc::clone(&context.clock),
        })?;
        let registry_tasks = TaskTracker::new();
        registry_tasks.spawn(admin.clone().run_monitoring(context.end.clone()));
        let edge = Edge::new("admin", Limits::of_a_private_port());
        let (end, tasks) = (context.end.clone(), context.tasks.clone());
        context.tasks.spawn(http_edge::serve(listener, None, admin_api::router(admin), edge, end, tasks));
        Ok(Self { address, registry_tasks })
    }

    /// Waits for the last writes, once the process ends.
    pub(super) async fn end(&self) {
        self.registry_tasks.close();
        let _ = tokio::time::timeout(REGISTRY_FLUSH_TIMEOUT, self.registry_tasks.wait()).await;
    }
}
