//! Redis connection to a lane, which reconnects whenever it is needed.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisError, RedisResult, Value};

use super::lane::{Lane, LaneFault};
use super::{BLOCK, check};

const CONNECT: Duration = Duration::from_millis(500);
/// A command that takes longer is as good as lost; every one of ours can be repeated.
const RESPONSE: Duration = Duration::from_secs(1);

/// A connection of one task: one command, or one flush, at a time. After any error the next command
/// makes a new one, so that no late answer is taken for another.
pub(super) struct LaneConnection {
    lane: Lane,
    timeout: Duration,
    connection: Option<MultiplexedConnection>,
}

impl Lane {
    /// Asks the server whether it may be used.
    pub async fn check(&self) -> Result<(), LaneFault> {
        match LaneConnection::commands(self.clone()).open().await {
            Ok(_) => Ok(()),
            Err(error) => Err(check::unsafe_setting(&error)
                .map_or_else(|| LaneFault::Unreachable(described(&error)), LaneFault::Unsafe)),
        }
    }
}

impl LaneConnection {
    /// For commands that answer at once.
    pub(super) fn commands(lane: Lane) -> Self {
        Self { lane, timeout: RESPONSE, connection: None }
    }

    /// For reads that wait for [`BLOCK`]. Never dropped half-way: the server would go on waiting, and
    /// hand what comes to nobody.
    pub(super) fn blocking(lane: Lane) -> Self {
        Self { lane, timeout: BLOCK + Duration::from_secs(2), connection: None }
    }

    pub(super) const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Makes the connection if there is none, of a server that may be used; says whether it is a new one.
    pub(super) async fn open(&mut self) -> RedisResult<bool> {
        let is_new = self.connection.is_none();
        if is_new {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(self.timeout));
            let client = &self.lane.client;
            let mut new = client.get_multiplexed_async_connection_with_config(&config).await?;
            if self.lane.checks_server {
                check::check(&mut new).await?;
            }
            self.connection = Some(new);
        }
        Ok(is_new)
    }

    async fn connection(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        self.open().await?;
        self.connection.as_mut().ok_or_else(|| RedisError::from((redis::ErrorKind::Client, "no connection")))
    }

    /// Sends one command.
    pub(super) async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = command.query_async(self.connection().await?).await;
        self.after(answer)
    }

    /// Sends several commands at once, and returns their answers in order.
    pub(super) async fn pipeline(&mut self, commands: &redis::Pipeline) -> RedisResult<Vec<Value>> {
        let answer = commands.query_async(self.connection().await?).await;
        self.after(answer)
    }

    /// What the server says, even a refusal, leaves the connection as it is; anything else ends it.
    fn after<T>(&mut self, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer
            && !matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension)
        {
            self.connection = None;
        }
        answer
    }
}

/// Describes an error without anything that was sent.
pub(super) fn described(error: &RedisError) -> String {
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connection_refusal() {
        "connection refused".to_owned()
    } else if let Some(code) = error.code() {
        format!("the server says {code}")
    } else {
        error.category().to_owned()
    }
}
