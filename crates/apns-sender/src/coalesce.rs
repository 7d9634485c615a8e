//! Write-coalescing transport: many HTTP/2 frames share one TLS record and one system call.
//!
//! `h2` flushes its transport after every DATA frame above 1 KiB, and after every one above 256
//! bytes when the transport is vectored, as tokio-rustls is. [`CoalescingTransport`] collects what `h2`
//! writes; the connection's driver calls [`FlushHandle::poll_flush_buffered`] once per turn, after `h2` has
//! written all that it has. See docs/PERFORMANCE.md for what that saves.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above this many bytes `h2` has to wait until the transport has taken some.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

struct State<T> {
    transport: T,
    /// Counts what was read.
    reads: u64,
    buffer: Vec<u8>,
    written: usize,
}

/// Coalescing transport, as `h2` sees it.
pub(crate) struct CoalescingTransport<T>(Arc<Mutex<State<T>>>);

/// Flush handle of the connection's driver to the same transport.
pub(crate) struct FlushHandle<T>(Arc<Mutex<State<T>>>);

/// Puts a buffer in front of `transport`.
pub(crate) fn coalesce<T>(transport: T) -> (CoalescingTransport<T>, FlushHandle<T>) {
    let state = Arc::new(Mutex::new(State { transport, reads: 0, buffer: Vec::new(), written: 0 }));
    (CoalescingTransport(Arc::clone(&state)), FlushHandle(state))
}

/// Never contended: `h2` and the driver run in one task.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncWrite + Unpin> State<T> {
    fn poll_flush_buffered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = self.buffer.get(self.written..).unwrap_or_default();
            let taken = ready!(Pin::new(&mut self.transport).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
        }
        self.buffer.clear();
        self.written = 0;
        Pin::new(&mut self.transport).poll_flush(cx)
    }
}

impl<T> FlushHandle<T> {
    /// Returns a number that changes with every read.
    pub(crate) fn reads(&self) -> u64 {
        lock(&self.0).reads
    }
}

impl<T: AsyncWrite + Unpin> FlushHandle<T> {
    /// Writes what was collected, as far as the transport takes it.
    pub(crate) fn poll_flush_buffered(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_flush_buffered(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for CoalescingTransport<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        let read = Pin::new(&mut state.transport).poll_read(cx, buf);
        state.reads += u64::from(read.is_ready());
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CoalescingTransport<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        if state.buffer.len() >= MAX_BUFFERED_BYTES {
            ready!(state.poll_flush_buffered(cx))?;
        }
        state.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        ready!(state.poll_flush_buffered(cx))?;
        Pin::new(&mut state.transport).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_reaches_the_transport_until_the_driver_drains() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut writer, flush_handle) = coalesce(ours);

        writer.write_all(b"one").await.unwrap();
        writer.flush().await.unwrap();
        writer.write_all(b"two").await.unwrap();
        let mut read = [0; 6];
        let early = tokio::time::timeout(std::time::Duration::from_millis(5), theirs.read(&mut read)).await;
        assert!(early.is_err());
        poll_fn(|cx| flush_handle.poll_flush_buffered(cx)).await.unwrap();

        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"onetwo");
    }

    #[tokio::test]
    async fn a_slow_transport_gets_every_byte_in_order() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let (mut writer, flush_handle) = coalesce(ours);
        let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();

        let write = async {
            for chunk in sent.chunks(900) {
                writer.write_all(chunk).await.unwrap();
            }
            poll_fn(|cx| flush_handle.poll_flush_buffered(cx)).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), read) = tokio::join!(write, theirs.read_to_end(&mut received));

        read.unwrap();
        assert!(received == sent);
    }
}
