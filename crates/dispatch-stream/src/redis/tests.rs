//! Conformance tests of the job queue on a real Redis, and what only Redis can do wrong.

use std::time::Duration;

use push_domain::{Kind, Provider, Verdict};
use redis::cmd;
use tokio_util::task::TaskTracker;

use super::forgery_tests::binding;
use super::rig::{Rig, Server, a_gateway, a_worker, until};
use super::value;
use crate::conformance::{a_job, a_verdict, claim_all, submitted};
use crate::seal::Binding;
use crate::{JobConsumer, JobProducer, SubmitError};

crate::conformance::dispatch_conformance!(
    #[tokio::test]
    Rig::start
);

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
    for queue in ["hpns:jobs:fcm:other", "hpns:jobs:fcm:call"] {
        assert_eq!(rig.count("XLEN", queue.as_bytes()).await, 0);
        let pending = rig.server.admin(cmd("XPENDING").arg(queue).arg("w")).await;
        assert_eq!(value::number(&value::list(pending)[0]), Some(0));
    }
    all_is_forgotten_in_time(&rig).await;
}

/// Says that books and replies end by themselves.
async fn all_is_forgotten_in_time(rig: &Rig) {
    let keys = value::list(rig.server.admin(cmd("KEYS").arg("hpns:[gr]:*")).await);
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

    let entries = rig.server.admin(cmd("XRANGE").arg("hpns:jobs:fcm:other").arg("-").arg("+")).await;
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
async fn a_job_goes_to_another_lane_when_its_own_is_gone() {
    let (first, second, tasks) = (Server::start(), Server::start(), TaskTracker::new());
    for server in [&first, &second] {
        server.admin(&cmd("PING")).await;
    }
    let gateway = a_gateway("gw", &[&first, &second], 100, &tasks);
    let worker = a_worker("w1", &[&second], &tasks);
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
    assert_eq!(rig.submit(a_job(Kind::Message)).await, Err(SubmitError::NoLane));

    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    rig.server.start_again();
}

#[tokio::test]
async fn an_entry_that_cannot_be_opened_fails_alone() {
    let rig = Rig::start(100).await;
    let job = a_job(Kind::Message);
    let strange = Binding { job: push_domain::JobId::new(), ..binding(&rig, &job, "gw").await };
    let parcel = crate::wire::write_parcel(strange, b"junk");
    rig.server.admin(cmd("XADD").arg("hpns:jobs:fcm:other").arg("*").arg("p").arg(&parcel[..])).await;
    rig.server.admin(cmd("XADD").arg("hpns:jobs:fcm:other").arg("*").arg("nonsense").arg("x")).await;
    let caller = submitted(&rig, &job).await;

    let claimed = claim_all(&rig, 1).await.remove(0);
    assert_eq!(claimed.job().notification.id, job.notification.id);
    claimed.finish(a_verdict(1));

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    rig.worker.settled().await;
    assert_eq!(rig.count("XLEN", b"hpns:jobs:fcm:other").await, 0);
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

/// A server's time.
pub(super) async fn seconds(server: &Server) -> u64 {
    let time = value::list(server.admin(&cmd("TIME")).await);
    time.into_iter().next().and_then(value::text).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_lane_that_no_worker_reads_takes_no_push() {
    let (unread, read, tasks) = (Server::start(), Server::start(), TaskTracker::new());
    for server in [&unread, &read] {
        server.admin(&cmd("PING")).await;
    }
    let worker = a_worker("w1", &[&read], &tasks);
    let gateway = a_gateway("gw", &[&unread, &read], 100, &tasks);
    until(|| gateway.is_ready() && worker.is_up()).await;

    let answered = async {
        // As long as a process stays with each lane, and longer.
        for _ in 0..40 {
            assert_eq!(gateway.submit(a_job(Kind::Message)).await, Ok(a_verdict(1)));
            tokio::time::sleep(Duration::from_millis(15)).await;
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
    assert_eq!(unread.admin(cmd("XLEN").arg("hpns:jobs:fcm:other")).await, redis::Value::Int(0));
}

#[tokio::test]
async fn an_app_that_no_worker_knows_is_told_and_one_that_some_know_is_served() {
    let (server, tasks) = (Server::start(), TaskTracker::new());
    server.admin(&cmd("PING")).await;
    let other = push_domain::App { id: push_domain::AppId::new("other"), ..crate::conformance::the_app() };
    let stranger = super::rig::a_worker_of(other, "w1", &[&server], &tasks);
    let gateway = a_gateway("gw", &[&server], 100, &tasks);
    until(|| gateway.is_ready()).await;
    let ignorant = async {
        stranger.claim(Provider::Fcm, 8).await;
    };
    let asked = gateway.submit(a_job(Kind::Message));
    let told = tokio::select! { told = asked => told, () = ignorant => unreachable!() };
    assert_eq!(told, Err(SubmitError::NotServed));

    let worker = a_worker("w2", &[&server], &tasks);
    let delivery = async {
        loop {
            tokio::select! {
                jobs = worker.claim(Provider::Fcm, 8) => jobs.unwrap().into_iter().for_each(|it| it.finish(a_verdict(1))),
                _ = stranger.claim(Provider::Fcm, 8) => {}
            }
        }
    };
    let asked = gateway.submit(a_job(Kind::Message));
    let told = tokio::select! { told = asked => told, () = delivery => unreachable!() };
    assert_eq!(told, Ok(a_verdict(1)));
}

#[tokio::test]
async fn connections_that_break_with_two_hundred_under_way_send_nothing_twice() {
    let rig = Rig::start(1000).await;
    let callers = futures(&rig, 200).await;
    let claimed = claim_all(&rig, 200).await;

    rig.server.admin(cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes")).await;
    for claimed in claimed {
        claimed.finish(a_verdict(1));
    }

    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    }
    let again = tokio::time::timeout(Duration::from_millis(1500), rig.claim(Provider::Fcm, 8)).await;
    assert!(again.is_err(), "a job was handed over again");
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_hands_nothing_over_twice() {
    let rig = Rig::start(1000).await;
    let answered = async {
        let all: Vec<_> = (0..100).map(|_| rig.submit(a_job(Kind::Message))).map(Box::pin).collect();
        for caller in all {
            assert_eq!(caller.await, Ok(a_verdict(1)));
        }
    };
    let mut sent = 0;
    let delivery = async {
        loop {
            for claimed in rig.claim(Provider::Fcm, 8).await.unwrap() {
                sent += 1;
                claimed.finish(a_verdict(1));
            }
        }
    };
    // The server does what it is asked, and its answers get lost.
    let trouble = async {
        loop {
            rig.server.admin(cmd("CLIENT").arg("KILL").arg("USER").arg("hpns-gateway")).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::select! { () = answered => {}, () = delivery => {}, () = trouble => {} }
    assert_eq!(sent, 100);
}

#[tokio::test]
async fn a_lane_that_was_restarted_empty_serves_within_a_second_of_its_return() {
    let rig = Rig::start(100).await;
    rig.server.kill();
    until(|| !rig.gateway.is_ready()).await;
    rig.server.start_again();
    rig.server.admin(&cmd("PING")).await;
    let back = tokio::time::Instant::now();

    until(|| rig.gateway.is_ready() && rig.worker.is_up()).await;
    let delivery = async {
        loop {
            for claimed in rig.claim(Provider::Fcm, 8).await.unwrap() {
                claimed.finish(a_verdict(1));
            }
        }
    };
    let answer = rig.submit(a_job(Kind::Message));
    let answer = tokio::select! { answer = answer => answer, () = delivery => unreachable!() };

    assert_eq!(answer, Ok(a_verdict(1)));
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test]
async fn jobs_from_before_a_step_of_the_lanes_clock_are_sent_all_the_same_and_once() {
    let rig = Rig::start(100).await;
    let callers = futures(&rig, 5).await;
    let epoch = || async {
        let answer = rig.server.admin(cmd("HGET").arg("hpns:lane").arg("epoch")).await;
        value::text(answer).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = epoch().await;
    // The server's clock goes back: what it has seen lies ahead.
    let ahead = (seconds(&rig.server).await + 3600) * 1000;
    rig.server.admin(cmd("HSET").arg("hpns:lane").arg("seen").arg(ahead)).await;
    while epoch().await == before {
        tokio::task::yield_now().await;
    }

    let mut sent = 0;
    let answered = async {
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
        }
    };
    let delivery = async {
        loop {
            for claimed in rig.claim(Provider::Fcm, 8).await.unwrap() {
                sent += 1;
                claimed.finish(a_verdict(1));
            }
        }
    };
    tokio::select! { () = answered => {}, () = delivery => {} }
    assert_eq!(sent, 5);
}
