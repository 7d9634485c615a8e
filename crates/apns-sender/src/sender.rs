//! APNs sender: one notification over HTTP/2, with bounded resends, and the outcome.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use push_domain::{
    ApnsRequest, Attempt, OutboundProxy, Outcome, ProviderRequest, PushSender, PushType, Reason, RetryScope,
    Timestamp,
};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::certificate::Certificate;
use crate::connection::{Dialler, Endpoint};
use crate::pool::permit::StreamPermit;
use crate::pool::{NoConnection, Pool};
use crate::response::{RetryDecision, UNREADABLE, classify, read_error};
use crate::tls::{TlsError, client_config};
use crate::token::{InvalidCredentials, ProviderToken};

const APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// An error body is some 60 bytes; more than this was not written by Apple.
const MAX_ERROR_BODY_BYTES: usize = 4096;
/// How long the reason of a refusal may take behind its status.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RETRY_AFTER: Duration = Duration::from_mins(1);
/// How long an answer is still taken off the connection after its caller has left. What comes later finds its stream
/// reset.
const LATE_RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// So many wait for the isolated connections; more would keep places that others need.
const MAX_ISOLATED_WAITING: usize = 100;

/// Settings of one app's APNs sender.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The app's name in logs and metrics.
    pub name: String,
    /// Where to connect.
    pub endpoint: Endpoint,
    /// The bundle id.
    pub topic: String,
    /// Whose certificates are trusted.
    pub roots: Arc<RootCertStore>,
    /// The most connections at once.
    pub max_connections: usize,
    /// How long after the last PING a connection is asked whether it still lives. A minute keeps it in
    /// the tables of firewalls; Apple itself wants no more than one an hour.
    pub ping_interval: Duration,
    /// The way out, if it is not direct.
    pub proxy: Option<OutboundProxy>,
}

/// Provider credential towards APNs: a signing key or a client certificate.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A team, by the token that its key signs.
    Token(Arc<ProviderToken>),
    /// One app, by its certificate.
    Certificate(Arc<Certificate>),
}

/// Sends to one app through one APNs environment. When it is dropped its connections end, each with
/// its last answer.
pub struct ApnsSender {
    pool: Pool,
    /// For tenants whose tokens are bad too often: Apple slows down whole connections for that.
    isolated: Pool,
    identity: Identity,
    tasks: TaskTracker,
    authority: Authority,
    topics: [(PushType, HeaderValue); 3],
}

/// Error of an HTTP/2 exchange: why a request got no response.
enum ExchangeError {
    /// Apple has not processed it, for certain, and will do no more on this connection.
    Unsent(&'static str),
    /// Apple lowered the number of open requests below this one, and its time is over. What `h2` still
    /// sends of it is a header and a reset.
    NoFreeStream,
    /// It may have been delivered.
    Lost(&'static str),
}

struct Reply {
    status: u16,
    reason: String,
    timestamp: Option<Timestamp>,
    retry_after: Option<Duration>,
}

impl ApnsSender {
    /// Makes a sender; it connects when it is first used.
    pub fn new(settings: Settings, identity: Identity, tasks: TaskTracker) -> Result<Self, TlsError> {
        let Settings { name, endpoint, topic, roots, max_connections, ping_interval, proxy } = settings;
        let authority = Authority::try_from(format!("{}:{}", endpoint.host, endpoint.port))
            .map_err(|_| rustls::Error::General("the APNs host is not a host name".into()))?;
        let header = |push_type: PushType| {
            HeaderValue::try_from(format!("{topic}{}", push_type.topic_suffix()))
                .map(|value| (push_type, value))
                .map_err(|_| rustls::Error::General("the APNs topic is not a header value".into()))
        };
        let topics = [header(PushType::Alert)?, header(PushType::Background)?, header(PushType::Voip)?];
        let certificate = match &identity {
            Identity::Token(_) => None,
            Identity::Certificate(certificate) => Some(&**certificate),
        };
        let tls = client_config(roots, certificate)?;
        let dialler = Dialler { endpoint, tls, proxy, ping_interval };
        let isolated = Pool::new(
            format!("{name} (isolated)"),
            dialler.clone(),
            max_connections,
            MAX_ISOLATED_WAITING,
            &tasks,
        );
        let pool = Pool::new(name, dialler, max_connections, usize::MAX, &tasks);
        Ok(Self { pool, isolated, identity, tasks, authority, topics })
    }

    /// The `authorization` header; none where a certificate speaks for us.
    fn authorization(&self, renew: bool) -> Result<Option<HeaderValue>, InvalidCredentials> {
        match &self.identity {
            Identity::Token(token) if renew => token.renewed().map(Some),
            Identity::Token(token) => token.header().map(Some),
            Identity::Certificate(_) => Ok(None),
        }
    }

    fn request(
        &self,
        push: &ApnsRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<Request<()>, http::Error> {
        let mut path = BytesMut::with_capacity(10 + push.token.expose().len());
        path.extend_from_slice(b"/3/device/");
        path.extend_from_slice(push.token.expose().as_bytes());
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_maybe_shared(path.freeze())?)
            .build()?;
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        for (push_type, topic) in &self.topics {
            if *push_type == push.push_type {
                headers.insert(APNS_TOPIC, topic.clone());
            }
        }
        headers.insert(APNS_PUSH_TYPE, HeaderValue::from_static(push.push_type.as_str()));
        headers.insert(APNS_PRIORITY, HeaderValue::from_static(push.priority.as_str()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(APNS_ID, unindexed(push.id.uuid().hyphenated().to_string())?);
        if let Some(time) = push.expires_at {
            headers.insert(APNS_EXPIRATION, unindexed(time.seconds().to_string())?);
        }
        if let Some(id) = &push.collapse_id {
            headers.insert(APNS_COLLAPSE_ID, unindexed(id.as_str().to_owned())?);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn push(&self, push: &ApnsRequest, attempt: Attempt) -> Outcome {
        let mut renew = false;
        let mut remedied = false;
        let mut resends = 0;
        let mut refused = None;
        let pool = if attempt.isolate { &self.isolated } else { &self.pool };
        loop {
            let permit = match timeout_at(attempt.deadline, pool.acquire(push.body.size_bytes())).await {
                Ok(Ok(permit)) => Arc::new(permit),
                Ok(Err(NoConnection::Refused(reason))) => return Outcome::Misconfigured { reason },
                Ok(Err(NoConnection::Crowded)) => return crowded(),
                Ok(Err(NoConnection::Unreachable)) => {
                    return refused.unwrap_or_else(|| later(false, "Unreachable"));
                }
                Err(_) => return refused.unwrap_or_else(|| later(false, "NoConnection")),
            };
            // Only now: a connection must not see an older token after a newer one.
            let Ok(header) = self.authorization(renew) else {
                return Outcome::Misconfigured { reason: Reason::known("SigningFailed") };
            };
            let Ok(request) = self.request(push, header) else {
                return Outcome::Refused { reason: Reason::known("UnsendableRequest") };
            };
            match self.exchange(&permit, request, push.body.expose(), attempt).await {
                Ok(reply) => {
                    let classified =
                        classify(reply.status, &reply.reason, reply.timestamp, reply.retry_after);
                    if reply.status >= 500 {
                        permit.mark_degraded();
                    }
                    let again = match classified.retry {
                        RetryDecision::None => false,
                        RetryDecision::Leave => {
                            permit.retire_connection();
                            false
                        }
                        RetryDecision::Reconnect | RetryDecision::Reauthenticate => {
                            let word = classified.outcome.reason();
                            word.is_some_and(|word| permit.replace_connection(word)) && !remedied
                        }
                    };
                    if !again || reply.retry_after.is_some() {
                        return classified.outcome;
                    }
                    remedied = true;
                    refused = Some(classified.outcome);
                    renew = classified.retry == RetryDecision::Reauthenticate;
                }
                Err(ExchangeError::Unsent(word)) => {
                    permit.retire_connection();
                    resends += 1;
                    if resends > 2 {
                        return later(false, word);
                    }
                }
                Err(ExchangeError::NoFreeStream) => return later(false, "NoConnection"),
                Err(ExchangeError::Lost(word)) => return later(true, word),
            }
        }
    }

    /// Sends and waits until the deadline; then the place on the connection is given back. An answer that comes
    /// a little later is still taken off the connection, because forgetting it resets the stream, and many resets end
    /// a connection; one that never comes must not hold a stream that others need.
    async fn exchange(
        &self,
        permit: &Arc<StreamPermit>,
        request: Request<()>,
        body: Bytes,
        attempt: Attempt,
    ) -> Result<Reply, ExchangeError> {
        let sent_at = Instant::now();
        let mut exchange = Box::pin(exchange(Arc::clone(permit), request, body, attempt.deadline));
        if let Ok(answer) = timeout_at(attempt.deadline, &mut exchange).await {
            return answer;
        }
        permit.suspect_connection(sent_at);
        permit.release_before_response();
        self.tasks.spawn(tokio::time::timeout(LATE_RESPONSE_TIMEOUT, exchange));
        Err(ExchangeError::Lost("Timeout"))
    }
}

async fn exchange(
    permit: Arc<StreamPermit>,
    request: Request<()>,
    body: Bytes,
    deadline: Instant,
) -> Result<Reply, ExchangeError> {
    let mut requests = permit.requests.clone();
    poll_fn(|cx| requests.poll_ready(cx)).await.map_err(|_| ExchangeError::Unsent("ConnectionLost"))?;
    let (response, mut stream) =
        requests.send_request(request, false).map_err(|_| ExchangeError::Unsent("ConnectionLost"))?;
    stream.send_data(body, true).map_err(|_| ExchangeError::Lost("ConnectionLost"))?;
    // Ready at once, unless the request waits for a stream.
    if poll_fn(|cx| Poll::Ready(requests.poll_ready(cx).is_pending())).await {
        let opened = timeout_at(deadline, poll_fn(|cx| requests.poll_ready(cx))).await;
        opened.map_err(|_| ExchangeError::NoFreeStream)?.map_err(|error| exchange_error(&error))?;
    }
    let response = response.await.map_err(|error| exchange_error(&error))?;
    let (head, body) = response.into_parts();
    permit.answered(head.status == StatusCode::OK);
    let mut reply = Reply {
        status: head.status.as_u16(),
        reason: String::new(),
        timestamp: None,
        retry_after: head.headers.get(RETRY_AFTER).map(retry_after),
    };
    if head.status != StatusCode::OK {
        // A status whose reason does not come counts without it.
        let error = timeout(ERROR_BODY_TIMEOUT, read_body(body)).await.ok().flatten();
        (reply.reason, reply.timestamp) = error.unwrap_or_else(|| (UNREADABLE.into(), None));
    }
    Ok(reply)
}

async fn read_body(mut body: RecvStream) -> Option<(String, Option<Timestamp>)> {
    let mut text = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ERROR_BODY_BYTES {
            break;
        }
    }
    Some(read_error(&text))
}

/// A refused stream, or one above the last that a GOAWAY names, was not processed (RFC 9113, 6.8 and 8.7).
fn exchange_error(error: &h2::Error) -> ExchangeError {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // Only in Apple's own words: what `h2` makes up on our side says nothing of what Apple has done.
    if error.is_remote() && (refused || error.is_go_away()) {
        return ExchangeError::Unsent("ConnectionRetired");
    }
    ExchangeError::Lost("ConnectionLost")
}

/// Seconds. Apple documents no `Retry-After`; one that we cannot read is still a wish to wait.
fn retry_after(value: &HeaderValue) -> Duration {
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    seconds.map_or(DEFAULT_RETRY_AFTER, Duration::from_secs)
}

/// Keeps a value that never repeats out of the peer's header table.
fn unindexed(text: String) -> Result<HeaderValue, http::Error> {
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The tenant's own pushes are too many for its own connections; Apple was not asked.
const fn crowded() -> Outcome {
    let reason = Reason::known("IsolatedCrowd");
    Outcome::TryLater { after: None, scope: RetryScope::Device, ambiguous: false, reason }
}

const fn later(ambiguous: bool, word: &'static str) -> Outcome {
    Outcome::TryLater { after: None, scope: RetryScope::Attempt, ambiguous, reason: Reason::known(word) }
}

#[async_trait]
impl PushSender for ApnsSender {
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome {
        match request {
            ProviderRequest::Apns(push) => self.push(push, attempt).await,
            ProviderRequest::Fcm(_) => Outcome::Refused { reason: Reason::known("WrongProvider") },
        }
    }
}

impl Drop for ApnsSender {
    fn drop(&mut self) {
        self.pool.close();
        self.isolated.close();
    }
}

impl fmt::Debug for ApnsSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApnsSender").field("pool", &self.pool).finish_non_exhaustive()
    }
}
