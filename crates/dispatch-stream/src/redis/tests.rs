//! The laws of the hand-over on a real Redis, and what only Redis can do wrong.

use std::time::Duration;

use push_domain::{FailReason, Kind, Provider};
use redis::cmd;
use tokio_util::task::TaskTracker;

use super::rig::{Rig, Server, a_gateway, a_worker, until};
use super::{LaneFault, value};
use crate::conformance::{a_job, a_verdict, claim_all, submitted};
use crate::{AppState, Board, Evidence, JobSource, Lease, ProcessState, Submit, SubmitError, Verdict};

crate::conformance::dispatch_conformance!(
    #[tokio::test]
    Rig::start
);

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
        let mut link = super::link::Link::commands(server.lane(user));
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

#[tokio::test]
async fn nothing_is_left_behind_when_all_is_answered() {
    let rig = Rig::start(100).await;
    let callers = futures(&rig, 20).await;

    for claimed in claim_all(&rig, 20).await {
        claimed.finish(a_verdict(1));
    }

    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    rig.worker.settled().await;
    for queue in ["hpns:q:app", "hpns:q:call:app"] {
        assert_eq!(rig.count("XLEN", queue.as_bytes()).await, 0);
        let pending = rig.server.admin(cmd("XPENDING").arg(queue).arg("w")).await;
        assert_eq!(value::number(&value::list(pending)[0]), Some(0));
    }
    all_is_forgotten_in_time(&rig).await;
}

/// Says that marks and replies end by themselves.
async fn all_is_forgotten_in_time(rig: &Rig) {
    let keys = value::list(rig.server.admin(cmd("KEYS").arg("hpns:[dr]:*")).await);
    assert!(!keys.is_empty());
    for key in keys.into_iter().filter_map(value::text) {
        let life = rig.count("PTTL", key.as_bytes()).await;
        assert!((1..=30_000).contains(&life), "{key} lives for {life} ms");
    }
}

/// Submits messages in the background.
pub(super) async fn futures(
    rig: &Rig,
    count: usize,
) -> Vec<tokio_util::task::AbortOnDropHandle<Result<Verdict, SubmitError>>> {
    let mut callers = Vec::new();
    for _ in 0..count {
        callers.push(submitted(rig, &a_job(Kind::Message)).await);
    }
    callers
}

#[tokio::test]
async fn what_lies_in_redis_tells_nothing() {
    let rig = Rig::start(100).await;
    let _callers = futures(&rig, 3).await;

    let entries = rig.server.admin(cmd("XRANGE").arg("hpns:q:app").arg("-").arg("+")).await;
    let entries: Vec<_> = value::list(entries).into_iter().filter_map(value::StreamEntry::read).collect();

    assert_eq!(entries.len(), 3);
    all_is_forgotten_in_time(&rig).await;
    for field in entries.iter().flat_map(|entry| &entry.fields) {
        for secret in [&b"canary-token"[..], b"canary-text"] {
            assert!(!field.windows(secret.len()).any(|part| part == secret));
        }
    }
}

#[tokio::test]
async fn a_lane_that_comes_back_empty_loses_nothing() {
    let rig = Rig::start(100).await;
    let callers = futures(&rig, 5).await;
    let claimed = claim_all(&rig, 2).await;

    rig.server.kill();
    rig.server.start_again();
    // Two were sent before; their verdicts are published all the same.
    for claimed in claimed {
        claimed.finish(a_verdict(1));
    }
    let answered = async {
        let mut attempts = Vec::new();
        for caller in callers {
            attempts.push(caller.await.unwrap().unwrap().attempts);
        }
        attempts
    };
    let delivery = async {
        loop {
            for claimed in rig.claim(Provider::Fcm, 8).await.unwrap() {
                claimed.finish(a_verdict(2));
            }
        }
    };

    // Those that were sent before may be sent again: their gateway asked before it was told.
    let attempts = tokio::select! { attempts = answered => attempts, () = delivery => unreachable!() };
    assert!(attempts.iter().all(|attempts| [1, 2].contains(attempts)), "{attempts:?}");
    assert_eq!(attempts[2..], [2, 2, 2]);
}

#[tokio::test]
async fn a_lost_reply_is_found_when_the_job_is_asked_for_again() {
    let rig = Rig::start(100).await;
    // The reply stream cannot be written: it is a text.
    rig.server.admin(cmd("SET").arg("hpns:r:gw").arg("x")).await;
    let caller = submitted(&rig, &a_job(Kind::Message)).await;

    for claimed in claim_all(&rig, 1).await {
        claimed.finish(a_verdict(1));
    }
    rig.server.admin(cmd("DEL").arg("hpns:r:gw")).await;

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
}

#[tokio::test]
async fn a_job_goes_to_another_lane_when_its_own_is_gone() {
    let (first, second, tasks) = (Server::start(), Server::start(), TaskTracker::new());
    for server in [&first, &second] {
        server.admin(&cmd("PING")).await;
    }
    let gateway = a_gateway("gw", &[&first, &second], 100, &tasks);
    let worker = a_worker("w1", &second, &tasks);
    until(|| gateway.is_ready() && worker.is_up()).await;
    first.kill();

    let all: Vec<_> = (0..10).map(|_| gateway.submit(a_job(Kind::Message))).collect();
    let answered = async {
        for answer in all {
            assert_eq!(answer.await, Ok(a_verdict(1)));
        }
    };
    let delivery = async {
        loop {
            for claimed in worker.claim(Provider::Fcm, 8).await.unwrap() {
                claimed.finish(a_verdict(1));
            }
        }
    };
    tokio::select! { () = answered => {}, () = delivery => {} }
    first.start_again();
}

#[tokio::test]
async fn without_any_lane_a_new_job_is_refused_within_a_second() {
    let rig = Rig::start(100).await;
    rig.server.kill();
    until(|| !rig.gateway.is_ready()).await;

    let asked = tokio::time::Instant::now();
    assert_eq!(rig.submit(a_job(Kind::Message)).await, Err(SubmitError::NoWay));

    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    rig.server.start_again();
}

#[tokio::test]
async fn an_entry_that_cannot_be_opened_fails_alone() {
    let rig = Rig::start(100).await;
    let job = a_job(Kind::Message);
    let strange = a_job(Kind::Message);
    let mut add = cmd("XADD");
    add.arg("hpns:q:app").arg("*").arg("j").arg(&strange.notification.id.uuid().as_bytes()[..]);
    rig.server.admin(add.arg("g").arg("gw").arg("x").arg("99999999999999").arg("p").arg("junk")).await;
    rig.server.admin(cmd("XADD").arg("hpns:q:app").arg("*").arg("nonsense").arg("x")).await;
    let caller = submitted(&rig, &job).await;

    let claimed = claim_all(&rig, 1).await.remove(0);
    assert_eq!(claimed.job().notification.id, job.notification.id);
    claimed.finish(a_verdict(1));

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    assert_eq!(rig.submit(strange).await, Ok(Verdict::unsent(FailReason::Internal)));
    rig.worker.settled().await;
    assert_eq!(rig.count("XLEN", b"hpns:q:app").await, 0);
}

#[tokio::test]
async fn a_full_server_refuses_what_is_new_and_lets_out_what_is_there() {
    let rig = Rig::start(100_000).await;
    let callers = futures(&rig, 3).await;
    let claimed = claim_all(&rig, 3).await;
    rig.server.admin(cmd("CONFIG").arg("SET").arg("maxmemory").arg(1)).await;

    assert_eq!(rig.submit(a_job(Kind::Message)).await, Err(SubmitError::Full));
    // Longer than a gateway waits before it asks for its jobs again: they are known, full or not.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for claimed in claimed {
        claimed.finish(a_verdict(1));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    }

    assert!(rig.worker.is_up(), "heartbeats go on");
    rig.server.admin(cmd("CONFIG").arg("SET").arg("maxmemory").arg(0)).await;
    let _taken = submitted(&rig, &a_job(Kind::Message)).await;
}

#[tokio::test]
async fn processes_know_of_each_other_and_add_up_what_they_have_seen() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let clock = push_domain::SystemClock;
    let app = push_domain::AppId::new("ios");
    let [one, two] = ["one", "two"].map(|name| Board::new(name, &[server.lane("worker")]));
    let apps = [("ios".to_owned(), AppState { is_broken: true, ..AppState::default() })].into();
    let state = ProcessState { process: "one".into(), is_worker: true, apps, ..ProcessState::default() };

    one.publish(state.clone()).await;
    two.publish(ProcessState { process: "two".into(), is_gateway: true, ..ProcessState::default() }).await;
    let seen = Evidence { dead: 7, accepted: 1, last_accepted_ms: 5, ..Evidence::default() };
    assert_eq!(one.exchange(&app, seen, &clock).await, Evidence::default());

    let states = two.states().await.unwrap();
    assert!(states.contains(&state) && states.len() == 2, "{states:?}");
    let others = two.exchange(&app, Evidence { dead: 3, ..Evidence::default() }, &clock).await;
    assert_eq!((others.dead, others.accepted, others.last_accepted_ms), (7, 1, 5));
    assert_eq!(one.exchange(&app, seen, &clock).await.dead, 3);
}

#[tokio::test]
async fn eight_workers_that_lease_a_rate_keep_to_it() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let boards: Vec<_> = (0..8).map(|n| Board::new(&n.to_string(), &[server.lane("worker")])).collect();
    let began = tokio::time::Instant::now();
    let end = began + Duration::from_millis(1500);

    let workers = boards.iter().map(|board| async move {
        let mut granted = 0;
        while tokio::time::Instant::now() < end {
            match board.lease("fcm", 1000, 100, 20).await.unwrap() {
                Lease::Granted(turns) => granted += turns,
                Lease::Wait(time) => tokio::time::sleep(time).await,
            }
        }
        granted
    });
    let mut all = 0;
    let mut working: Vec<_> = workers.map(Box::pin).collect();
    // All of them make progress together.
    std::future::poll_fn(|context| {
        working.retain_mut(|worker| match worker.as_mut().poll(context) {
            std::task::Poll::Ready(granted) => {
                all += granted;
                false
            }
            std::task::Poll::Pending => true,
        });
        if working.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;

    let ideal = 1000.0 * began.elapsed().as_secs_f64() + 100.0;
    assert!(f64::from(all) <= ideal * 1.05 && f64::from(all) >= ideal * 0.8, "{all} of {ideal}");
}
