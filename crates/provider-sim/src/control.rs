//! Control API: received notifications, scripts, faults, and a page that shows two phones.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_edge::{ErrorKind, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::apns::Apns;
use crate::clock::VirtualClock;
use crate::fault::{Fault, FaultController, ProviderName};
use crate::fcm::Fcm;
use crate::record::{Received, Record, Stats};
use crate::script::{Script, Scripts};

const PAGE: &str = include_str!("page.html");
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

/// Shared state behind the control API.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) record: Arc<Record>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) apple: Arc<Apns>,
    pub(crate) google: Arc<Fcm>,
}

impl Control {
    pub(crate) fn controller(&self, provider: ProviderName) -> &FaultController {
        match provider {
            ProviderName::Apns => &self.apple.controller,
            ProviderName::Fcm => &self.google.controller,
        }
    }
}

pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(|| async { ([("content-type", "text/javascript")], include_str!("page.js")) }))
        .route("/page.css", get(|| async { ([("content-type", "text/css")], include_str!("page.css")) }))
        .route("/sim/notifications", get(notifications))
        .route("/sim/stats", get(stats))
        .route("/sim/ledger", get(ledger))
        .route("/sim/script", post(script))
        .route("/sim/reset", post(reset))
        .route("/sim/conduct", get(profiles).post(set_conduct))
        .route("/sim/strike", post(inject_fault))
        .route("/sim/clock", post(advance_clock))
        .route("/sim/topics", post(add_topic))
        .route("/sim/revoke-access-tokens", post(revoke))
        .fallback(|| async {
            Problem::new(ErrorKind::NotFound, "not_found", "the simulator has no such path")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorKind::MethodNotAllowed, "method_not_allowed", "this path takes another method")
        })
        .with_state(control)
}

/// The ack ids of what was delivered and when, one a line, as often as it was: what a ledger of answers is
/// compared with.
async fn ledger(State(control): State<Control>) -> String {
    control.record.ledger()
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

fn parsed<T: serde::de::DeserializeOwned>(body: &Bytes, code: &'static str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::new(ErrorKind::BadRequest, code, error.to_string()))
}

async fn script(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    let script: Script = parsed(&body, "bad_script")?;
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

async fn profiles(State(control): State<Control>) -> Json<Value> {
    let of = |provider| control.controller(provider).profile();
    Json(json!({ "apns": *of(ProviderName::Apns), "fcm": *of(ProviderName::Fcm) }))
}

/// Changes some habits of one provider; the others stay.
async fn set_conduct(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    #[derive(Deserialize)]
    struct Change {
        provider: ProviderName,
        #[serde(flatten)]
        habits: Map<String, Value>,
    }
    let Change { provider, habits } = parsed(&body, "bad_conduct")?;
    let controller = control.controller(provider);
    let mut profile = serde_json::to_value(&*controller.profile()).unwrap_or_default();
    for (habit, value) in habits {
        profile[&habit] = value;
    }
    let profile = serde_json::from_value(profile)
        .map_err(|error| Problem::new(ErrorKind::BadRequest, "bad_conduct", error.to_string()))?;
    controller.set(profile);
    Ok("{}\n")
}

async fn inject_fault(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    #[derive(Deserialize)]
    struct FaultRequest {
        provider: ProviderName,
        #[serde(flatten)]
        fault: Fault,
    }
    let FaultRequest { provider, fault } = parsed(&body, "bad_strike")?;
    control.controller(provider).inject_fault(fault);
    Ok("{}\n")
}

async fn advance_clock(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Advance {
        advance_ms: u64,
    }
    control.clock.advance(parsed::<Advance>(&body, "bad_clock")?.advance_ms);
    Ok("{}\n")
}

async fn add_topic(State(control): State<Control>, body: Bytes) -> Result<&'static str, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Topic {
        topic: String,
    }
    control.apple.add_topic(parsed::<Topic>(&body, "bad_topic")?.topic);
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
