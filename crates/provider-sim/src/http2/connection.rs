//! One connection: bytes in, frames out, one write for all that one read brought.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_BYTES, PING, PREFACE, ProtocolError, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, put,
    put_go_away, put_setting,
};
use super::head::{self, Heads};
use super::{Fate, Reply, Request, Service};

const WINDOW_BYTES: i64 = 65_535;
/// The sender gets its window back when it has used this much.
const WINDOW_REFILL: u32 = 32_768;
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Transport(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the script closed the connection")]
    Scripted,
}

/// A request that has begun.
struct Stream {
    request: Request,
    body: BytesMut,
}

/// A reply that waits for its time; the earliest comes first.
struct Due {
    at: Instant,
    order: u64,
    stream: u32,
    reply: Reply,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

struct Connection<S> {
    id: u64,
    service: S,
    heads: Heads,
    streams: HashMap<u32, Stream>,
    /// Requests that are not answered yet.
    open: HashSet<u32>,
    allowed: u32,
    last_stream: u32,
    /// A header block that goes on in the next frame: stream, flags of its first frame, bytes.
    partial: Option<(u32, u8, Vec<u8>)>,
    due: BinaryHeap<Due>,
    order: u64,
    /// Bodies that wait for the peer's window.
    blocked: VecDeque<(u32, Bytes)>,
    send_window: i64,
    consumed: u32,
    out: Vec<u8>,
}

/// Serves one connection until it ends.
pub(crate) async fn converse<T, S>(mut transport: T, id: u64, service: S) -> Result<(), Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let allowed = service.initial_streams();
    let mut connection = Connection {
        id,
        service,
        heads: Heads::default(),
        streams: HashMap::new(),
        open: HashSet::new(),
        allowed,
        last_stream: 0,
        partial: None,
        due: BinaryHeap::new(),
        order: 0,
        blocked: VecDeque::new(),
        send_window: WINDOW_BYTES,
        consumed: 0,
        out: Vec::new(),
    };
    put_setting(&mut connection.out, MAX_CONCURRENT_STREAMS, allowed);
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut greeted = false;
    loop {
        if !connection.out.is_empty() {
            transport.write_all(&connection.out).await?;
            transport.flush().await?;
            connection.out.clear();
        }
        let next_due = connection.due.peek().map(|due| due.at);
        tokio::select! {
            read = transport.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
                if !greeted {
                    if buffer.len() < PREFACE.len() {
                        continue;
                    }
                    if !buffer.starts_with(PREFACE) {
                        return Err(ProtocolError("no HTTP/2 preface").into());
                    }
                    buffer.advance(PREFACE.len());
                    greeted = true;
                }
                while let Some(frame) = Frame::take(&mut buffer)? {
                    if let Err(ended) = connection.handle(&frame) {
                        return last_words(transport, &connection.out, ended).await;
                    }
                }
            }
            () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {
                if let Err(ended) = connection.send_due() {
                    return last_words(transport, &connection.out, ended).await;
                }
            }
        }
    }
}

/// Writes what was said before the end, such as a GOAWAY.
async fn last_words<T: AsyncWrite + Unpin>(mut transport: T, out: &[u8], ended: Ended) -> Result<(), Ended> {
    let _ = transport.write_all(out).await;
    let _ = transport.shutdown().await;
    Err(ended)
}

impl<S: Service> Connection<S> {
    fn handle(&mut self, frame: &Frame) -> Result<(), Ended> {
        if self.partial.is_some() && frame.kind != CONTINUATION {
            return Err(ProtocolError("a header block was not continued").into());
        }
        match frame.kind {
            HEADERS => {
                let block = frame.content()?.to_vec();
                self.headers(frame.stream, frame.flags, block, frame.has(END_HEADERS))
            }
            CONTINUATION => {
                let (stream, flags, mut block) =
                    self.partial.take().ok_or(ProtocolError("nothing to continue"))?;
                block.extend_from_slice(&frame.payload);
                self.headers(stream, flags, block, frame.has(END_HEADERS))
            }
            DATA => self.data(frame),
            RST_STREAM => {
                self.streams.remove(&frame.stream);
                self.open.remove(&frame.stream);
                self.blocked.retain(|(id, _)| *id != frame.stream);
                Ok(())
            }
            SETTINGS if !frame.has(ACK) => {
                put(&mut self.out, SETTINGS, ACK, 0, &[]);
                Ok(())
            }
            PING if !frame.has(ACK) => {
                put(&mut self.out, PING, ACK, 0, &frame.payload);
                Ok(())
            }
            WINDOW_UPDATE if frame.stream == 0 => {
                let mut payload = frame.payload.clone();
                self.send_window += i64::from(payload.try_get_u32().unwrap_or(0));
                self.send_blocked();
                Ok(())
            }
            // A client that leaves says GOAWAY and closes; everything else is for others.
            _ => Ok(()),
        }
    }

    fn headers(&mut self, id: u32, flags: u8, block: Vec<u8>, complete: bool) -> Result<(), Ended> {
        if !complete {
            self.partial = Some((id, flags, block));
            return Ok(());
        }
        let mut request = Request {
            connection: self.id,
            stream: id,
            method: String::new(),
            path: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        self.heads.read(block, &mut request)?;
        self.last_stream = self.last_stream.max(id);
        if self.open.len() >= self.allowed as usize {
            put(&mut self.out, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes());
            return Ok(());
        }
        self.open.insert(id);
        if flags & END_STREAM != 0 {
            return self.complete(request);
        }
        self.streams.insert(id, Stream { request, body: BytesMut::new() });
        Ok(())
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Ended> {
        let size = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        self.consumed += size;
        if self.consumed >= WINDOW_REFILL {
            put(&mut self.out, WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
        let content = frame.content()?;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return Ok(());
        };
        let ends = frame.has(END_STREAM);
        if ends && stream.body.is_empty() {
            stream.request.body = content;
        } else {
            stream.body.extend_from_slice(&content);
            if stream.body.len() > MAX_BODY_BYTES {
                return Err(ProtocolError("the request body is too large").into());
            }
            if ends {
                stream.request.body = stream.body.split().freeze();
            } else if size > 0 {
                put(&mut self.out, WINDOW_UPDATE, 0, frame.stream, &size.to_be_bytes());
            }
        }
        if !ends {
            return Ok(());
        }
        match self.streams.remove(&frame.stream) {
            Some(stream) => self.complete(stream.request),
            None => Ok(()),
        }
    }

    /// Asks the service, and answers now or later.
    fn complete(&mut self, request: Request) -> Result<(), Ended> {
        let id = request.stream;
        let reply = self.service.answer(request);
        if let Some(streams) = reply.streams.filter(|streams| *streams != self.allowed) {
            self.allowed = streams;
            put_setting(&mut self.out, MAX_CONCURRENT_STREAMS, streams);
        }
        if reply.fate == Fate::Hang {
            return Ok(());
        }
        if reply.delay.is_zero() {
            return self.send(id, &reply);
        }
        self.order += 1;
        self.due.push(Due { at: Instant::now() + reply.delay, order: self.order, stream: id, reply });
        Ok(())
    }

    fn send_due(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        while self.due.peek().is_some_and(|due| due.at <= now) {
            if let Some(due) = self.due.pop() {
                self.send(due.stream, &due.reply)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, id: u32, reply: &Reply) -> Result<(), Ended> {
        if !self.open.remove(&id) {
            return Ok(()); // The peer has reset it.
        }
        match reply.fate {
            Fate::Answer | Fate::Hang => {}
            Fate::Reset => {
                put(&mut self.out, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes());
                return Ok(());
            }
            Fate::Refuse => {
                put(&mut self.out, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes());
                return Ok(());
            }
            Fate::Close => return Err(Ended::Scripted),
            Fate::GoAway => {
                put_go_away(&mut self.out, self.last_stream, 0, br#"{"reason":"Shutdown"}"#);
                return Err(Ended::Scripted);
            }
        }
        let block = head::write(reply);
        if reply.body.is_empty() {
            put(&mut self.out, HEADERS, END_HEADERS | END_STREAM, id, &block);
            return Ok(());
        }
        put(&mut self.out, HEADERS, END_HEADERS, id, &block);
        self.blocked.push_back((id, reply.body.clone()));
        self.send_blocked();
        Ok(())
    }

    /// Sends bodies in order, in frames, as far as the peer's connection window allows.
    fn send_blocked(&mut self) {
        while let Some((id, mut body)) = self.blocked.pop_front() {
            let window = usize::try_from(self.send_window).unwrap_or(0);
            let size = body.len().min(MAX_FRAME_BYTES).min(window);
            if size == 0 {
                self.blocked.push_front((id, body));
                return;
            }
            self.send_window -= i64::try_from(size).unwrap_or(i64::MAX);
            let part = body.split_to(size);
            let ends = if body.is_empty() { END_STREAM } else { 0 };
            put(&mut self.out, DATA, ends, id, &part);
            if !body.is_empty() {
                self.blocked.push_front((id, body));
            }
        }
    }
}
