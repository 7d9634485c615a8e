//! A small HTTP/2 server (RFC 9113) whose every frame we decide: a library would hide the very things
//! that senders have to survive.

mod connection;
mod frame;
mod head;

use bytes::Bytes;
use std::time::Duration;

pub(crate) use connection::converse;

/// A complete request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) connection: u64,
    pub(crate) stream: u32,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case, in the order in which they came, without pseudo-headers.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    /// Returns the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is answered.
    #[default]
    Answer,
    /// It is never answered.
    Hang,
    /// Its stream is reset.
    Reset,
    /// Its stream is refused: not processed, may be sent again.
    Refuse,
    /// The connection is closed without a word.
    Close,
    /// The connection is given up with a GOAWAY that covers the stream, and closed.
    GoAway,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) delay: Duration,
    pub(crate) fate: Fate,
    /// How many requests the peer may have open from now on.
    pub(crate) streams: Option<u32>,
}

/// What a server says to requests. Called in the order in which requests become complete.
pub(crate) trait Service {
    /// How many requests a new connection may have open.
    fn initial_streams(&self) -> u32;

    /// Answers one request.
    fn answer(&mut self, request: Request) -> Reply;
}
