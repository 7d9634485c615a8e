//! The peer's four routes.

use std::any::Any;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dispatch_stream::{Job, Submit, Verdict};
use http::header::{CONTENT_TYPE, HeaderValue};
use push_domain::{DeviceToken, FailReason, JobId, Notification, Provider, ProviderRequest, Reason};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

use super::ack::Ack;
use super::body::{BodyFault, read_body};
use super::message::PushMessage;
use super::metrics::{Metrics, PushLabels};
use super::reply::{self, Refusal};
use super::{apns, fcm, platform};
use crate::Gateway;
use crate::front::PresentedKey;
use crate::gate::Caller;

/// A caller that sends this header learns how long each part of its push took.
const TIMING_HEADER: &str = "x-hpns-timing";
/// The most that is repeated of what a caller wrote.
const MAX_ECHO_CHARACTERS: usize = 64;

#[derive(Clone)]
struct Face {
    gateway: Arc<Gateway>,
    dispatch: Arc<dyn Submit>,
}

/// Returns the routes. A path that is none of them is 404, a method that is not theirs 405.
pub(crate) fn router(gateway: Arc<Gateway>, dispatch: Arc<dyn Submit>) -> Router {
    Router::new()
        .route("/", get(welcome).fallback(|| async { reply::wrong_method("GET") }))
        .route("/version", get(version).fallback(|| async { reply::wrong_method("GET") }))
        .route("/api/v1/send_push", post(send_push).fallback(|| async { reply::wrong_method("POST") }))
        .route("/api/v1/ack", post(acknowledge).fallback(|| async { reply::wrong_method("POST") }))
        .fallback(|| async { reply::not_found() })
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(Face { gateway, dispatch })
}

/// The panic hook has logged where; what it said may hold content.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    reply::fail(FailReason::Internal)
}

async fn welcome() -> Response {
    let mut response = Response::new("<html><body>hpns push service</body></html>".into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

async fn version(State(face): State<Face>) -> Response {
    let crate::Version { hash, version } = &face.gateway.version;
    let body = format!("{{\"hash\":\"{hash}\",\"version\":\"{version}\"}}\n");
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn send_push(State(face): State<Face>, request: Request) -> Response {
    let started = Instant::now();
    let response = face.push(request, started).await.unwrap_or_else(|refusal| {
        face.gateway.metrics.bad_request();
        refusal.into_response()
    });
    face.gateway.metrics.request_took(started.elapsed());
    response
}

async fn acknowledge(State(face): State<Face>, request: Request) -> Response {
    let started = Instant::now();
    let response = face.acknowledge(request).await.unwrap_or_else(|refusal| {
        face.gateway.metrics.bad_request();
        refusal.into_response()
    });
    face.gateway.metrics.request_took(started.elapsed());
    response
}

impl Face {
    /// Checks the caller, reads the push, hands it over and waits. `Err` is a refusal before that.
    async fn push(&self, request: Request, started: Instant) -> Result<Response, Refusal> {
        let gateway = &*self.gateway;
        let wants_timing = request.headers().contains_key(TIMING_HEADER);
        let caller = self.admit(&request)?;
        let body = self.read(request).await?;
        let (push, labels) = self.notification(&caller, &body)?;
        drop(body);
        let id = push.id;
        let notification = Arc::new(push);
        let deadline = started + gateway.config.budget(labels.kind);
        let job = Job { notification: Arc::clone(&notification), accepted_at: started, deadline };
        let submitted = self.dispatch.submit(job).await;
        let verdict = submitted.unwrap_or_else(|_| Verdict::unsent(FailReason::Busy));
        gateway.metrics.settled(labels, &verdict);
        let took = started.elapsed();
        self.log(&notification, &verdict, took);
        let response = reply::verdict(id, &verdict);
        Ok(if wants_timing { reply::with_timing(response, &verdict, took) } else { response })
    }

    fn admit(&self, request: &Request) -> Result<Caller, Refusal> {
        let key = request.extensions().get::<PresentedKey>().map(|key| &key.0);
        self.gateway.gate.admit(key).map_err(|reason| {
            metrics::counter!("gateway_refusals_total", "reason" => reason.code()).increment(1);
            Refusal::Code(reason)
        })
    }

    async fn read(&self, request: Request) -> Result<bytes::Bytes, Refusal> {
        let config = &self.gateway.config;
        let time = Duration::from_millis(config.body_timeout_ms);
        read_body(request.into_body(), config.max_body_bytes, time).await.map_err(|fault| match fault {
            BodyFault::TooLarge => Refusal::BodyTooLarge,
            BodyFault::TooSlow => {
                Refusal::because(FailReason::BadRequest, "the request body took too long to arrive")
            }
            BodyFault::Broken => Refusal::because(FailReason::BadRequest, "the request body broke off"),
        })
    }

    /// Reads and checks the push in the peer's order, and builds the request for its provider.
    fn notification(&self, caller: &Caller, body: &[u8]) -> Result<(Notification, PushLabels), Refusal> {
        let gateway = &*self.gateway;
        let push = PushMessage::parse(body)
            .map_err(|why| Refusal::Text(format!("Failed to read message body: {why}")))?;
        if push.server_id.is_empty() {
            return Err(Refusal::Text("Failed because of missing server Id".into()));
        }
        if push.device_id.is_empty() {
            let server = echo(&push.server_id);
            return Err(Refusal::Text(format!("Failed because of missing device Id serverId={server}")));
        }
        let (platform, app_version) = platform::split(&push.platform);
        let Some(app) = gateway.apps.find(caller.tenant, platform) else {
            let (platform, server) = (echo(platform), echo(&push.server_id));
            return Err(Refusal::Text(format!(
                "Did not send message because of missing platform property type={platform} serverId={server}"
            )));
        };
        let token = DeviceToken::parse(app.provider, push.device_id.to_string())
            .map_err(|why| Refusal::because(FailReason::BadDeviceToken, why))?;
        let labels = PushLabels {
            provider: app.provider,
            kind: push.kind(),
            is_voip: push.is_voip(),
            wants_ack: !push.ack_id.is_empty(),
        };
        gateway.metrics.routed(&app.platform, app_version, labels);
        let id = JobId::new();
        let device = caller.device_key.device_id(&app.id, &token);
        let config = &gateway.config.mattermost;
        let request = match app.provider {
            Provider::Apns => apns::request(&push, app_version, token, id, gateway.clock.now(), config)
                .map(ProviderRequest::Apns),
            Provider::Fcm => fcm::request(&push, token, config).map(ProviderRequest::Fcm),
        };
        let request = request.map_err(Refusal::Code)?;
        let app = Arc::clone(app);
        let notification =
            Notification { id, tenant: caller.tenant, app, device, kind: labels.kind, request };
        Ok((notification, labels))
    }

    /// The one line that is logged of a push.
    fn log(&self, push: &Notification, verdict: &Verdict, took: Duration) {
        let device = self.gateway.gate.log_key().reference(&push.device);
        let reason = verdict.reason.as_ref().map(Reason::as_str);
        let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        info!(
            target: "hpns::push",
            request_id = %push.id,
            tenant = %push.tenant,
            app = %push.app.id,
            kind = push.kind.label(),
            device,
            outcome = verdict.answer.label(),
            reason,
            attempts = verdict.attempts,
            latency_us,
            "push answered"
        );
    }

    /// Counts a receipt once, however often it comes. Nothing is looked up: an unknown id is good.
    async fn acknowledge(&self, request: Request) -> Result<Response, Refusal> {
        let caller = self.admit(&request)?;
        let body = self.read(request).await?;
        let ack =
            Ack::parse(&body).map_err(|why| Refusal::Text(format!("Failed to read ack body: {why}")))?;
        if let Some(missing) = ack.missing() {
            return Err(Refusal::Text(missing.into()));
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((caller.tenant, &*ack.id));
        let acks = &self.gateway.acks;
        if acks.get(&hash).is_none() {
            acks.insert(hash, ());
            Metrics::acked(&ack.platform, &ack.kind);
        }
        Ok(reply::ok())
    }
}

/// Repeats a little of what the caller wrote, as the peer's texts do.
fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_ECHO_CHARACTERS).collect()
}
