//! The operators' API and console: tenants, licences, keys, devices, apps' health, queues, audit.
//!
//! Whoever calls is somebody with a role ([`Role`](tenant_registry::Role)), and one table says which role may call
//! which route; a route that is not in it is refused to everybody. The console is pages over the same operations.
//! The crate never sees a push, a provider credential or a stored secret.

mod access;
mod alerts;
mod api;
mod audit_watch;
mod config;
mod console;
mod erasure;
mod failure;
mod guard;
mod identity;
mod input;
mod operations;
mod registry_watch;
mod rules;
mod service_level;
mod sign_in_failures;
pub mod sshsig;
mod state;
mod test_push;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Config, OidcConfig};
pub use state::{Admin, Parts};

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_edge::{ErrorKind, Problem};
use tower_http::catch_panic::CatchPanicLayer;

/// Returns the API and the console.
pub fn router(admin: Admin) -> Router {
    let (api, document) = api::router();
    api.merge(console::router())
        .merge(api::document_routes(&document))
        .route("/.well-known/hpns-report-signers", axum::routing::get(api::signers))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "not_found", "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorKind::MethodNotAllowed, "method_not_allowed", "this path takes another method")
        })
        .layer(from_fn_with_state(admin.clone(), guard::authorize))
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(admin.clone(), guard::harden))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(admin)
}

/// No request takes longer than this: a gateway may take 30 s for a test push.
const REQUEST: Duration = Duration::from_secs(40);

/// Ends what takes too long; what it was about to change is not changed.
async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST, next.run(request)).await.unwrap_or_else(|_| {
        Problem::new(ErrorKind::Unavailable, "too_slow", "the request took too long here").into_response()
    })
}

/// The panic hook has logged where.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(ErrorKind::Internal, "internal", "a fault of this service; it has been logged")
        .into_response()
}
