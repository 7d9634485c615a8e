//! The operators' API and console: tenants, licences, keys, devices, apps' health, queues, audit.
//!
//! Whoever calls is somebody with a role ([`Role`](tenant_registry::Role)), and one table says which role may call
//! which route; a route that is not in it is refused to everybody. The console is pages over the same operations.
//! The crate never sees a push, a provider credential or a stored secret.

mod access;
mod alerts;
mod api;
mod config;
mod console;
mod failure;
mod identity;
mod input;
mod operations;
mod rules;
mod state;
mod test_push;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Config, OidcConfig};
pub use state::{Admin, Parts};

use std::any::Any;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use http_edge::{ErrorKind, Problem};
use tower_http::catch_panic::CatchPanicLayer;

/// Returns the API and the console.
pub fn router(admin: Admin) -> Router {
    let (api, document) = api::router();
    api.merge(console::router())
        .merge(api::document_routes(&document))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "not_found", "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorKind::MethodNotAllowed, "method_not_allowed", "this path takes another method")
        })
        .layer(from_fn_with_state(admin.clone(), identity::guard))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(admin)
}

/// The panic hook has logged where.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(ErrorKind::Internal, "internal", "a fault of this service; it has been logged")
        .into_response()
}
