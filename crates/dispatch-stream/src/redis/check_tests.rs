//! Tests of the server check and of the shipped ACL users.

use redis::cmd;

use super::lane_connection::LaneConnection;
use super::rig::Server;
use super::{LaneFault, value};

#[tokio::test]
async fn a_server_that_keeps_pushes_or_drops_them_is_refused() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    assert_eq!(server.lane("worker").check().await, Ok(()));

    for (setting, value) in [("appendonly", "yes"), ("save", "60 1"), ("maxmemory-policy", "allkeys-lru")] {
        let before = server.admin(cmd("CONFIG").arg("GET").arg(setting)).await;
        server.admin(cmd("CONFIG").arg("SET").arg(setting).arg(value)).await;
        let Err(LaneFault::Unsafe(fault)) = server.lane("gateway").check().await else { panic!("{setting}") };
        assert!(fault.starts_with(setting), "{fault}");
        let before = value::list(before).into_iter().nth(1).and_then(value::text).unwrap();
        server.admin(cmd("CONFIG").arg("SET").arg(setting).arg(before)).await;
    }
    assert_eq!(server.lane("worker").check().await, Ok(()));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_is_not_safe() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    server.kill();

    assert!(matches!(server.lane("worker").check().await, Err(LaneFault::Unreachable(_))));
    server.start_again();
}

#[tokio::test]
async fn the_users_may_do_their_work_and_nothing_else() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;

    for user in ["gateway", "worker"] {
        let mut link = LaneConnection::commands(server.lane(user));
        for command in [
            vec!["KEYS", "*"],
            vec!["GET", "other"],
            vec!["CONFIG", "SET", "appendonly", "yes"],
            vec!["FLUSHALL"],
            vec!["MONITOR"],
            vec!["SLOWLOG", "GET"],
            vec!["SUBSCRIBE", "x"],
            vec!["EVAL", "return redis.call('GET', 'other')", "0"],
        ] {
            let mut forbidden = cmd(command[0]);
            for part in &command[1..] {
                forbidden.arg(part);
            }
            let error = link.query(&forbidden).await.unwrap_err();
            let refused = error.code() == Some("NOPERM")
                || error.to_string().contains("can't access at least one of the keys");
            assert!(refused, "{command:?}: {error}");
        }
    }
}
