//! HTTP/2 state machine without I/O: frames become requests, replies become frames.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use super::ended::Ended;
use super::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, HEADERS, INTERNAL_ERROR,
    MAX_FRAME_BYTES, PING, ProtocolError, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, put,
    put_first_settings, put_go_away, put_streams,
};
use super::head::{self, HeaderDecoder};
use super::scheduled_reply::ScheduledReply;
use super::{Reply, ReplyAction, Request, Service};
use crate::fault::{ExcessAction, FaultProfile};

const WINDOW_BYTES: i64 = 65_535;
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A request that has begun.
struct Stream {
    request: Request,
    body: BytesMut,
}

/// The state of one connection.
pub(super) struct Protocol<S> {
    pub(super) profile: Arc<FaultProfile>,
    /// What is to be said.
    pub(super) out: Vec<u8>,
    id: u64,
    service: S,
    heads: HeaderDecoder,
    streams: HashMap<u32, Stream>,
    /// Requests that are not answered yet, and whether they are complete.
    open: BTreeMap<u32, bool>,
    allowed: u32,
    last_stream: u32,
    /// The last stream that a GOAWAY covered.
    go_away_last_stream: Option<u32>,
    /// A header block that goes on in the next frame: stream, flags of its first frame, bytes.
    partial: Option<(u32, u8, Vec<u8>)>,
    due: BinaryHeap<ScheduledReply>,
    order: u64,
    /// Bodies that wait for the peer's window, and whether an empty frame ends them.
    blocked: VecDeque<(u32, Bytes)>,
    send_window: i64,
    consumed: u32,
    requests: u64,
    pings: u32,
    began: Instant,
    last_request: Instant,
}

impl<S: Service> Protocol<S> {
    pub(super) fn new(id: u64, service: S, profile: Arc<FaultProfile>) -> Self {
        let allowed = service.initial_streams();
        let mut out = Vec::new();
        put_first_settings(&mut out, allowed);
        let now = Instant::now();
        Self {
            profile,
            out,
            id,
            service,
            heads: HeaderDecoder::default(),
            streams: HashMap::new(),
            open: BTreeMap::new(),
            allowed,
            last_stream: 0,
            go_away_last_stream: None,
            partial: None,
            due: BinaryHeap::new(),
            order: 0,
            blocked: VecDeque::new(),
            send_window: WINDOW_BYTES,
            consumed: 0,
            requests: 0,
            pings: 0,
            began: now,
            last_request: now,
        }
    }

    /// When something happens by itself.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let age = self.deadline(self.began, self.profile.max_age_ms);
        let idle = self.deadline(self.last_request, self.profile.idle_ms);
        [self.due.peek().map(|due| due.at), age, idle].into_iter().flatten().min()
    }

    fn deadline(&self, since: Instant, millis: u64) -> Option<Instant> {
        (millis > 0 && self.go_away_last_stream.is_none()).then(|| since + Duration::from_millis(millis))
    }

    /// Does what is due.
    pub(super) fn time_passed(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        while self.due.peek().is_some_and(|due| due.at <= now) {
            if let Some(ScheduledReply { request, reply, .. }) = self.due.pop() {
                self.settle(&request, &reply)?;
            }
        }
        if self.deadline(self.began, self.profile.max_age_ms).is_some_and(|at| at <= now) {
            return self.go_away(0, b"max_age");
        }
        if self.deadline(self.last_request, self.profile.idle_ms).is_some_and(|at| at <= now) {
            return self.go_away(0, b"session_timeout");
        }
        Ok(())
    }

    /// Takes one frame.
    pub(super) fn handle(&mut self, frame: &Frame) -> Result<(), Ended> {
        if self.partial.as_ref().is_some_and(|(id, ..)| frame.kind != CONTINUATION || frame.stream != *id) {
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
                if block.len() > MAX_HEAD_BYTES {
                    return Err(ProtocolError("the header block is too large").into());
                }
                self.headers(stream, flags, block, frame.has(END_HEADERS))
            }
            DATA => self.data(frame),
            RST_STREAM => {
                self.streams.remove(&frame.stream);
                self.open.remove(&frame.stream);
                self.blocked.retain(|(id, _)| *id != frame.stream);
                self.end_if_done()
            }
            SETTINGS if !frame.has(ACK) => {
                put(&mut self.out, SETTINGS, ACK, 0, &[]);
                Ok(())
            }
            PING if !frame.has(ACK) => self.pinged(frame),
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

    fn pinged(&mut self, frame: &Frame) -> Result<(), Ended> {
        self.service.pinged();
        self.pings += 1;
        if self.profile.pings > 0 && self.pings >= self.profile.pings {
            return self.go_away(ENHANCE_YOUR_CALM, b"too_many_pings");
        }
        put(&mut self.out, PING, ACK, 0, &frame.payload);
        Ok(())
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
        if self.go_away_last_stream.is_some_and(|last| id > last) {
            return Ok(()); // Not processed, as the GOAWAY said.
        }
        if self.open.len() >= self.allowed as usize {
            self.service.count_excess_request();
            if self.profile.excess == ExcessAction::GoAway {
                let (code, text) = self.service.excess_go_away();
                return self.go_away(code, text.as_bytes());
            }
            put(&mut self.out, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes());
            return Ok(());
        }
        self.last_stream = self.last_stream.max(id);
        self.pings = 0;
        self.last_request = Instant::now();
        self.open.insert(id, false);
        if flags & END_STREAM != 0 {
            return self.complete(request);
        }
        self.streams.insert(id, Stream { request, body: BytesMut::new() });
        Ok(())
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Ended> {
        let size = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        self.consumed += size;
        if self.consumed >= self.profile.window_refill_bytes {
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
        self.open.insert(request.stream, true);
        let mut reply = self.service.answer(&request);
        reply.delay += self.profile.latency();
        self.requests += 1;
        if self.profile.max_requests > 0 && self.requests.is_multiple_of(self.profile.max_requests) {
            self.go_away(0, b"max_age")?;
        }
        if reply.delay.is_zero() || reply.action == ReplyAction::Hang {
            return self.settle(&request, &reply);
        }
        self.order += 1;
        self.due.push(ScheduledReply { at: Instant::now() + reply.delay, order: self.order, request, reply });
        Ok(())
    }

    /// Carries out what the service decided.
    fn settle(&mut self, request: &Request, reply: &Reply) -> Result<(), Ended> {
        let id = request.stream;
        self.service.settled(request, reply);
        if let Some(streams) = reply.streams {
            self.allow(streams);
        }
        if reply.action == ReplyAction::Hang || self.open.remove(&id).is_none() {
            return Ok(()); // Never answered, or reset by the peer.
        }
        match reply.action {
            ReplyAction::Answer | ReplyAction::Half | ReplyAction::Hang => self.answer(id, reply),
            ReplyAction::Reset => put(&mut self.out, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes()),
            ReplyAction::Refuse => put(&mut self.out, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()),
            ReplyAction::Close => return Err(Ended::Closed),
            ReplyAction::GoAway => {
                put_go_away(&mut self.out, self.last_stream, 0, br#"{"reason":"Shutdown"}"#);
                return Err(Ended::Closed);
            }
            ReplyAction::GoAwayUnprocessed => {
                self.last_stream = id.saturating_sub(2);
                self.open.retain(|open, _| *open < id);
                self.streams.retain(|open, _| *open < id);
                self.due =
                    std::mem::take(&mut self.due).into_iter().filter(|due| due.request.stream < id).collect();
                return self.go_away(0, br#"{"reason":"Shutdown"}"#);
            }
            ReplyAction::BlackHole => return Err(Ended::BlackHole),
            ReplyAction::Freeze => return Err(Ended::Frozen),
        }
        if let Some(word) = reply.go_away_reason {
            return self.go_away(0, format!(r#"{{"reason":"{word}"}}"#).as_bytes());
        }
        self.end_if_done()
    }

    fn answer(&mut self, id: u32, reply: &Reply) {
        let block = head::write(reply);
        if reply.action == ReplyAction::Half {
            put(&mut self.out, HEADERS, END_HEADERS, id, &block);
            put(&mut self.out, DATA, 0, id, &reply.body[..reply.body.len() / 2]);
            put(&mut self.out, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes());
        } else if reply.body.is_empty() {
            put(&mut self.out, HEADERS, END_HEADERS | END_STREAM, id, &block);
        } else {
            put(&mut self.out, HEADERS, END_HEADERS, id, &block);
            self.blocked.push_back((id, reply.body.clone()));
            self.send_blocked();
        }
        if self.profile.ping_after_answer {
            put(&mut self.out, PING, 0, 0, &[0; 8]);
        }
    }

    /// Sends bodies in order, in frames, as far as the peer's connection window allows.
    fn send_blocked(&mut self) {
        let split = self.profile.split_answers;
        while let Some((id, mut body)) = self.blocked.pop_front() {
            let window = usize::try_from(self.send_window).unwrap_or(0);
            let size = body.len().min(MAX_FRAME_BYTES).min(window);
            if size == 0 {
                self.blocked.push_front((id, body));
                return;
            }
            self.send_window -= i64::try_from(size).unwrap_or(i64::MAX);
            let part = body.split_to(size);
            let ends = if body.is_empty() && !split { END_STREAM } else { 0 };
            put(&mut self.out, DATA, ends, id, &part);
            if !body.is_empty() {
                self.blocked.push_front((id, body));
            } else if split {
                put(&mut self.out, DATA, END_STREAM, id, &[]);
            }
        }
    }

    /// Lets the peer have so many requests open.
    pub(super) fn allow(&mut self, streams: u32) {
        if streams != self.allowed {
            self.allowed = streams;
            put_streams(&mut self.out, streams);
        }
    }

    /// Resets every open request.
    pub(super) fn reset_all(&mut self) {
        for id in std::mem::take(&mut self.open).into_keys() {
            put(&mut self.out, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes());
        }
        self.settle_unanswered();
    }

    /// Deals with the requests that were taken and will never be answered: they were processed.
    pub(super) fn settle_unanswered(&mut self) {
        for ScheduledReply { request, reply, .. } in std::mem::take(&mut self.due) {
            let action = if reply.action.is_processed() { ReplyAction::Reset } else { reply.action };
            self.service.settled(&request, &Reply { action, ..reply });
        }
        self.streams.clear();
    }

    /// Counts the requests that a fault hits.
    pub(super) fn count_struck(&self) {
        self.service.count_struck(self.open.len());
    }

    /// Takes back what was begun and not answered: it was not processed.
    pub(super) fn forget_open(&mut self) {
        if let Some((&first, _)) = self.open.first_key_value() {
            self.last_stream = first.saturating_sub(2);
        }
        self.open.clear();
        self.due.clear();
        self.streams.clear();
    }

    /// Gives the connection up: what was begun is still answered, later requests are not looked at.
    pub(super) fn go_away(&mut self, code: u32, text: &[u8]) -> Result<(), Ended> {
        put_go_away(&mut self.out, self.last_stream, code, text);
        self.go_away_last_stream = Some(self.last_stream);
        self.end_if_done()
    }

    fn end_if_done(&self) -> Result<(), Ended> {
        if self.go_away_last_stream.is_some() && self.open.is_empty() && self.blocked.is_empty() {
            return Err(Ended::Closed);
        }
        Ok(())
    }
}
