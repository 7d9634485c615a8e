//! One HTTP/2 connection to Apple: dialling, and the task that drives it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use push_domain::OutboundProxy;
use rand::seq::SliceRandom;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::coalesce::{CoalescingTransport, FlushHandle, coalesce};
use crate::keep_alive::{KeepAlive, Liveness, WATCH};

/// Ours to cap, whatever Apple would allow: the most requests in flight on one connection.
const MAX_STREAMS: usize = 1000;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("no address was found for the APNs host")]
    NoAddress,
    #[error("dialling took longer than 5 s")]
    Timeout,
    #[error("the server does not speak HTTP/2")]
    NotHttp2,
    #[error("no PING was answered in time")]
    PingTimeout,
    #[error("the APNs host name is not valid")]
    HostName,
    #[error("the proxy opened no tunnel: {0}")]
    Proxy(&'static str),
    #[error("transport: {0}")]
    Transport(#[from] io::Error),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, looked up anew for every connection.
    pub host: String,
    /// 443, or 2197 where a firewall wants it.
    pub port: u16,
}

/// Dials one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) proxy: Option<OutboundProxy>,
    /// After this time without a PING the connection is asked whether it still lives.
    pub(crate) ping_interval: Duration,
}

impl Dialler {
    /// Makes a connection, through the proxy if there is one. Without, the name is looked up anew, as
    /// Apple asks, and its addresses are tried in random order.
    pub(crate) async fn dial(&self) -> Result<(SendRequest<Bytes>, Driver), ConnectionError> {
        timeout(DIAL_TIMEOUT, self.dial_without_timeout()).await.map_err(|_| ConnectionError::Timeout)?
    }

    async fn dial_without_timeout(&self) -> Result<(SendRequest<Bytes>, Driver), ConnectionError> {
        let Endpoint { host, port } = &self.endpoint;
        let tcp = if let Some(proxy) = &self.proxy {
            tunnel(proxy, host, *port).await?
        } else {
            let mut addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
            addresses.shuffle(&mut rand::rng());
            connect(&addresses).await?
        };
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.clone()).map_err(|_| ConnectionError::HostName)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectionError::NotHttp2);
        }
        let (transport, flush_handle) = coalesce(tls);
        let (requests, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            // Until SETTINGS come, `h2` would open any number of streams;
            // Apple allows one request before its first answer.
            .initial_max_send_streams(1)
            .max_concurrent_reset_streams(1024)
            // `h2` would end a connection after 1,024 late answers to streams that it has forgotten,
            // counted over all its life; one to Apple may live for days.
            .max_local_error_reset_streams(None)
            .handshake(transport)
            .await?;
        let ping = connection.ping_pong().ok_or(ConnectionError::NotHttp2)?;
        let driver = Driver {
            connection,
            flush_handle,
            requests: Some(requests.clone()),
            limit: 1,
            ping,
            keep_alive: KeepAlive::new(self.ping_interval),
            timer: Box::pin(tokio::time::sleep(WATCH.min(self.ping_interval))),
            rests: false,
        };
        Ok((requests, driver))
    }
}

/// Takes the first address that answers; a dead one costs its share of the dialling time.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectionError> {
    let share = DIAL_TIMEOUT / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut failure = ConnectionError::NoAddress;
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error.into(),
            Err(_) => failure = ConnectionError::Timeout,
        }
    }
    Err(failure)
}

/// Opens a tunnel; the proxy looks the name up.
async fn tunnel(proxy: &OutboundProxy, host: &str, port: u16) -> Result<TcpStream, ConnectionError> {
    let address = Uri::try_from(proxy.address.as_str()).map_err(|_| ConnectionError::Proxy("bad address"))?;
    let target = Uri::try_from(format!("https://{host}:{port}")).map_err(|_| ConnectionError::HostName)?;
    let mut tunnel = Tunnel::new(address, HttpConnector::new());
    if let Some(login) = &proxy.authorization {
        let mut value =
            HeaderValue::try_from(login.expose_secret()).map_err(|_| ConnectionError::Proxy("bad login"))?;
        value.set_sensitive(true);
        tunnel = tunnel.with_auth(value);
    }
    // The library's error may repeat what the proxy said; ours does not.
    let opened = tunnel.call(target).await.map_err(|_| ConnectionError::Proxy("out of reach or refused"))?;
    Ok(opened.into_inner())
}

/// Moves bytes for one connection until it ends.
pub(crate) struct Driver {
    connection: Connection<CoalescingTransport<TlsStream<TcpStream>>, Bytes>,
    flush_handle: FlushHandle<TlsStream<TcpStream>>,
    /// Tells the stream limit; dropped on retirement, so that the connection ends with its last request.
    requests: Option<SendRequest<Bytes>>,
    limit: usize,
    ping: PingPong,
    keep_alive: KeepAlive,
    timer: Pin<Box<Sleep>>,
    /// Whether it is looked after less often, because nobody uses it.
    rests: bool,
}

impl Driver {
    /// Runs until the connection ends. `limit_changed` hears how many requests Apple allows at once;
    /// `is_busy` tells whether any are open; `unused` hears that there were none for long; after `retired` the connection
    /// ends by itself once they are answered.
    pub(crate) async fn run(
        mut self,
        retired: CancellationToken,
        limit_changed: impl Fn(usize),
        is_busy: impl Fn() -> bool,
        unused: impl Fn(),
    ) -> Result<(), ConnectionError> {
        let mut retirement = pin!(retired.cancelled());
        poll_fn(|cx| {
            if self.requests.is_some() && retirement.as_mut().poll(cx).is_ready() {
                self.requests = None;
            }
            let ended = Pin::new(&mut self.connection).poll(cx).map_err(ConnectionError::from);
            self.report_limit(&limit_changed);
            if let Poll::Ready(Err(error)) = self.flush_handle.poll_flush_buffered(cx) {
                return Poll::Ready(Err(error.into()));
            }
            if ended.is_ready() {
                return ended;
            }
            self.poll_keep_alive(cx, &is_busy, &unused).map(Err)
        })
        .await
    }

    fn report_limit(&mut self, limit_changed: &impl Fn(usize)) {
        let Some(requests) = &self.requests else { return };
        let limit = requests.current_max_send_streams().min(MAX_STREAMS);
        if limit != self.limit {
            self.limit = limit;
            limit_changed(limit);
        }
    }

    /// Ready only when the connection is found dead.
    fn poll_keep_alive(
        &mut self,
        cx: &mut Context<'_>,
        is_busy: &impl Fn() -> bool,
        unused: &impl Fn(),
    ) -> Poll<ConnectionError> {
        // A request wakes this task.
        if self.rests && is_busy() {
            self.rests = false;
            self.keep_alive.used(Instant::now());
            self.timer.as_mut().reset(Instant::now() + WATCH.min(self.keep_alive.interval));
        }
        if self.keep_alive.pong_due.is_some() && self.ping.poll_pong(cx).is_ready() {
            self.keep_alive.answered(Instant::now());
        }
        // A loop: a timer that was set anew wakes nobody before it is polled again.
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.keep_alive.check(now, self.flush_handle.reads(), is_busy()) {
                Liveness::Alive => {}
                Liveness::Unused => unused(),
                Liveness::Dead => return Poll::Ready(ConnectionError::PingTimeout),
                Liveness::SendPing => {
                    if let Err(error) = self.ping.send_ping(Ping::opaque()) {
                        return Poll::Ready(error.into());
                    }
                    cx.waker().wake_by_ref();
                }
            }
            let (next, rests) = self.keep_alive.next_check(now);
            self.rests = rests;
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}
