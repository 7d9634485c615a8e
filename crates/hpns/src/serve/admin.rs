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
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a process has that serves operators.
pub(crate) struct AdminRole {
    pub(super) address: SocketAddr,
    /// What writes to the registry until the end.
    watches: TaskTracker,
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
            own_gateway,
            registry,
            keys,
            board: Arc::clone(&context.board),
            apps,
            clock: Arc::clone(&context.clock),
        })?;
        let watches = TaskTracker::new();
        watches.spawn(admin.clone().keep_watch(context.end.clone()));
        let edge = Edge::new("admin", Limits::of_a_private_port());
        let (end, tasks) = (context.end.clone(), context.tasks.clone());
        context.tasks.spawn(http_edge::serve(listener, None, admin_api::router(admin), edge, end, tasks));
        Ok(Self { address, watches })
    }

    /// Waits for the last writes, once the process ends.
    pub(super) async fn end(&self) {
        self.watches.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.watches.wait()).await;
    }
}
