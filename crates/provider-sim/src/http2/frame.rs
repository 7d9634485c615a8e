//! HTTP/2 frames: nine bytes of header, then the payload (RFC 9113, section 4.1).

use bytes::{Buf, Bytes, BytesMut};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(super) const MAX_FRAME_BYTES: usize = 16_384;

pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2 protocol error: {0}")]
pub(crate) struct ProtocolError(pub(super) &'static str);

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

impl Frame {
    /// Takes the next whole frame off the buffer.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let Some(&[high, middle, low, kind, flags, s0, s1, s2, s3]) = buffer.first_chunk::<9>() else {
            return Ok(None);
        };
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > MAX_FRAME_BYTES {
            return Err(ProtocolError("frame too large"));
        }
        if buffer.len() < 9 + length {
            return Ok(None);
        }
        buffer.advance(9);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        Ok(Some(Self { kind, flags, stream, payload: buffer.split_to(length).freeze() }))
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the payload without padding and priority.
    pub(super) fn content(&self) -> Result<Bytes, ProtocolError> {
        let mut content = self.payload.clone();
        let mut padding = 0;
        if self.has(PADDED) {
            padding = usize::from(content.try_get_u8().map_err(|_| ProtocolError("no padding length"))?);
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            if content.len() < 5 {
                return Err(ProtocolError("no priority"));
            }
            content.advance(5);
        }
        if padding > content.len() {
            return Err(ProtocolError("more padding than payload"));
        }
        content.truncate(content.len() - padding);
        Ok(content)
    }
}

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends the SETTINGS that begin a connection, as a real connection to Apple showed them.
pub(super) fn put_first_settings(out: &mut Vec<u8>, streams: u32) {
    put_settings(
        out,
        &[
            (HEADER_TABLE_SIZE, 4096),
            (MAX_CONCURRENT_STREAMS, streams),
            (INITIAL_WINDOW_SIZE, 65_535),
            (MAX_FRAME_SIZE, 16_384),
            (MAX_HEADER_LIST_SIZE, 8000),
        ],
    );
}

/// Appends the SETTINGS that change how many requests may be open.
pub(super) fn put_streams(out: &mut Vec<u8>, streams: u32) {
    put_settings(out, &[(MAX_CONCURRENT_STREAMS, streams)]);
}

fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(6 * settings.len());
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, SETTINGS, 0, 0, &payload);
}

/// Appends a GOAWAY frame.
pub(super) fn put_go_away(out: &mut Vec<u8>, last_stream: u32, code: u32, debug: &[u8]) {
    let mut payload = Vec::with_capacity(8 + debug.len());
    payload.extend_from_slice(&last_stream.to_be_bytes());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(debug);
    put(out, GOAWAY, 0, 0, &payload);
}
