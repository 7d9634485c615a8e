//! Simulated APNs: the checks of `POST /3/device/<token>`, in Apple's words.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;

use crate::clock::VirtualClock;
use crate::credentials::{APNS_KEYS, APNS_TEAMS};
use crate::fault::{FaultController, ProviderName};
use crate::http2::{Reply, Request, Service};
use crate::rates::RateWindows;
use crate::record::{Record, count};
use crate::script::{ScriptedAnswer, Scripts};

const STREAMS_UNAUTHORISED: u32 = 1;
const TOKEN_LIFE_SECONDS: u64 = 3600;
const TOKEN_MIN_AGE_SECONDS: u64 = 20 * 60;
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("controls", ".push-type.controls"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("liveactivity", ".push-type.liveactivity"),
    ("location", ".location-query"),
    ("mdm", ""),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
];

/// What all connections to the simulated Apple share.
#[derive(Debug)]
pub(crate) struct Apns {
    /// The bundle ids of the simulated apps. New connections know the present list.
    pub(crate) topics: Mutex<Arc<Vec<String>>>,
    pub(crate) key: Vec<u8>,
    pub(crate) record: Arc<Record>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) controller: Arc<FaultController>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) devices: RateWindows,
    /// Everything is accepted and nothing is kept.
    pub(crate) accept_all: bool,
    pub(crate) delay: Duration,
}

/// One connection: Apple binds it to the team, key and bundle ids of the first push.
pub(crate) struct ApnsConnection {
    apns: Arc<Apns>,
    topics: Arc<Vec<String>>,
    /// The topics of the client's certificate, if it showed one.
    certified: Option<Vec<String>>,
    authorised: bool,
    /// One request at a time: none was accepted yet, or not since a refusal.
    throttled: bool,
    /// Checked tokens, and when each was issued.
    tokens: HashMap<String, Checked>,
    last_token: Option<(String, u64)>,
    bound_to: Option<(String, String)>,
    /// An expired token was seen: later good ones are refused too.
    wedged: bool,
    bad_tokens: u32,
}

#[derive(Debug, Clone)]
struct Checked {
    issued_at: u64,
    team: String,
    key_id: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
}

type Refusal = (u16, &'static str);

impl Apns {
    /// Adds a bundle id. Connections that are open do not learn of it.
    pub(crate) fn add_topic(&self, topic: String) {
        if let Ok(mut topics) = self.topics.lock() {
            let mut more = topics.as_ref().clone();
            more.push(topic);
            *topics = Arc::new(more);
        }
    }
}

impl ApnsConnection {
    /// Takes a connection; `certified` are the topics of the client's certificate.
    pub(crate) fn new(apns: Arc<Apns>, certified: Option<Vec<String>>) -> Self {
        apns.record.connected(&apns.record.apns_connections);
        let topics = apns.topics.lock().map(|topics| Arc::clone(&topics)).unwrap_or_default();
        Self {
            apns,
            topics,
            certified,
            authorised: false,
            throttled: true,
            tokens: HashMap::new(),
            last_token: None,
            bound_to: None,
            wedged: false,
            bad_tokens: 0,
        }
    }

    fn check(&mut self, request: &Request) -> Result<(), Refusal> {
        if request.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let token = request.path.strip_prefix("/3/device/").ok_or((404, "BadPath"))?;
        if self.certified.is_some() {
            self.authorised = true;
        } else {
            self.check_provider_token(request)?;
        }
        check_device_token(token)?;
        check_headers(request)?;
        self.check_topic(request)?;
        let voip = request.header("apns-push-type") == Some("voip");
        match request.body.len() {
            0 => return Err((400, "PayloadEmpty")),
            size if size > if voip { 5120 } else { 4096 } => return Err((413, "PayloadTooLarge")),
            _ if serde_json::from_slice::<HashMap<String, serde_json::Value>>(&request.body).is_err() => {
                return Err((400, "PayloadEmpty"));
            }
            _ => {}
        }
        let limit = self.apns.controller.profile().device_per_minute;
        if self.apns.devices.is_over(token, limit, self.apns.clock.millis()) {
            return Err((429, "TooManyRequests"));
        }
        Ok(())
    }

    fn check_provider_token(&mut self, request: &Request) -> Result<(), Refusal> {
        let header = request.header("authorization").ok_or((403, "MissingProviderToken"))?;
        let token = header.strip_prefix("bearer ").ok_or((403, "InvalidProviderToken"))?;
        let checked = match self.tokens.get(token) {
            Some(checked) => checked.clone(),
            None => self.read_provider_token(token)?,
        };
        let now = self.apns.clock.seconds();
        if self.wedged || now.saturating_sub(checked.issued_at) > TOKEN_LIFE_SECONDS {
            self.wedged = true;
            return Err((403, "ExpiredProviderToken"));
        }
        if let Some((team, key_id)) = &self.bound_to {
            if *team != checked.team {
                return Err((403, "InvalidProviderToken"));
            }
            if *key_id != checked.key_id {
                return Err((403, "UnrelatedKeyIdInToken"));
            }
        }
        match &self.last_token {
            Some((last, _)) if last == token => {}
            Some((_, since)) if now.saturating_sub(*since) < TOKEN_MIN_AGE_SECONDS => {
                return Err((429, "TooManyProviderTokenUpdates"));
            }
            _ => {
                count(&self.apns.record.provider_tokens);
                self.authorised = true;
                self.last_token = Some((token.to_owned(), now));
                self.bound_to = Some((checked.team, checked.key_id));
            }
        }
        Ok(())
    }

    /// Verifies the signature; strict about the encoding, as RFC 7515 is.
    fn read_provider_token(&mut self, token: &str) -> Result<Checked, Refusal> {
        let invalid = (403, "InvalidProviderToken");
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid)?;
        let key_id = header.kid.ok_or(invalid)?;
        if header.alg != Algorithm::ES256 || !APNS_KEYS.contains(&key_id.as_str()) {
            return Err(invalid);
        }
        let mut rules = Validation::new(Algorithm::ES256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let key = DecodingKey::from_ec_der(&self.apns.key);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules).map_err(|_| invalid)?.claims;
        if !APNS_TEAMS.contains(&claims.iss.as_str()) || claims.iat > self.apns.clock.seconds() + 60 {
            return Err(invalid);
        }
        let checked = Checked { issued_at: claims.iat, team: claims.iss, key_id };
        self.tokens.insert(token.to_owned(), checked.clone());
        Ok(checked)
    }

    fn check_topic(&self, request: &Request) -> Result<(), Refusal> {
        // Apple recommends the header; without it a push is an alert.
        let kind = request.header("apns-push-type").unwrap_or("alert");
        let suffix = PUSH_TYPES.iter().find(|(name, _)| *name == kind).ok_or((400, "InvalidPushType"))?.1;
        if let Some(certified) = &self.certified {
            let topic = match (request.header("apns-topic"), certified.as_slice()) {
                (Some(topic), _) => topic,
                (None, [only]) => only,
                (None, _) => return Err((400, "MissingTopic")),
            };
            let known = certified.iter().any(|certified| certified == topic);
            return if known { Ok(()) } else { Err((400, "TopicDisallowed")) };
        }
        let topic = request.header("apns-topic").ok_or((400, "MissingTopic"))?;
        if self.topics.iter().any(|bundle| topic.strip_prefix(bundle.as_str()) == Some(suffix)) {
            return Ok(());
        }
        let now_known = self.apns.topics.lock().is_ok_and(|topics| {
            topics.iter().any(|bundle| topic.strip_prefix(bundle.as_str()) == Some(suffix))
        });
        if now_known {
            return Err((403, "InvalidProviderToken")); // Added after this connection was bound.
        }
        let ours = self.topics.iter().any(|bundle| topic.starts_with(bundle.as_str()));
        Err((400, if ours { "BadTopic" } else { "TopicDisallowed" }))
    }

    /// What the connection does about its own answer: fewer or more streams, or an end.
    fn react(&mut self, reply: &mut Reply, reason: Option<&str>) {
        let profile = self.apns.controller.profile();
        let refused = (400..500).contains(&reply.status) && reply.status != 410;
        if self.authorised && (self.throttled && reply.status == 200) {
            self.throttled = false;
            reply.streams = Some(profile.streams);
        }
        if self.authorised && refused && profile.throttles {
            self.throttled = true;
            reply.streams = Some(STREAMS_UNAUTHORISED);
        }
        if reason == Some("ExpiredProviderToken") {
            self.wedged = true;
        }
        if reason == Some("BadDeviceToken") {
            self.bad_tokens += 1;
            if profile.bad_tokens > 0 && self.bad_tokens == profile.bad_tokens {
                reply.go_away_reason = Some("BadDeviceToken");
            }
        }
    }
}

fn check_device_token(token: &str) -> Result<(), Refusal> {
    if token.is_empty() {
        return Err((400, "MissingDeviceToken"));
    }
    let hex = token.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || !token.len().is_multiple_of(2) || token.len() < 32 || token.len() > 200 {
        return Err((400, "BadDeviceToken"));
    }
    Ok(())
}

fn check_headers(request: &Request) -> Result<(), Refusal> {
    for (at, (name, _)) in request.headers.iter().enumerate() {
        if name.starts_with("apns-") && request.headers.iter().skip(at + 1).any(|(other, _)| other == name) {
            return Err((400, "DuplicateHeaders"));
        }
    }
    if let Some(id) = request.header("apns-id") {
        uuid::Uuid::try_parse(id).map_err(|_| (400, "BadMessageId"))?;
    }
    if request.header("apns-expiration").is_some_and(|time| time.parse::<u64>().is_err()) {
        return Err((400, "BadExpirationDate"));
    }
    if request.header("apns-collapse-id").is_some_and(|id| id.len() > 64) {
        return Err((400, "BadCollapseId"));
    }
    let background = request.header("apns-push-type") == Some("background");
    match request.header("apns-priority") {
        None | Some("1" | "5") => Ok(()),
        Some("10") if !background => Ok(()),
        Some(_) => Err((400, "BadPriority")),
    }
}

fn refusal(reason: &str) -> String {
    json!({ "reason": reason }).to_string()
}

/// The body that Apple would send with this reason; a 410 always says since when.
fn scripted_body(answer: &ScriptedAnswer, now_millis: u64) -> String {
    let Some(reason) = &answer.reason else {
        return String::new();
    };
    match answer.timestamp.or_else(|| (answer.status == 410).then_some(now_millis)) {
        Some(timestamp) => json!({ "reason": reason, "timestamp": timestamp }).to_string(),
        None => refusal(reason),
    }
}

impl Service for ApnsConnection {
    fn initial_streams(&self) -> u32 {
        if self.apns.accept_all { self.apns.controller.profile().streams } else { STREAMS_UNAUTHORISED }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        count(&self.apns.record.apns_requests);
        if self.apns.accept_all {
            return Reply { status: 200, delay: self.apns.delay, ..Reply::default() };
        }
        let checked = self.check(request);
        let token = request.path.rsplit('/').next().unwrap_or_default();
        let scripted = self.apns.scripts.next(ProviderName::Apns, token);
        let usual = || match checked {
            Ok(()) => Reply { status: 200, ..Reply::default() },
            Err((status, reason)) => Reply { status, body: Bytes::from(refusal(reason)), ..Reply::default() },
        };
        let reason = match &scripted {
            Some(answer) if answer.status != 0 => answer.reason.clone(),
            _ => checked.err().map(|(_, reason)| reason.to_owned()),
        };
        let mut reply = match &scripted {
            Some(answer) => answer.reply(usual, || scripted_body(answer, self.apns.clock.millis())),
            None => usual(),
        };
        let id = request.header("apns-id").map(str::to_owned);
        reply.headers.push(("apns-id", id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())));
        self.react(&mut reply, reason.as_deref());
        reply.delay += self.apns.delay;
        reply
    }

    fn settled(&mut self, request: &Request, reply: &Reply) {
        if self.apns.accept_all {
            count(&self.apns.record.accepted);
            return;
        }
        let token = request.path.rsplit('/').next().unwrap_or_default();
        self.apns.record.keep("apns", request, token, reply);
    }

    fn excess_go_away(&self) -> (u32, &'static str) {
        (7, "Maximum active streams violated for this endpoint.")
    }

    fn pinged(&self) {
        count(&self.apns.record.apns_pings);
    }

    fn count_excess_request(&self) {
        count(&self.apns.record.excess_requests);
    }

    fn count_struck(&self, open: usize) {
        self.apns.record.struck_requests.fetch_add(open as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
