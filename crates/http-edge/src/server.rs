//! The accept loop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::activity::{Activity, UnderWay, Watched};
use crate::{Peer, Tls};

/// Limits before work: what a caller may cost before its request is looked at.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Until the header of a request is complete, counted from its first byte, or from the connection.
    pub header_timeout: Duration,
    /// Between two requests. Longer than the 90 s for which a Go client keeps a connection.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address. A large Mattermost server has up to 512 senders.
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(100),
            connections: 20_000,
            connections_per_address: 1024,
        }
    }
}

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection that is overdue may take for a last word.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// After a failed accept, such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 on `listener`, over TLS if it is given, until `stop`; then lets requests
/// under way finish.
///
/// Every connection is a task of `tasks`; this returns when no new one will come.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: S,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let sources = Arc::new(Mutex::new(HashMap::<IpAddr, usize>::new()));
    let limits = Arc::new(limits);
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(source) = Source::enter(&sources, peer.ip(), limits.connections_per_address) else {
            debug!("a connection was closed: too many from one address");
            continue;
        };
        let (service, limits, stop) = (service.clone(), Arc::clone(&limits), stop.clone());
        let tls = tls.clone();
        tasks.spawn(async move {
            let _ = stream.set_nodelay(true);
            let peer = Peer { address: peer.ip(), is_tls: tls.is_some() };
            match tls {
                None => converse(stream, peer, service, &limits, stop).await,
                Some(tls) => match timeout(limits.header_timeout, tls.acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, peer, service, &limits, stop).await,
                    Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
                    Err(_) => debug!("a TLS handshake took too long"),
                },
            }
            drop((place, source));
        });
    }
}

/// Serves one connection until it ends, is overdue, or the server stops.
async fn converse<T, S>(stream: T, peer: Peer, service: S, limits: &Limits, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let activity = Activity::new();
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
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let connection = builder.serve_connection(io, Tracked { service, peer, activity: Arc::clone(&activity) });
    tokio::pin!(connection);
    let mut stopping = false;
    let tick = limits.header_timeout.min(limits.idle_timeout) / 2;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(if stopping { tick.min(LAST_CHANCE) } else { tick }) => {
                // The first time says goodbye, which only HTTP/2 has a word for; the next time ends it.
                if activity.overdue(limits) {
                    if stopping {
                        debug!("a connection was closed: it was silent for too long");
                        return;
                    }
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// A service that reports when a request begins and ends, and is told whose it is.
struct Tracked<S> {
    service: S,
    peer: Peer,
    activity: Arc<Activity>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let (service, under_way) = (self.service.clone(), UnderWay::begin(&self.activity));
        Box::pin(async move {
            let response = service.oneshot(request).await;
            drop(under_way);
            response
        })
    }
}

/// One connection's share of what its address may have.
struct Source {
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Source {
    fn enter(sources: &Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr, most: usize) -> Option<Self> {
        let mut counts = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { sources: Arc::clone(sources), address })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut counts = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn a_server(limits: Limits) -> (std::net::SocketAddr, CancellationToken, TaskTracker) {
        let listener = crate::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        tasks.spawn(serve(listener, None, router, limits, stop.clone(), tasks.clone()));
        (address, stop, tasks)
    }

    fn quick() -> Limits {
        Limits {
            header_timeout: Duration::from_millis(60),
            idle_timeout: Duration::from_millis(300),
            ..Limits::default()
        }
    }

    /// Reads until the server closes.
    async fn everything(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn a_request_is_answered_with_a_length() {
        let (address, ..) = a_server(Limits::default());
        let mut stream = TcpStream::connect(address).await.unwrap();

        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();

        let answer = everything(stream).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 200") && answer.contains("content-length: 5"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_or_only_half_a_header_is_closed() {
        let (address, ..) = a_server(quick());
        let silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();

        assert_eq!(everything(silent).await, "");
        assert_eq!(everything(slow).await, "");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_later_than_a_silent_one() {
        let (address, ..) = a_server(quick());
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();

        assert!(everything(stream).await.contains("hello"));
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_connection() {
        let (address, ..) = a_server(Limits { connections_per_address: 1, ..Limits::default() });
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        first.read_exact(&mut head).await.unwrap();

        let second = TcpStream::connect(address).await.unwrap();

        assert_eq!(everything(second).await, "");
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections_and_the_server() {
        let (address, stop, tasks) = a_server(Limits::default());
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();

        stop.cancel();
        tasks.close();

        tasks.wait().await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_has_said_all_or_too_much_still_gets_its_answer() {
        let (address, ..) = a_server(Limits::default());
        for rest in ["", "half of something"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{rest}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();

            assert!(everything(stream).await.contains("hello"));
        }
    }

    #[tokio::test]
    async fn a_length_beside_chunks_is_ignored_and_the_connection_closed() {
        let (address, ..) = a_server(Limits::default());
        let mut stream = TcpStream::connect(address).await.unwrap();

        let smuggled = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(smuggled).await.unwrap();

        let answer = everything(stream).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }

    use tokio::time::Instant;
}
