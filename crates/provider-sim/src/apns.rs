//! Apple's half: the checks of `POST /3/device/<token>`, in Apple's words.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;

use crate::clock::{now_millis, now_seconds};
use crate::credentials::{APNS_KEY_ID, APNS_TEAM_ID};
use crate::http2::{Reply, Request, Service};
use crate::record::{Record, count};
use crate::script::{ScriptedAnswer, Scripts};

const STREAMS_UNAUTHORISED: u32 = 1;
const STREAMS: u32 = 1000;
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
    pub(crate) topics: Vec<String>,
    pub(crate) key: Vec<u8>,
    pub(crate) record: Arc<Record>,
    pub(crate) scripts: Arc<Scripts>,
    /// Everything is accepted and nothing is kept.
    pub(crate) accept_all: bool,
    pub(crate) delay: Duration,
}

/// One connection: Apple binds it to the first provider token that it sees.
pub(crate) struct ApnsConnection {
    apns: Arc<Apns>,
    authorised: bool,
    /// Checked tokens, and when each was issued.
    tokens: HashMap<String, u64>,
    last_token: Option<(String, u64)>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
}

type Refusal = (u16, &'static str);

impl ApnsConnection {
    pub(crate) fn new(apns: Arc<Apns>) -> Self {
        count(&apns.record.apns_connections);
        Self { apns, authorised: false, tokens: HashMap::new(), last_token: None }
    }

    fn check(&mut self, request: &Request) -> Result<(), Refusal> {
        if request.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let token = request.path.strip_prefix("/3/device/").ok_or((404, "BadPath"))?;
        self.check_provider_token(request)?;
        check_device_token(token)?;
        check_headers(request)?;
        self.check_topic(request)?;
        let voip = request.header("apns-push-type") == Some("voip");
        match request.body.len() {
            0 => Err((400, "PayloadEmpty")),
            size if size > if voip { 5120 } else { 4096 } => Err((413, "PayloadTooLarge")),
            _ if serde_json::from_slice::<HashMap<String, serde_json::Value>>(&request.body).is_err() => {
                Err((400, "PayloadEmpty"))
            }
            _ => Ok(()),
        }
    }

    fn check_provider_token(&mut self, request: &Request) -> Result<(), Refusal> {
        let header = request.header("authorization").ok_or((403, "MissingProviderToken"))?;
        let token = header.strip_prefix("bearer ").ok_or((403, "InvalidProviderToken"))?;
        let issued_at = match self.tokens.get(token) {
            Some(issued_at) => *issued_at,
            None => self.read_provider_token(token)?,
        };
        let now = now_seconds();
        if now.saturating_sub(issued_at) > TOKEN_LIFE_SECONDS {
            return Err((403, "ExpiredProviderToken"));
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
            }
        }
        Ok(())
    }

    /// Verifies the signature; strict about the encoding, as RFC 7515 is.
    fn read_provider_token(&mut self, token: &str) -> Result<u64, Refusal> {
        let invalid = (403, "InvalidProviderToken");
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid)?;
        if header.alg != Algorithm::ES256 || header.kid.as_deref() != Some(APNS_KEY_ID) {
            return Err(invalid);
        }
        let mut rules = Validation::new(Algorithm::ES256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let key = DecodingKey::from_ec_der(&self.apns.key);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules).map_err(|_| invalid)?.claims;
        if claims.iss != APNS_TEAM_ID || claims.iat > now_seconds() + 60 {
            return Err(invalid);
        }
        self.tokens.insert(token.to_owned(), claims.iat);
        Ok(claims.iat)
    }

    fn check_topic(&self, request: &Request) -> Result<(), Refusal> {
        let topic = request.header("apns-topic").ok_or((400, "MissingTopic"))?;
        // Apple recommends the header; without it a push is an alert.
        let kind = request.header("apns-push-type").unwrap_or("alert");
        let suffix = PUSH_TYPES.iter().find(|(name, _)| *name == kind).ok_or((400, "InvalidPushType"))?.1;
        if self.apns.topics.iter().any(|bundle| topic.strip_prefix(bundle.as_str()) == Some(suffix)) {
            return Ok(());
        }
        let ours = self.apns.topics.iter().any(|bundle| topic.starts_with(bundle.as_str()));
        Err((400, if ours { "BadTopic" } else { "TopicDisallowed" }))
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
fn scripted_body(answer: &ScriptedAnswer) -> String {
    let Some(reason) = &answer.reason else {
        return String::new();
    };
    match answer.timestamp.or_else(|| (answer.status == 410).then(now_millis)) {
        Some(timestamp) => json!({ "reason": reason, "timestamp": timestamp }).to_string(),
        None => refusal(reason),
    }
}

impl Service for ApnsConnection {
    fn initial_streams(&self) -> u32 {
        if self.apns.accept_all { STREAMS } else { STREAMS_UNAUTHORISED }
    }

    fn answer(&mut self, request: Request) -> Reply {
        count(&self.apns.record.apns_requests);
        if self.apns.accept_all {
            count(&self.apns.record.accepted);
            return Reply { status: 200, delay: self.apns.delay, ..Reply::default() };
        }
        let checked = self.check(&request);
        let usual = || match checked {
            Ok(()) => Reply { status: 200, ..Reply::default() },
            Err((status, reason)) => Reply { status, body: Bytes::from(refusal(reason)), ..Reply::default() },
        };
        let token = request.path.rsplit('/').next().unwrap_or_default();
        let mut reply = match self.apns.scripts.next(token) {
            Some(answer) => answer.reply(usual, scripted_body),
            None => usual(),
        };
        if let Some(id) = request.header("apns-id") {
            reply.headers.push(("apns-id", id.to_owned()));
        }
        reply.streams = self.authorised.then_some(STREAMS);
        reply.delay += self.apns.delay;
        let answered = reply.fate == crate::http2::Fate::Answer;
        self.apns.record.keep("apns", &request, token, if answered { reply.status } else { 0 });
        reply
    }
}
