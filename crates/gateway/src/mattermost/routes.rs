//! The peer's four routes.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use dispatch_stream::Job;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_edge::{BodyFault, Peer};
use push_domain::{
    DeviceId, DeviceToken, FailReason, JobId, Notification, Provider, ProviderRequest, Reason, Verdict,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

use super::ack::Ack;
use super::message::PushMessage;
use super::metrics::{Metrics, PushLabels};
use super::reply::{self, Refusal};
use super::{apns, fcm, platform, privacy};
use crate::Gateway;
use crate::caller::Caller;
use crate::entrance::Approach;
use crate::fair::FairQueue;
use crate::front::PresentedKey;
use crate::usage::Usage;

/// A caller that sends this header learns how long each part of its push took.
const TIMING_HEADER: &str = "x-hpns-timing";
/// The most that is repeated of what a caller wrote.
const MAX_ECHO_CHARACTERS: usize = 64;

struct Face {
    gateway: Arc<Gateway>,
    queue: Arc<FairQueue>,
    usage: Arc<Usage>,
    tasks: TaskTracker,
}

/// Returns the routes. A path that is none of them is 404, a method that is not theirs 405.
pub(crate) fn router(
    gateway: Arc<Gateway>,
    queue: Arc<FairQueue>,
    usage: Arc<Usage>,
    tasks: TaskTracker,
) -> Router {
    Router::new()
        .route("/", get(welcome).fallback(|| async { reply::wrong_method("GET, HEAD") }))
        .route("/version", get(version).fallback(|| async { reply::wrong_method("GET, HEAD") }))
        .route("/api/v1/send_push", post(send_push).fallback(|| async { reply::wrong_method("POST") }))
        .route("/api/v1/ack", post(acknowledge).fallback(|| async { reply::wrong_method("POST") }))
        .fallback(|| async { reply::not_found() })
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(Arc::new(Face { gateway, queue, usage, tasks }))
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

async fn version(State(face): State<Arc<Face>>) -> Response {
    let crate::Version { hash, version } = &face.gateway.version;
    let body = format!("{{\"hash\":\"{hash}\",\"version\":\"{version}\"}}\n");
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn send_push(State(face): State<Arc<Face>>, request: Request) -> Response {
    let started = Instant::now();
    let id = JobId::new();
    let response = match face.push(request, id, started).await {
        Ok(response) => response,
        Err(refusal) => {
            face.gateway.metrics.refused(refusal.reason);
            if let Some(tenant) = refusal.tenant {
                face.usage.count(tenant, refusal.reason.code());
            }
            // Strangers, and who is over a limit, must not fill the log.
            if let Some(left_out) = face.gateway.refusals.turn(refusal.tenant, refusal.reason) {
                let tenant = refusal.tenant.map(tracing::field::display);
                let left_out = Some(left_out).filter(|count| *count > 0);
                info!(target: "hpns::push", request_id = %id, tenant, outcome = refusal.reason.code(), left_out, "push refused");
            }
            refusal.response()
        }
    };
    face.gateway.metrics.request_took(started.elapsed());
    reply::with_id(response, id)
}

async fn acknowledge(State(face): State<Arc<Face>>, request: Request) -> Response {
    let started = Instant::now();
    let response = face.acknowledge(request).await.unwrap_or_else(|refusal| {
        face.gateway.metrics.refused(refusal.reason);
        refusal.response()
    });
    face.gateway.metrics.request_took(started.elapsed());
    response
}

impl Face {
    /// Checks the caller, reads the push, hands it over and waits. `Err` is a refusal before that.
    async fn push(
        self: &Arc<Self>,
        request: Request,
        id: JobId,
        started: Instant,
    ) -> Result<Response, Refusal> {
        let wants_timing = request.headers().contains_key(TIMING_HEADER);
        let (caller, body) = self.caller_and_body(request).await?;
        // How busy the service is, is nobody's business who has no licence.
        let wants_timing =
            wants_timing && (caller.limits.is_some() || self.gateway.config.timing_without_licence);
        caller.take_rate().await.map_err(|reason| Refusal::plain(reason).of(caller.tenant))?;
        let (push, labels) =
            self.notification(&caller, id, &body).map_err(|refusal| refusal.of(caller.tenant))?;
        drop(body);
        let under_way = caller.enter().map_err(|reason| {
            Refusal::because(reason, "more pushes at once than the licence allows").of(caller.tenant)
        })?;
        let (face, weight) = (Arc::clone(self), caller.weight);
        let settle = async move {
            let verdict = face.settle(Arc::new(push), labels, weight, started).await;
            drop(under_way);
            verdict
        };
        let settled = self.tasks.spawn(settle);
        let Ok(verdict) = settled.await else { return Err(Refusal::plain(FailReason::Internal)) };
        let mut response = reply::verdict(&verdict);
        if let Some(until) = caller.grace {
            metrics::counter!("licence_grace_pushes_total").increment(1);
            response = reply::with_grace(response, until);
        }
        Ok(if wants_timing { reply::with_timing(response, &verdict, started.elapsed()) } else { response })
    }

    /// Waits for the verdict, counts it and logs it, whether or not the caller is still there.
    async fn settle(
        &self,
        push: Arc<Notification>,
        labels: PushLabels,
        weight: u32,
        started: Instant,
    ) -> Verdict {
        let deadline = started + self.gateway.config.budget(push.kind);
        let job = Job { notification: Arc::clone(&push), accepted_at: started, deadline };
        let verdict = self.queue.submit(job, weight).await;
        self.gateway.metrics.settled(labels, &verdict);
        self.usage.count(push.tenant, verdict.answer.label());
        self.log(&push, &verdict, started.elapsed());
        verdict
    }

    fn identify(&self, request: &Request) -> Result<Caller, Refusal> {
        let key = request.extensions().get::<PresentedKey>().map(|key| &key.0);
        let peer = request.extensions().get::<Peer>().copied();
        let gate = &self.gateway.gate;
        gate.identify(&Approach { key, peer, headers: request.headers() }).map_err(|reason| match reason {
            FailReason::WrongRegion => match gate.right_region(key) {
                Some(sentence) => Refusal::because(reason, sentence),
                None => Refusal::plain(reason),
            },
            FailReason::RateLimited => Refusal::because(reason, "too many wrong keys from this address"),
            reason => Refusal::plain(reason),
        })
    }

    /// Says who calls, and reads the body. That of a caller who is refused is read too, and not kept: an answer over unread
    /// bytes would cost the connection, and the next push on it.
    async fn caller_and_body(&self, request: Request) -> Result<(Caller, bytes::Bytes), Refusal> {
        match self.identify(&request) {
            Ok(caller) => {
                let body = http_edge::read(request.into_body()).await.map_err(broken)?;
                Ok((caller, body))
            }
            Err(refusal) => {
                http_edge::discard(request.into_body()).await.map_err(broken)?;
                Err(refusal)
            }
        }
    }

    /// Reads and checks the push in the peer's order, and builds the request for its provider.
    fn notification(
        &self,
        caller: &Caller,
        id: JobId,
        body: &[u8],
    ) -> Result<(Notification, PushLabels), Refusal> {
        let gateway = &*self.gateway;
        let push = PushMessage::parse(body).map_err(|why| {
            Refusal::peer(FailReason::BadRequest, format!("Failed to read message body: {why}"))
        })?;
        if push.server_id.is_empty() {
            return Err(Refusal::peer(FailReason::BadRequest, "Failed because of missing server Id"));
        }
        if push.device_id.is_empty() {
            let server = echo(&push.server_id);
            return Err(Refusal::peer(
                FailReason::BadRequest,
                format!("Failed because of missing device Id serverId={server}"),
            ));
        }
        gateway.gate.admit(caller, &push.server_id).map_err(|reason| {
            Refusal::because(reason, "more pushes than servers without a licence may send from one address")
        })?;
        if !caller.may_come_from(&push.server_id) {
            return Err(Refusal::plain(FailReason::ServerNotBound));
        }
        let push = privacy::applied(push, caller.privacy).map_err(Refusal::plain)?;
        let (platform, app_version) = platform::split(&push.platform);
        let Some(app) = gateway.apps.find(caller.tenant, platform) else {
            let (platform, server) = (echo(platform), echo(&push.server_id));
            return Err(Refusal::peer(
                FailReason::UnknownPlatform,
                format!(
                    "Did not send message because of missing platform property type={platform} serverId={server}"
                ),
            ));
        };
        let token = DeviceToken::parse(app.provider, push.device_id.to_string())
            .map_err(|why| Refusal::because(FailReason::BadDeviceToken, why))?;
        let labels = PushLabels {
            provider: app.provider,
            kind: push.labelled_kind(),
            is_voip: push.is_voip(),
            wants_ack: !push.ack_id.is_empty(),
        };
        let device = caller.device_key.device_id(&app.id, &token);
        if !gateway.devices.lets_through(short(&device)) {
            let sentence = "more pushes to one device than Apple and Google take";
            return Err(Refusal::because(FailReason::RateLimited, sentence));
        }
        let config = &gateway.config.mattermost;
        let request = match app.provider {
            Provider::Apns => apns::request(&push, app_version, token, id, gateway.clock.now(), config)
                .map(ProviderRequest::Apns),
            Provider::Fcm => fcm::request(&push, token, config).map(ProviderRequest::Fcm),
        };
        let request = request.map_err(Refusal::plain)?;
        request.check().map_err(|_| Refusal::plain(FailReason::PayloadTooLarge))?;
        gateway.metrics.routed(&app.platform, app_version, labels);
        let notification =
            Notification { id, tenant: caller.tenant, app, device, kind: push.kind(), request };
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
        let (caller, body) = self.caller_and_body(request).await?;
        self.gateway.gate.admit_receipt(&caller).map_err(Refusal::plain)?;
        let ack = Ack::parse(&body).map_err(|why| {
            Refusal::peer(FailReason::BadRequest, format!("Failed to read ack body: {why}"))
        })?;
        if let Some(missing) = ack.missing() {
            return Err(Refusal::peer(FailReason::BadRequest, missing));
        }
        if self.gateway.receipts.is_new(caller.tenant, &ack.id) {
            Metrics::acked(&ack.platform, &ack.kind);
        }
        Ok(reply::ok())
    }
}

/// A refusal because of a body.
fn broken(fault: BodyFault) -> Refusal {
    let refusal = match fault {
        BodyFault::TooLarge => Refusal::plain(FailReason::BodyTooLarge),
        BodyFault::TooSlow => {
            Refusal::because(FailReason::BadRequest, "the request body took too long to arrive")
        }
        BodyFault::Crowded => Refusal::plain(FailReason::Busy),
        BodyFault::Broken => Refusal::because(FailReason::BadRequest, "the request body broke off"),
    };
    refusal.closing()
}

/// Devices are told apart by 64 bits of their keyed hash.
fn short(device: &DeviceId) -> u64 {
    device.as_bytes().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Repeats a little of what the caller wrote, as the peer's texts do.
fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_ECHO_CHARACTERS).collect()
}
