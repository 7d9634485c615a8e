//! Connection activity: header, idle and request timeouts.
//!
//! hyper has one timer for "the header is late" and "nobody has asked anything"; a stock Mattermost
//! server keeps idle connections for 90 s, while a header that takes longer than 5 s is an attack.
//! So the transport and the service report what happens, and a watchdog asks [`Activity::overdue`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::Limits;

/// Nothing has come yet, or a header has begun.
const HEADER: u64 = 0;
/// The last request is answered, the next has not begun.
const IDLE: u64 = 1;

/// The first bytes of HTTP/2. Its connections carry frames between requests, so that bytes alone do not
/// mean that a header has begun.
const HTTP2_PREFACE: &[u8] = b"PRI ";
const NOT_HTTP2: usize = usize::MAX;

/// Activity state of one connection: how many requests are open, and since when it does what it does.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// Requests that are being answered.
    open: AtomicU32,
    /// Those of them whose bodies have not come yet.
    awaited: AtomicU32,
    is_http2: AtomicBool,
    /// How much of the preface has come, or that something else has.
    preface: AtomicUsize,
    /// Milliseconds since `opened`, times two, plus the phase.
    packed: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            open: AtomicU32::new(0),
            awaited: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            preface: AtomicUsize::new(0),
            packed: AtomicU64::new(HEADER),
        })
    }

    fn enter(&self, phase: u64) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX / 4);
        self.packed.store(millis * 2 + phase, Ordering::Relaxed);
    }

    /// Says whether it is the only one of its connection.
    fn request_began(&self) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// A TLS handshake is over: the header has all its time.
    pub(crate) fn header_begins(&self) {
        self.enter(HEADER);
    }

    pub(crate) fn body_is_awaited(&self) {
        // It is idle from now on, not since before the request came.
        self.enter(IDLE);
        self.awaited.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn body_is_here(&self) {
        self.awaited.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when nothing is done for the caller, if that is so: no request is open, or only such as have not come yet.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.open.load(Ordering::Relaxed) <= self.awaited.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.packed.load(Ordering::Relaxed) / 2);
        is_idle.then(|| self.opened + since)
    }

    fn request_ended(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(IDLE);
        }
    }

    fn bytes_came(&self, bytes: &[u8]) {
        let seen = self.preface.load(Ordering::Relaxed);
        // It may come byte by byte.
        if let Some(rest) = HTTP2_PREFACE.get(seen..).filter(|rest| !rest.is_empty()) {
            let length = rest.len().min(bytes.len());
            let goes_on = rest[..length] == bytes[..length];
            self.preface.store(if goes_on { seen + length } else { NOT_HTTP2 }, Ordering::Relaxed);
            self.is_http2.store(goes_on && length == rest.len(), Ordering::Relaxed);
        }
        let idle = self.packed.load(Ordering::Relaxed) % 2 == IDLE;
        if idle && self.open.load(Ordering::Relaxed) == 0 && !self.is_http2.load(Ordering::Relaxed) {
            self.enter(HEADER);
        }
    }

    /// Says whether the connection has done nothing useful for longer than it may, and if so, whether a header is late.
    pub(crate) fn overdue(&self, limits: &Limits) -> Option<bool> {
        if self.open.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let packed = self.packed.load(Ordering::Relaxed);
        let age = self.opened.elapsed().saturating_sub(Duration::from_millis(packed / 2));
        let is_header = packed % 2 == HEADER;
        (age >= if is_header { limits.header_timeout } else { limits.idle_timeout }).then_some(is_header)
    }
}

/// In-flight guard of a request; it ends also when its caller gives it up.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    activity: Arc<Activity>,
    /// Whether it began while its connection had no other.
    pub(crate) is_alone: bool,
}

impl InFlightGuard {
    pub(crate) fn begin(activity: &Arc<Activity>) -> Self {
        let is_alone = activity.request_began();
        Self { activity: Arc::clone(activity), is_alone }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.activity.request_ended();
    }
}

/// I/O wrapper that reports the first byte of a request.
#[derive(Debug)]
pub(crate) struct MonitoredIo<T> {
    transport: T,
    activity: Arc<Activity>,
}

impl<T> MonitoredIo<T> {
    pub(crate) const fn new(transport: T, activity: Arc<Activity>) -> Self {
        Self { transport, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MonitoredIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            self.activity.bytes_came(bytes);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MonitoredIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(100),
            ..Limits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_overdue_after_the_header_timeout() {
        let activity = Activity::new();

        tokio::time::advance(Duration::from_millis(4999)).await;
        assert!(activity.overdue(&limits()).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(activity.overdue(&limits()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_may_wait_longer_but_a_begun_header_may_not() {
        let activity = Activity::new();
        activity.request_began();
        activity.request_ended();

        tokio::time::advance(Duration::from_secs(99)).await;
        assert!(activity.overdue(&limits()).is_none());
        activity.bytes_came(b"POST");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(activity.overdue(&limits()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_the_handlers_business() {
        let activity = Activity::new();
        activity.request_began();

        tokio::time::advance(Duration::from_secs(1000)).await;

        assert!(activity.overdue(&limits()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_requests_that_ends_leaves_the_other_alone() {
        let activity = Activity::new();
        activity.request_began();
        activity.request_began();

        activity.request_ended();
        activity.bytes_came(b"frames");
        tokio::time::advance(Duration::from_secs(1000)).await;

        assert!(activity.overdue(&limits()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_body_is_idle_and_who_is_being_answered_is_not() {
        let activity = Activity::new();
        assert!(activity.idle_since().is_some(), "nothing has come");
        activity.request_began();
        assert_eq!(activity.idle_since(), None);
        activity.body_is_awaited();
        assert!(activity.idle_since().is_some());
        activity.body_is_here();
        assert_eq!(activity.idle_since(), None);
        activity.request_ended();
        assert!(activity.idle_since().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_on_an_idle_http2_connection_are_no_header() {
        let activity = Activity::new();
        // A handshake took its time.
        tokio::time::advance(Duration::from_millis(20)).await;
        activity.header_begins();
        for part in [&b"P"[..], b"RI", b" * HTTP/2.0"] {
            activity.bytes_came(part);
        }
        activity.request_began();
        activity.request_ended();

        activity.bytes_came(b"a PING acknowledged");
        tokio::time::advance(Duration::from_secs(99)).await;
        assert!(activity.overdue(&limits()).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(activity.overdue(&limits()).is_some());
    }
}
