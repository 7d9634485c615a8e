//! REST API router, and its `OpenAPI` document, which is generated from the routes themselves.

mod apps;
mod audit;
mod devices;
mod document;
mod keys;
mod licences;
mod overview;
mod service_level;
mod tenants;
mod tokens;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::identity::Identity;
use crate::state::Admin;

pub(crate) use document::routes as document_routes;
pub(crate) use service_level::signers;

/// Extractor of the authenticated caller; a request without one has been refused before.
type Caller = Extension<Identity>;

/// Returns the routes and their description.
pub(crate) fn router() -> (Router<Admin>, OpenApi) {
    OpenApiRouter::with_openapi(document::outline())
        .routes(routes!(overview::me))
        .routes(routes!(overview::overview))
        .routes(routes!(overview::alerts))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::show, tenants::update))
        .routes(routes!(tenants::usage))
        .routes(routes!(licences::list, licences::create))
        .routes(routes!(licences::show, licences::update))
        .routes(routes!(licences::accept_terms))
        .routes(routes!(licences::suspend, licences::resume))
        .routes(routes!(licences::servers))
        .routes(routes!(licences::bind_server, licences::unbind_server))
        .routes(routes!(keys::list, keys::issue))
        .routes(routes!(keys::revoke))
        .routes(routes!(devices::count, devices::erase_all))
        .routes(routes!(devices::erasures))
        .routes(routes!(devices::look_up))
        .routes(routes!(devices::erase))
        .routes(routes!(apps::list))
        .routes(routes!(apps::test_push))
        .routes(routes!(apps::queues))
        .routes(routes!(audit::list))
        .routes(routes!(audit::of_tenant))
        .routes(routes!(audit::verify))
        .routes(routes!(service_level::region))
        .routes(routes!(service_level::tenants))
        .routes(routes!(service_level::of_tenant))
        .routes(routes!(service_level::hours))
        .routes(routes!(service_level::signed))
        .routes(routes!(tokens::list, tokens::issue))
        .routes(routes!(tokens::revoke))
        .split_for_parts()
}

/// An answer that nobody keeps a copy of.
fn ok<T: Serialize>(value: T) -> Response {
    answer(StatusCode::OK, value)
}

fn created<T: Serialize>(value: T) -> Response {
    answer(StatusCode::CREATED, value)
}

fn answer<T: Serialize>(status: StatusCode, value: T) -> Response {
    let mut response = (status, Json(value)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Adds the `ETag` that a change has to bring.
fn with_etag(mut response: Response, revision: u64) -> Response {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// What a request that creates something brings beside its body.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, crate::failure::Failure> {
    crate::input::request_key(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::TABLE;

    #[test]
    fn every_route_of_the_document_is_in_the_table_of_roles_and_no_other_api_route() {
        let (_, document) = router();
        let mut described = Vec::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("DELETE", &item.delete),
                ("PATCH", &item.patch),
            ];
            for (method, operation) in methods {
                if operation.is_some() {
                    described.push((method, path.as_str()));
                }
            }
        }
        described.sort_unstable();
        let mut known: Vec<_> = TABLE
            .iter()
            .filter(|(_, path, _)| path.starts_with("/v1/"))
            .map(|(method, path, _)| (*method, *path))
            .collect();
        known.sort_unstable();

        assert_eq!(described, known);
    }
}
