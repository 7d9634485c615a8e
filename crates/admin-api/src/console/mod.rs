//! Web console: server-rendered pages over the operations of the API; the script only makes them handier.

mod chart;
mod forms;
mod keys;
mod language;
mod layout;
mod licence_card;
mod licences;
mod overview;
mod service_level;
mod sign_in;
mod tenants;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use maud::{DOCTYPE, Markup, html};

use crate::state::Admin;

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const MAX_FORM_BYTES: usize = 64 * 1024;

pub(crate) fn router() -> Router<Admin> {
    Router::new()
        .route("/", get(overview::page))
        .route("/assets/{file}", get(asset))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/language", post(sign_in::choose_language))
        .route("/tenants", get(tenants::list))
        .route("/tenants/new", get(tenants::new).post(tenants::create))
        .route("/tenants/{tenant}", get(tenants::show).post(tenants::update))
        .route("/tenants/{tenant}/erase", post(tenants::erase))
        .route("/tenants/{tenant}/licences/new", get(licences::new).post(licences::create))
        .route("/licences/{licence}", get(licences::edit).post(licences::update))
        .route("/licences/{licence}/terms", post(licences::accept_terms))
        .route("/licences/{licence}/suspension", post(licences::suspend))
        .route("/licences/{licence}/keys", post(keys::issue_key))
        .route("/licences/{licence}/servers", post(licences::bind_server))
        .route("/keys/{kid}/revoke", post(keys::revoke_key))
        .route("/tenants/{tenant}/service-level", get(service_level::of_tenant))
        .route("/service-level", get(service_level::region))
        .route("/apps", get(overview::apps))
        .route("/queues", get(overview::queues))
        .route("/test-push", get(overview::test_push).post(overview::send_test_push))
        .route("/audit", get(overview::audit))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

async fn asset(Path(file): Path<String>) -> Response {
    let (kind, text) = match &*file {
        "console.css" => ("text/css; charset=utf-8", include_str!("console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("console.js")),
        "mark.svg" => ("image/svg+xml", include_str!("mark.svg")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    with_security_headers(([(CONTENT_TYPE, kind)], text).into_response())
}

/// Adds what keeps a page to itself.
pub(crate) fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let set = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn shown(status: StatusCode, page: Markup) -> Response {
    with_security_headers((status, Html(page.into_string())).into_response())
}

/// A page without anybody signed in.
pub(crate) fn bare_page(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (layout::head(title))
            body { main id="content" tabindex="-1" { (content) } }
        }
    }
}
