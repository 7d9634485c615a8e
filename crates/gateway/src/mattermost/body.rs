//! Reading a request body within its limits.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads a body of at most `limit` bytes within `time`. A body that announces more is not begun.
pub(super) async fn read_body(body: Body, limit: usize, time: Duration) -> Result<Bytes, BodyFault> {
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyFault::TooLarge);
    }
    let mut collecting = pin!(collect(body, limit));
    // Nearly every body is here with its head; a timer for each would be dear.
    tokio::select! {
        biased;
        body = &mut collecting => return body,
        () = ready(()) => {}
    }
    Box::pin(timeout(time, collecting)).await.unwrap_or(Err(BodyFault::TooSlow))
}

/// A body that came in one piece, as nearly all do, is not copied.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, BodyFault> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > limit {
            return Err(BodyFault::TooLarge);
        }
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
