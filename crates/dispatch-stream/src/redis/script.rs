//! Lua scripts, and how they are called (EVALSHA).

use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, Value, cmd};

use super::lane_connection::LaneConnection;

/// Lua script: one step of the queue's protocol, done whole or not at all.
pub(super) struct LuaScript {
    script: Script,
    code: &'static str,
}

impl LuaScript {
    pub(super) fn enqueue() -> Self {
        Self::new(include_str!("lua/enqueue.lua"))
    }

    pub(super) fn finish() -> Self {
        Self::new(include_str!("lua/finish.lua"))
    }

    pub(super) fn claim() -> Self {
        Self::new(include_str!("lua/claim.lua"))
    }

    pub(super) fn guard() -> Self {
        Self::new(include_str!("lua/guard.lua"))
    }

    pub(super) fn bury() -> Self {
        Self::new(include_str!("lua/bury.lua"))
    }

    pub(super) fn reap() -> Self {
        Self::new(include_str!("lua/reap.lua"))
    }

    pub(super) fn beat() -> Self {
        Self::new(include_str!("lua/beat.lua"))
    }

    pub(super) fn gcra() -> Self {
        Self::new(include_str!("lua/gcra.lua"))
    }

    fn new(code: &'static str) -> Self {
        Self { script: Script::new(code), code }
    }

    /// Begins a call with so many keys; keys and arguments follow, in the order of the script's head.
    pub(super) fn call(&self, keys: usize) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(keys);
        call
    }

    /// Runs a call; a server that does not know the script yet gets it first.
    pub(super) async fn run(&self, call: &Cmd, link: &mut LaneConnection) -> RedisResult<Value> {
        match link.query(call).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.query(cmd("SCRIPT").arg("LOAD").arg(self.code)).await?;
                link.query(call).await
            }
            answer => answer,
        }
    }
}
