//! Request bodies with limits of size, time and total bytes.
//!
//! Nearly every body is here with its head. One that is not gets a timer, and its bytes count until it is complete: so the
//! limits cost those who make them necessary.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::activity::Activity;
use crate::connection_table::Network;
use crate::edge::Edge;
use crate::limits::Limit;

/// Error of a request body that was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is larger than a body may be.
    #[error("the body is too large")]
    TooLarge,
    /// It took too long.
    #[error("the body took too long to arrive")]
    TooSlow,
    /// Too much is arriving at once.
    #[error("too much is arriving at once")]
    Crowded,
    /// Its caller gave up, or sent what is no body.
    #[error("the body broke off")]
    Broken,
}

/// Limited request body: ends with a [`BodyFault`] when it is over a limit.
pub struct LimitedBody {
    inner: Incoming,
    site: Network,
    edge: Arc<Edge>,
    activity: Arc<Activity>,
    read: usize,
    slow: Option<Box<SlowBody>>,
}

/// Accounting of a slow body: one that did not come at once.
struct SlowBody {
    site: Network,
    edge: Arc<Edge>,
    activity: Arc<Activity>,
    held: usize,
    late: Pin<Box<Sleep>>,
}

impl SlowBody {
    fn hold(&mut self, bytes: usize) -> bool {
        let is_held = self.edge.hold(self.site, bytes);
        self.held += if is_held { bytes } else { 0 };
        is_held
    }
}

impl Drop for SlowBody {
    fn drop(&mut self) {
        self.edge.release(self.site, self.held);
        self.activity.body_is_here();
    }
}

impl LimitedBody {
    pub(crate) const fn new(
        inner: Incoming,
        site: Network,
        edge: Arc<Edge>,
        activity: Arc<Activity>,
    ) -> Self {
        Self { inner, site, edge, activity, read: 0, slow: None }
    }

    fn over(&mut self, limit: Limit, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.edge.note(limit);
        self.slow = None;
        Poll::Ready(Some(Err(fault)))
    }

    /// Begins to count it, and says whether there is room.
    fn begin_accounting(&mut self) -> bool {
        let late = Box::pin(tokio::time::sleep(self.edge.limits.body_timeout));
        let (edge, activity) = (Arc::clone(&self.edge), Arc::clone(&self.activity));
        activity.body_is_awaited();
        let mut slow = Box::new(SlowBody { site: self.site, edge, activity, held: 0, late });
        let is_held = slow.hold(self.read);
        self.slow = Some(slow);
        is_held
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let most = this.edge.limits.max_body_bytes;
        // One that announces more is not begun.
        let announced = this.inner.size_hint().lower().saturating_add(this.read as u64);
        if announced > most as u64 {
            return this.over(Limit::BodySize, BodyFault::TooLarge);
        }
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.read += bytes;
                if this.read > most {
                    return this.over(Limit::BodySize, BodyFault::TooLarge);
                }
                if this.slow.as_mut().is_some_and(|slow| !slow.hold(bytes)) {
                    return this.over(Limit::BodyBytes, BodyFault::Crowded);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyFault::Broken))),
            Poll::Ready(None) => {
                this.slow = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                if this.slow.is_none() && !this.begin_accounting() {
                    return this.over(Limit::BodyBytes, BodyFault::Crowded);
                }
                // Polled also when it was made just now: a timer that nobody has polled wakes nobody.
                if this.slow.as_mut().is_some_and(|slow| slow.late.as_mut().poll(context).is_ready()) {
                    return this.over(Limit::BodyTime, BodyFault::TooSlow);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl std::fmt::Debug for LimitedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LimitedBody(…)")
    }
}

/// Reads a body to its end. One that came in one piece, as nearly all do, is not copied.
pub async fn read(mut body: Body) -> Result<Bytes, BodyFault> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(fault)?.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    Ok([first, rest.freeze()].concat().into())
}

/// Reads a body to its end and keeps nothing: an answer over unread bytes would cost the connection, and the next request
/// on it.
pub async fn discard(mut body: Body) -> Result<(), BodyFault> {
    while let Some(frame) = body.frame().await {
        frame.map_err(fault)?;
    }
    Ok(())
}

fn fault(error: axum::Error) -> BodyFault {
    error.into_inner().downcast_ref::<BodyFault>().copied().unwrap_or(BodyFault::Broken)
}
