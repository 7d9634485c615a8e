//! `OpenAPI` document of the admin API, and its HTML rendering.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use maud::{Markup, html};
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};

use crate::console;
use crate::state::Admin;

/// What the document says before any route.
pub(super) fn outline() -> OpenApi {
    let about = "Tenants, licences, keys, devices, apps and the audit log of one region. Every change stands in the audit \
                 log. Errors are problem+json with a stable `code`; what is not there, and what is somebody else's, is 404.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("hpns admin API")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(about))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(bearer)).build(),
        ))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// Serves both.
pub(crate) fn routes(document: &OpenApi) -> Router<Admin> {
    let json: Arc<str> = document.to_json().unwrap_or_default().into();
    let value: Value = serde_json::from_str(&json).unwrap_or_default();
    let page: Arc<str> = page(&value).into_string().into();
    Router::new()
        .route("/openapi.json", get(async move || ([(CONTENT_TYPE, "application/json")], json.to_string())))
        .route("/docs", get(async move || readable(&page)))
}

fn readable(page: &str) -> Response {
    console::with_security_headers(axum::response::Html(page.to_owned()).into_response())
}

fn page(document: &Value) -> Markup {
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let mut operations: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().cloned().unwrap_or_default();
            methods.into_iter().map(move |(method, operation)| (path.clone(), method, operation))
        })
        .filter(|(_, method, _)| matches!(&**method, "get" | "post" | "put" | "delete"))
        .collect();
    operations.sort_by_key(|(path, _, operation)| (operation["tags"][0].to_string(), path.clone()));
    console::bare_page(
        "hpns admin API",
        &html! {
            h1 { "hpns admin API" }
            p { (document["info"]["description"].as_str().unwrap_or_default()) }
            p { "For programs: " a href="/openapi.json" { "openapi.json" } "." }
            @for (path, method, operation) in &operations {
                section class="card" {
                    h2 { code { (method.to_uppercase()) " " (path) } }
                    p { strong { (operation["summary"].as_str().unwrap_or_default()) } }
                    p { (operation["description"].as_str().unwrap_or_default()) }
                    @if let Some(parameters) = operation["parameters"].as_array() {
                        dl {
                            @for parameter in parameters {
                                dt { code { (parameter["name"].as_str().unwrap_or_default()) } }
                                dd { (parameter["description"].as_str().unwrap_or_default()) }
                            }
                        }
                    }
                    @if let Some(schema) = body_schema(operation, document) { (fields(schema)) }
                }
            }
        },
    )
}

/// The schema of a request's body.
fn body_schema<'a>(operation: &Value, document: &'a Value) -> Option<&'a Value> {
    let reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str()?;
    document["components"]["schemas"].get(reference.rsplit('/').next()?)
}

fn fields(schema: &Value) -> Markup {
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    html! {
        h3 { "Body" }
        dl {
            @for (name, property) in &properties {
                dt { code { (name) } }
                dd { (property["description"].as_str().unwrap_or_default()) }
            }
        }
    }
}
