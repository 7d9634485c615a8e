//! A small HTTP/2 server (RFC 9113) whose every frame we decide: a library would hide the very things
//! that senders have to survive.

mod connection;
mod ended;
mod frame;
mod head;
mod protocol;
mod scheduled_reply;

use bytes::Bytes;
use std::time::Duration;

pub(crate) use connection::serve_connection;

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

/// Reply action: what becomes of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ReplyAction {
    /// It is answered.
    #[default]
    Answer,
    /// It is answered with half of the body, then reset.
    Half,
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
    /// The connection is given up with a GOAWAY that does not cover the stream.
    GoAwayUnprocessed,
    /// The connection stays open and is never answered again.
    BlackHole,
    /// The connection stays open and is never read again.
    Freeze,
}

impl ReplyAction {
    /// Whether the provider has dealt with the request.
    pub(crate) const fn is_processed(self) -> bool {
        !matches!(self, Self::Refuse | Self::GoAwayUnprocessed)
    }
}

/// Reply to a request, and what becomes of the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) delay: Duration,
    pub(crate) action: ReplyAction,
    /// How many requests the peer may have open from now on.
    pub(crate) streams: Option<u32>,
    /// Whether the push counts as delivered; if it is not said, the status says it.
    pub(crate) delivered: Option<bool>,
    /// Whether the connection ends after this answer, and with which word.
    pub(crate) go_away_reason: Option<&'static str>,
}

/// Server behaviour behind the HTTP/2 layer: decides on requests, counts events.
pub(crate) trait Service {
    /// How many requests a new connection may have open.
    fn initial_streams(&self) -> u32;

    /// Decides on one request. Called in the order in which requests become complete.
    fn answer(&mut self, request: &Request) -> Reply;

    /// Notes what became of it, when it is answered or given up.
    fn settled(&mut self, request: &Request, reply: &Reply);

    /// What a GOAWAY says when too many requests are open: its code and text.
    fn excess_go_away(&self) -> (u32, &'static str);

    /// A PING came.
    fn pinged(&self);

    /// More requests were open than allowed.
    fn count_excess_request(&self);

    /// A fault hit a connection with so many open requests.
    fn count_struck(&self, open: usize);
}
