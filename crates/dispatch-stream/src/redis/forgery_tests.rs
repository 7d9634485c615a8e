//! Forgery tests: what somebody can do who has a lane's login and not the key ring.

use std::time::Duration;

use push_domain::{Kind, Provider, Verdict};
use redis::cmd;

use super::rig::{Rig, Server, until};
use super::tests::seconds;
use super::value;
use crate::conformance::{a_job, a_verdict, claim_all, submitted};
use crate::seal::{Binding, LaneTimestamp};
use crate::{Job, JobConsumer, JobProducer};

/// What an envelope of a job would be bound to if it were sealed now, with ten seconds left.
pub(super) async fn binding<'a>(rig: &Rig, job: &'a Job, gateway: &'a str) -> Binding<'a> {
    let epoch = value::text(rig.server.admin(cmd("HGET").arg("hpns:lane").arg("epoch")).await).unwrap();
    let deadline =
        LaneTimestamp { millis: seconds(&rig.server).await * 1000 + 10_000, epoch: epoch.parse().unwrap() };
    Binding { job: job.notification.id, gateway, app: &job.notification.app.id, deadline }
}

/// Claims for a moment, and returns what was claimed.
async fn claimed_soon(rig: &Rig) -> usize {
    let claim = tokio::time::timeout(Duration::from_millis(500), rig.claim(Provider::Fcm, 8));
    claim.await.map_or(0, |claimed| claimed.unwrap().into_iter().map(|it| it.finish(a_verdict(1))).count())
}

#[tokio::test]
async fn an_envelope_that_is_put_back_after_its_deadline_is_never_sent() {
    let rig = Rig::start(100).await;
    let job = a_job(Kind::Message);
    let sealer = crate::seal::Sealer::new(super::rig::ring());
    let put_back = async |sealed: Binding<'_>, told: Binding<'_>| {
        let envelope = sealer.seal(sealed, &crate::wire::write_push(&job)).unwrap();
        let parcel = crate::wire::write_parcel(told, &envelope);
        rig.server.admin(cmd("XADD").arg("hpns:jobs:fcm:other").arg("*").arg("p").arg(&parcel[..])).await;
        claimed_soon(&rig).await
    };
    let good = binding(&rig, &job, "another").await;
    assert_eq!(put_back(good, good).await, 1, "what is in time is sent");

    let moment = |millis| LaneTimestamp { millis, ..good.deadline };
    let late = Binding { deadline: moment(good.deadline.millis - 11_000), ..good };
    assert_eq!(put_back(late, late).await, 0, "late by a second");
    assert_eq!(put_back(late, good).await, 0, "with another deadline than it was sealed with");
    let other = Binding { deadline: LaneTimestamp { epoch: 7, ..good.deadline }, ..good };
    assert_eq!(put_back(other, other).await, 0, "of another life of the lane");
    assert_eq!(put_back(other, good).await, 0);
}

#[tokio::test]
async fn nobody_without_the_ring_answers_a_push() {
    let rig = Rig::start(100).await;
    let job = a_job(Kind::Message);
    let caller = submitted(&rig, &job).await;
    let claimed = claim_all(&rig, 1).await;
    let removed = Verdict { answer: push_domain::Answer::Remove, ..a_verdict(1) };
    let mut told = Vec::new();
    crate::wire::append_verdict(&mut told, job.notification.id, &crate::wire::write_verdict(&removed));
    let other = crate::KeyRing::parse(
        "00000000000000a1 3333333333333333333333333333333333333333333333333333333333333333",
    );
    let ours = crate::message_auth::MessageAuthenticator::of_verdicts(&super::rig::ring());
    let forged = [
        told.clone(),
        crate::message_auth::MessageAuthenticator::of_verdicts(&other.unwrap()).sign("gw", &told),
        ours.sign("another", &told),
        crate::BoardKeys::of(&super::rig::ring()).sign("gw", &told),
    ];
    for said in forged {
        rig.server.admin(cmd("XADD").arg("hpns:r:gw").arg("*").arg("v").arg(said)).await;
    }
    // What was told has been read when it is gone.
    while rig.count("XLEN", b"hpns:r:gw").await > 0 {
        tokio::task::yield_now().await;
    }
    for claimed in claimed {
        claimed.finish(a_verdict(1));
    }

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
}

#[tokio::test]
async fn no_entry_that_was_not_sealed_for_it_makes_an_answer_to_a_push() {
    let rig = Rig::start(100).await;
    let job = a_job(Kind::Message);
    let caller = submitted(&rig, &job).await;
    let claimed = claim_all(&rig, 1).await;
    // The push's own id, with an envelope that no worker opens, and with a deadline that is over.
    let bound = binding(&rig, &job, "gw").await;
    let over = Binding { deadline: LaneTimestamp { millis: 1, ..bound.deadline }, ..bound };
    for binding in [bound, over] {
        let parcel = crate::wire::write_parcel(binding, b"junk");
        rig.server.admin(cmd("XADD").arg("hpns:jobs:fcm:other").arg("*").arg("p").arg(&parcel[..])).await;
    }
    // Its gateway offers it again; that it is sent twice is all that can be had.
    claimed_soon(&rig).await;
    for claimed in claimed {
        claimed.finish(a_verdict(1));
    }

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
}

#[tokio::test]
async fn an_endless_script_of_a_login_is_ended_and_the_lane_serves_again() {
    let rig = Rig::start(100).await;
    let mut stranger = super::lane_connection::LaneConnection::commands(rig.server.lane("gateway"));
    let loaded = stranger.query(cmd("SCRIPT").arg("LOAD").arg("while true do end")).await.unwrap();
    let _ = stranger.query(cmd("EVALSHA").arg(value::text(loaded).unwrap()).arg(0)).await;

    let delivery = async {
        loop {
            for claimed in rig.claim(Provider::Fcm, 8).await.unwrap() {
                claimed.finish(a_verdict(1));
            }
        }
    };
    let answer = async {
        until(|| rig.gateway.is_ready()).await;
        rig.submit(a_job(Kind::Message)).await
    };
    let answer = tokio::select! { answer = answer => answer, () = delivery => unreachable!() };
    assert_eq!(answer, Ok(a_verdict(1)));
}

#[tokio::test]
async fn an_operator_ends_a_lane_whose_script_has_written_and_logins_may_not() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let script = "redis.call('SET', KEYS[1], 1) while true do end";
    let mut endless = cmd("EVAL");
    let endless = endless.arg(script).arg(1).arg("hpns:watched");
    let mut stranger = super::lane_connection::LaneConnection::commands(server.lane("test"));
    let _ = stranger.query(endless).await;
    let mut operator = super::lane_connection::LaneConnection::commands(server.lane("operator"));
    let killed = operator.query(cmd("SCRIPT").arg("KILL")).await.unwrap_err();
    assert_eq!(killed.code(), Some("UNKILLABLE"));
    let mut lane = server.lane("worker");
    lane.checks_server = false;
    let mut worker = super::lane_connection::LaneConnection::commands(lane);
    assert_eq!(worker.query(cmd("SHUTDOWN").arg("NOSAVE")).await.unwrap_err().code(), Some("NOPERM"));

    let _ = operator.query(cmd("SHUTDOWN").arg("NOSAVE")).await;

    server.start_again();
    server.admin(&cmd("PING")).await;
}
