//! Simulated FCM: the checks of `POST /v1/projects/<project>/messages:send`, in Google's words.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::clock::VirtualClock;
use crate::credentials::FCM_PROJECT;
use crate::fault::{FaultController, ProviderName};
use crate::http2::{Reply, Request, Service};
use crate::oauth::OAuth;
use crate::rates::RateWindows;
use crate::record::{Record, count};
use crate::script::{OAUTH, ScriptedAnswer, Scripts};

const MAX_DATA_BYTES: usize = 4096;
const MAX_TTL_SECONDS: f64 = 2_419_200.0;
const MESSAGE_FIELDS: [&str; 11] = [
    "fcm_options",
    "name",
    "token",
    "fid",
    "topic",
    "condition",
    "data",
    "notification",
    "android",
    "apns",
    "webpush",
];
const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const QUOTA_FAILURE: &str = "type.googleapis.com/google.rpc.QuotaFailure";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// The key of the project's own window; no device token has this form.
const PROJECT: &str = "/project";

/// What all connections to the simulated Google share.
#[derive(Debug)]
pub(crate) struct Fcm {
    pub(crate) oauth: OAuth,
    pub(crate) record: Arc<Record>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) controller: Arc<FaultController>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) rates: RateWindows,
    /// Everything is accepted and nothing is kept.
    pub(crate) accept_all: bool,
    pub(crate) delay: Duration,
}

/// One connection.
pub(crate) struct FcmConnection(Arc<Fcm>);

/// A refusal: HTTP status, canonical status, text, details.
struct Refusal(u16, &'static str, String, Vec<Value>);

impl Refusal {
    fn invalid(message: impl Into<String>, details: Vec<Value>) -> Self {
        Self(400, "INVALID_ARGUMENT", message.into(), details)
    }

    fn field(field: &str, message: &str) -> Self {
        let violation = json!({ "field": field, "description": message });
        Self::invalid(message, vec![json!({ "@type": BAD_REQUEST, "fieldViolations": [violation] })])
    }

    fn body(&self) -> String {
        let Self(code, status, message, details) = self;
        let mut error = json!({ "code": code, "message": message, "status": status });
        if !details.is_empty()
            && let Some(error) = error.as_object_mut()
        {
            error.insert("details".into(), json!(details));
        }
        json!({ "error": error }).to_string()
    }
}

fn fcm_error(code: &str) -> Value {
    json!({ "@type": FCM_ERROR, "errorCode": code })
}

/// Google's words for a project that sends too much.
fn project_quota() -> Refusal {
    let limit = json!({ "quota_limit": "SendsPerMinutePerProject", "quota_metric": "fcm.googleapis.com/send_requests" });
    let info = json!({ "@type": ERROR_INFO, "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com", "metadata": limit });
    let text = "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service 'fcm.googleapis.com'.";
    Refusal(429, "RESOURCE_EXHAUSTED", text.into(), vec![info])
}

/// The same for a device that gets too much.
fn device_quota() -> Refusal {
    let violation = json!({ "subject": "device", "description": "Message rate limit exceeded for device" });
    let details = vec![
        fcm_error("QUOTA_EXCEEDED"),
        json!({ "@type": ERROR_INFO, "reason": "QUOTA_EXCEEDED", "domain": "googleapis.com" }),
        json!({ "@type": QUOTA_FAILURE, "violations": [violation] }),
        json!({ "@type": RETRY_INFO, "retryDelay": "42s" }),
    ];
    Refusal(429, "RESOURCE_EXHAUSTED", "Message rate limit exceeded for device".into(), details)
}

fn check(fcm: &Fcm, request: &Request) -> Result<String, Refusal> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if !bearer.is_some_and(|token| fcm.oauth.knows(token)) {
        let text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.";
        let info =
            json!({ "@type": ERROR_INFO, "reason": "ACCESS_TOKEN_EXPIRED", "domain": "googleapis.com" });
        return Err(Refusal(401, "UNAUTHENTICATED", text.into(), vec![info]));
    }
    if fcm.rates.is_over(PROJECT, fcm.controller.profile().quota_per_minute, fcm.clock.millis()) {
        return Err(project_quota());
    }
    if request.path != format!("/v1/projects/{FCM_PROJECT}/messages:send") || request.method != "POST" {
        return Err(Refusal(404, "NOT_FOUND", "Requested entity was not found.".into(), Vec::new()));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|_| Refusal::field("", "Invalid JSON payload received."))?;
    let message = body
        .get("message")
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::field("message", "Invalid value"))?;
    if let Some(unknown) = message.keys().find(|key| !MESSAGE_FIELDS.contains(&key.as_str())) {
        let text = format!(
            "Invalid JSON payload received. Unknown name \"{unknown}\" at 'message': Cannot find field."
        );
        return Err(Refusal::field("message", &text));
    }
    let token = check_target(message)?;
    if let Some(data) = message.get("data") {
        check_data(data)?;
    }
    if let Some(android) = message.get("android") {
        check_android(android)?;
    }
    if fcm.rates.is_over(&token, fcm.controller.profile().device_per_minute, fcm.clock.millis()) {
        return Err(device_quota());
    }
    Ok(token)
}

fn check_target(message: &Map<String, Value>) -> Result<String, Refusal> {
    let targets = ["token", "fid", "topic", "condition"];
    let given: Vec<_> = targets.into_iter().filter(|target| message.contains_key(*target)).collect();
    let token = message.get("token").and_then(Value::as_str).unwrap_or_default();
    if given.len() != 1 || (given == ["token"] && token.is_empty()) {
        let violation = json!({ "@type": BAD_REQUEST, "fieldViolations": [{ "field": "message", "description": "Recipient of the message is not set." }] });
        return Err(Refusal::invalid(
            "Recipient of the message is not set.",
            vec![violation, fcm_error("INVALID_ARGUMENT")],
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'-');
    if !token.bytes().all(plain) {
        let text = "The registration token is not a valid FCM registration token";
        return Err(Refusal::invalid(text, vec![fcm_error("INVALID_ARGUMENT")]));
    }
    Ok(token.to_owned())
}

fn check_data(data: &Value) -> Result<(), Refusal> {
    let data = data.as_object().ok_or_else(|| Refusal::field("message.data", "Invalid value"))?;
    let mut size = 0;
    for (at, (key, value)) in data.iter().enumerate() {
        let Some(text) = value.as_str() else {
            return Err(Refusal::field(&format!("message.data[{at}].value"), "Invalid value (TYPE_STRING)"));
        };
        let reserved = matches!(key.as_str(), "from" | "message_type" | "gcm")
            || key.starts_with("google")
            || key.starts_with("gcm.notification.");
        if reserved {
            return Err(Refusal::invalid(
                format!("Invalid data payload key: {key}"),
                vec![fcm_error("INVALID_ARGUMENT")],
            ));
        }
        size += key.len() + text.len();
    }
    if size > MAX_DATA_BYTES {
        return Err(Refusal::invalid("Android message is too big", Vec::new()));
    }
    Ok(())
}

fn check_android(android: &Value) -> Result<(), Refusal> {
    let priority =
        android.get("priority").map(|value| value.as_str().unwrap_or_default().to_ascii_lowercase());
    if priority.is_some_and(|word| word != "normal" && word != "high") {
        return Err(Refusal::field("message.android.priority", "Invalid value"));
    }
    if let Some(ttl) = android.get("ttl") {
        let seconds =
            ttl.as_str().and_then(|text| text.strip_suffix('s')).and_then(|text| text.parse::<f64>().ok());
        if !seconds.is_some_and(|seconds| (0.0..=MAX_TTL_SECONDS).contains(&seconds)) {
            return Err(Refusal::field("message.android.ttl", "Invalid value"));
        }
    }
    Ok(())
}

/// The body that Google would send with this status and word.
fn scripted_body(answer: &ScriptedAnswer) -> String {
    let Some(reason) = answer.reason.as_deref() else {
        return String::new();
    };
    let canonical = match answer.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let detail = match reason {
        "" => Vec::new(),
        "RATE_LIMIT_EXCEEDED" | "IAM_PERMISSION_DENIED" | "ACCESS_TOKEN_EXPIRED" => {
            vec![json!({ "@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com" })]
        }
        _ => vec![fcm_error(reason)],
    };
    Refusal(answer.status, canonical, "scripted".into(), detail).body()
}

impl FcmConnection {
    pub(crate) fn new(fcm: Arc<Fcm>) -> Self {
        fcm.record.connected(&fcm.record.fcm_connections);
        Self(fcm)
    }

    fn send(&self, request: &Request) -> Reply {
        let fcm = &*self.0;
        count(&fcm.record.fcm_requests);
        if fcm.accept_all {
            return Reply {
                status: 200,
                body: Bytes::from_static(br#"{"name":"projects/proj-1/messages/0:1"}"#),
                delay: fcm.delay,
                ..Reply::default()
            };
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let checked = check(fcm, request);
        let dry = body.get("validate_only").and_then(Value::as_bool) == Some(true);
        let usual = || match checked {
            Ok(_) => {
                let id = if dry {
                    "fake_message_id".into()
                } else {
                    format!("0:{}", uuid::Uuid::new_v4().simple())
                };
                let name = format!("projects/{FCM_PROJECT}/messages/{id}");
                Reply {
                    status: 200,
                    body: Bytes::from(json!({ "name": name }).to_string()),
                    delivered: dry.then_some(false),
                    ..Reply::default()
                }
            }
            Err(refusal) => {
                // Only a device's limit says how long it lasts.
                let wait = refusal.body().contains(RETRY_INFO).then(|| ("retry-after", "42".to_owned()));
                let headers = wait.into_iter().collect();
                Reply { status: refusal.0, body: Bytes::from(refusal.body()), headers, ..Reply::default() }
            }
        };
        let mut reply = match fcm.scripts.next(ProviderName::Fcm, &device(request)) {
            Some(answer) => answer.reply(usual, || scripted_body(&answer)),
            None => usual(),
        };
        reply.headers.push(("content-type", "application/json; charset=UTF-8".into()));
        reply.delay += fcm.delay;
        reply
    }
}

fn device(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    body.pointer("/message/token").and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Service for FcmConnection {
    fn initial_streams(&self) -> u32 {
        self.0.controller.profile().streams
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if request.path != "/token" {
            return self.send(request);
        }
        count(&self.0.record.token_requests);
        let usual = || self.0.oauth.grant(request, self.0.controller.profile().token_life_seconds);
        match self.0.scripts.next(ProviderName::Fcm, OAUTH) {
            Some(answer) => answer.reply(usual, || json!({ "error": answer.reason }).to_string()),
            None => usual(),
        }
    }

    fn settled(&mut self, request: &Request, reply: &Reply) {
        if request.path == "/token" {
            return;
        }
        if self.0.accept_all {
            count(&self.0.record.accepted);
            return;
        }
        self.0.record.keep("fcm", request, &device(request), reply);
    }

    fn excess_go_away(&self) -> (u32, &'static str) {
        (1, "exceeded_max_concurrent_streams")
    }

    fn pinged(&self) {
        count(&self.0.record.fcm_pings);
    }

    fn count_excess_request(&self) {
        count(&self.0.record.excess_requests);
    }

    fn count_struck(&self, open: usize) {
        self.0.record.struck_requests.fetch_add(open as u64, Ordering::Relaxed);
    }
}
