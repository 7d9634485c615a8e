//! HTTP/2 connection loop: bytes in, frames out, one write for all that one read brought, as late as the
//! round-trip time says.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::Service;
use super::ended::Ended;
use super::frame::{Frame, PREFACE, ProtocolError};
use super::protocol::Protocol;
use crate::fault::{Fault, FaultSubscription};

/// How long a peer may take to hear that the connection has ended.
const LINGER: Duration = Duration::from_secs(1);

/// Delay line: bytes that are sent and have not arrived yet.
#[derive(Default)]
struct DelayLine(VecDeque<(Instant, Vec<u8>)>);

impl DelayLine {
    /// Takes what is to be said, and writes what is due.
    async fn pass<T: AsyncWrite + Unpin>(
        &mut self,
        transport: &mut T,
        out: &mut Vec<u8>,
        delay: Duration,
    ) -> io::Result<()> {
        if delay.is_zero() && self.0.is_empty() {
            if !out.is_empty() {
                transport.write_all(out).await?;
                transport.flush().await?;
                out.clear();
            }
            return Ok(());
        }
        let now = Instant::now();
        if !out.is_empty() {
            // What is said later never arrives earlier.
            let earliest = self.0.back().map_or(now, |(at, _)| *at);
            self.0.push_back(((now + delay).max(earliest), std::mem::take(out)));
        }
        let mut wrote = false;
        while let Some((_, bytes)) = self.0.pop_front_if(|(at, _)| *at <= now) {
            transport.write_all(&bytes).await?;
            wrote = true;
        }
        if wrote { transport.flush().await } else { Ok(()) }
    }

    fn next(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve_connection<T, S>(
    mut transport: T,
    id: u64,
    service: S,
    mut subscription: FaultSubscription,
) -> Result<(), Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let mut line = DelayLine::default();
    let mut protocol = Protocol::new(id, service, subscription.profile());
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut greeted = false;
    loop {
        let delay = protocol.profile.delay();
        line.pass(&mut transport, &mut protocol.out, delay).await?;
        let next = [protocol.next_event(), line.next()].into_iter().flatten().min();
        let step = tokio::select! {
            read = transport.read_buf(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    protocol.settle_unanswered();
                    return read.map(drop).map_err(Ended::from);
                }
                read_frames(&mut protocol, &mut buffer, &mut greeted)
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => protocol.time_passed(),
            fault = subscription.next() => {
                protocol.profile = subscription.profile();
                fault.map_or(Ok(()), |fault| apply_fault(&mut protocol, fault))
            }
        };
        if step.is_err() {
            protocol.settle_unanswered();
        }
        match step {
            Ok(()) => {}
            Err(Ended::BlackHole) => {
                tokio::io::copy(&mut transport, &mut tokio::io::sink()).await?;
                return Err(Ended::BlackHole);
            }
            Err(Ended::Frozen) => return pending().await,
            Err(ended) => {
                let delay = protocol.profile.delay();
                let _ = line.pass(&mut transport, &mut protocol.out, delay).await;
                while let Some(at) = line.next() {
                    sleep_until(at).await;
                    line.pass(&mut transport, &mut protocol.out, delay).await?;
                }
                let _ = transport.shutdown().await;
                // Closing on unread bytes would take back what was said.
                let mut sink = tokio::io::sink();
                let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut transport, &mut sink)).await;
                return Err(ended);
            }
        }
    }
}

fn read_frames<S: Service>(
    protocol: &mut Protocol<S>,
    buffer: &mut BytesMut,
    greeted: &mut bool,
) -> Result<(), Ended> {
    if !*greeted {
        if buffer.len() < PREFACE.len() {
            return Ok(());
        }
        if !buffer.starts_with(PREFACE) {
            return Err(ProtocolError("no HTTP/2 preface").into());
        }
        buffer.advance(PREFACE.len());
        *greeted = true;
    }
    while let Some(frame) = Frame::take(buffer)? {
        protocol.handle(&frame)?;
    }
    Ok(())
}

fn apply_fault<S: Service>(protocol: &mut Protocol<S>, fault: Fault) -> Result<(), Ended> {
    protocol.count_struck();
    match fault {
        Fault::BlackHole => Err(Ended::BlackHole),
        Fault::Freeze => Err(Ended::Frozen),
        Fault::Close => Err(Ended::Closed),
        Fault::Reset => {
            protocol.reset_all();
            Ok(())
        }
        Fault::GoAway => protocol.go_away(0, br#"{"reason":"Shutdown"}"#),
        Fault::GoAwayText => protocol.go_away(0, b"Shutting down for maintenance."),
        Fault::GoAwayUnprocessed => {
            protocol.forget_open();
            protocol.go_away(0, br#"{"reason":"Shutdown"}"#)
        }
        Fault::Streams { streams } => {
            protocol.allow(streams);
            Ok(())
        }
    }
}
