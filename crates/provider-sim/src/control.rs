//! The control port: what was received, what to answer, and a page that shows two phones.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_edge::{ErrorKind, Problem};
use serde::Deserialize;

use crate::fcm::Fcm;
use crate::record::{Received, Record, Stats};
use crate::script::{Script, Scripts};

const PAGE: &str = include_str!("page.html");
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

#[derive(Clone)]
struct Control {
    record: Arc<Record>,
    scripts: Arc<Scripts>,
    google: Arc<Fcm>,
}

pub(crate) fn router(record: Arc<Record>, scripts: Arc<Scripts>, google: Arc<Fcm>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(|| async { ([("content-type", "text/javascript")], include_str!("page.js")) }))
        .route("/page.css", get(|| async { ([("content-type", "text/css")], include_str!("page.css")) }))
        .route("/sim/notifications", get(notifications))
        .route("/sim/stats", get(stats))
        .route("/sim/script", post(script))
        .route("/sim/reset", post(reset))
        .route("/sim/revoke-access-tokens", post(revoke))
        .fallback(|| async {
            Problem::new(ErrorKind::NotFound, "not_found", "the simulator has no such path")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorKind::MethodNotAllowed, "method_not_allowed", "this path takes another method")
        })
        .with_state(Control { record, scripts, google })
}

async fn page() -> Response {
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE)).into_response()
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn notifications(State(control): State<Control>, Query(after): Query<After>) -> Json<Vec<Received>> {
    Json(control.record.after(after.after))
}

async fn stats(State(control): State<Control>) -> Json<Stats> {
    Json(control.record.stats())
}

async fn script(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    let script: Script = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(ErrorKind::BadRequest, "bad_script", error.to_string()))?;
    if script.answers.is_empty() {
        return Err(Problem::new(ErrorKind::BadRequest, "bad_script", "`answers` needs at least one answer"));
    }
    let bad_status =
        script.answers.iter().any(|answer| answer.status != 0 && !(200..=599).contains(&answer.status));
    if bad_status {
        return Err(Problem::new(
            ErrorKind::BadRequest,
            "bad_script",
            "`status` is 200 to 599, or 0 for the usual one",
        ));
    }
    control.scripts.set(script);
    Ok("{}\n")
}

async fn reset(State(control): State<Control>) -> &'static str {
    control.record.reset();
    control.scripts.clear();
    "{}\n"
}

async fn revoke(State(control): State<Control>) -> &'static str {
    control.google.oauth.revoke_all();
    "{}\n"
}
