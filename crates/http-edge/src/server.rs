//! HTTP server: the accept loop, and the life of a connection.

use std::convert::Infallible;
use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use push_domain::LogSampler;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::activity::{Activity, InFlightGuard, MonitoredIo};
use crate::body::LimitedBody;
use crate::connection_table::Network;
use crate::edge::{ConnectionPermit, Edge};
use crate::limits::Limit;
use crate::{ErrorKind, Peer, Problem, Tls};

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection that is overdue may take for a last word.
const OVERDUE_GRACE: Duration = Duration::from_secs(1);
/// How long who has to make room may take to end.
const EVICTION_GRACE: Duration = Duration::from_millis(100);
/// How long it may take to tell a caller that there is no place.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed accept, such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 on `listener`, over TLS if it is given, until `stop`; then lets requests
/// under way finish. What callers may cost is counted by `edge`, which listeners share.
///
/// Every connection is a task of `tasks`; this returns when no new one will come.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: S,
    edge: Arc<Edge>,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    S: Service<Request<LimitedBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let failed = LogSampler::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(left_out) = failed.turn() {
                    warn!(%error, left_out, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let tls = tls.clone();
        let place = match edge.enter(peer.ip()) {
            Ok(place) => place,
            Err(limit) => {
                edge.note(limit);
                if let Ok(turn) = Arc::clone(&edge.refusing).try_acquire_owned() {
                    let edge = Arc::clone(&edge);
                    tasks.spawn(async move {
                        let _ = timeout(REFUSAL_TIMEOUT, refuse(stream, tls, &edge, limit)).await;
                        drop(turn);
                    });
                }
                continue;
            }
        };
        let peer = Peer { address: peer.ip(), is_tls: tls.is_some() };
        let tracked = RequestTracker {
            service: service.clone(),
            peer,
            site: Network::site(peer.address),
            activity: Arc::clone(&place.activity),
            edge: Arc::clone(&edge),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            match tls {
                None => drive_connection(stream, tracked, &place, stop).await,
                Some(tls) => {
                    if let Some(stream) = tls_handshake(stream, &tls, &place, &tracked.edge).await {
                        drive_connection(stream, tracked, &place, stop).await;
                    }
                }
            }
        });
    }
}

/// Shakes hands, in the time that a header has; the header has all of its own after it.
async fn tls_handshake(
    stream: TcpStream,
    tls: &Tls,
    place: &ConnectionPermit,
    edge: &Edge,
) -> Option<TlsStream<TcpStream>> {
    let shaken = tokio::select! {
        shaken = timeout(edge.limits.header_timeout, tls.acceptor.accept(stream)) => shaken,
        () = place.evict.cancelled() => return None,
    };
    match shaken {
        Ok(Ok(stream)) => {
            place.activity.header_begins();
            return Some(stream);
        }
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => edge.note(Limit::Header),
    }
    None
}

/// Tells a caller that there is no place for it.
async fn refuse(stream: TcpStream, tls: Option<Tls>, edge: &Edge, limit: Limit) {
    match tls {
        None => last_answer(stream, edge, limit).await,
        Some(tls) => {
            if let Ok(stream) = tls.acceptor.accept(stream).await {
                last_answer(stream, edge, limit).await;
            }
        }
    }
}

async fn last_answer<T>(stream: T, edge: &Edge, limit: Limit)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|_| ready(Ok::<_, Infallible>(edge.answer(limit))));
    let _ = builder().serve_connection(TokioIo::new(stream), service).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // Answers are small: copying one behind its head is cheaper than a vectored write.
        .writev(false)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(16 * 1024)
        // What waits unread in a connection is bounded by these.
        .initial_connection_window_size(256 * 1024)
        .initial_stream_window_size(64 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Serves one connection until it ends, is overdue, has to make room, or the server stops.
async fn drive_connection<T, S>(
    stream: T,
    tracked: RequestTracker<S>,
    place: &ConnectionPermit,
    stop: CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<LimitedBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (builder, edge, activity) = (builder(), Arc::clone(&tracked.edge), &place.activity);
    let io = TokioIo::new(MonitoredIo::new(stream, Arc::clone(activity)));
    let connection = builder.serve_connection(io, tracked);
    tokio::pin!(connection);
    let mut stopping = false;
    let limits = &edge.limits;
    let tick = limits.header_timeout.min(limits.idle_timeout) / 2;
    // Only those that are woken are polled: each takes locks, and the connection wakes this task several times a request.
    let mut interruptions = FuturesUnordered::<BoxFuture<'_, Interruption>>::new();
    interruptions.push(Box::pin(place.evict.cancelled().map(|()| Interruption::Evicted)));
    interruptions.push(Box::pin(stop.cancelled().map(|()| Interruption::Stopped)));
    let mut watch = pin!(tokio::time::sleep(tick));
    loop {
        let interruption = tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended with an error");
                }
                return;
            }
            Some(interruption) = interruptions.next() => interruption,
            () = watch.as_mut() => Interruption::Tick,
        };
        match interruption {
            Interruption::Evicted => {
                connection.as_mut().graceful_shutdown();
                // One that nobody has used yet has no other end than this; a request that began meanwhile is answered.
                while timeout(EVICTION_GRACE, connection.as_mut()).await.is_err()
                    && activity.idle_since().is_none()
                {}
                return;
            }
            Interruption::Stopped => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            Interruption::Tick => {
                // The first time says goodbye, which only HTTP/2 has a word for; the next time ends it.
                if let Some(is_header) = activity.overdue(limits) {
                    if stopping {
                        if is_header {
                            edge.note(Limit::Header);
                        }
                        return;
                    }
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        watch.as_mut().reset(Instant::now() + if stopping { tick.min(OVERDUE_GRACE) } else { tick });
    }
}

/// What may end a connection from outside.
enum Interruption {
    /// It has to make room.
    Evicted,
    /// The server stops.
    Stopped,
    /// It is time to look whether it is overdue.
    Tick,
}

/// Service wrapper that tracks a request's begin and end, and attaches its peer.
struct RequestTracker<S> {
    service: S,
    peer: Peer,
    site: Network,
    activity: Arc<Activity>,
    edge: Arc<Edge>,
}

impl<S> hyper::service::Service<Request<Incoming>> for RequestTracker<S>
where
    S: Service<Request<LimitedBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let under_way = InFlightGuard::begin(&self.activity);
        let stream = if under_way.is_alone { None } else { Some(self.edge.begin_stream()) };
        if matches!(stream, Some(None)) {
            self.edge.note(Limit::Streams);
            return Box::pin(ready(Ok(self.edge.answer(Limit::Streams))));
        }
        if !is_plain(request.headers()) {
            return Box::pin(ready(Ok(unknown_coding())));
        }
        request.extensions_mut().insert(self.peer);
        let (edge, activity) = (Arc::clone(&self.edge), Arc::clone(&self.activity));
        let request = request.map(|body| LimitedBody::new(body, self.site, edge, activity));
        let service = self.service.clone();
        Box::pin(async move {
            let response = service.oneshot(request).await;
            drop((under_way, stream));
            response
        })
    }
}

/// Says whether a body comes as it is: hyper reads one whose last coding is `chunked` and hands the codings before it on.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn unknown_coding() -> Response<Body> {
    let detail = "`Transfer-Encoding` has to be `chunked` and nothing else";
    let mut response = Problem::new(ErrorKind::BadRequest, "unknown_coding", detail).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
