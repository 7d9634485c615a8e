//! Why a connection of the simulator ended.

use std::io;

use super::frame::ProtocolError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Transport(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the script closed the connection")]
    Closed,
    /// It goes on reading and says nothing any more.
    #[error("the connection is a black hole")]
    BlackHole,
    /// It does nothing any more.
    #[error("the connection is frozen")]
    Frozen,
}
