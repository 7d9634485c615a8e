//! Crash tests: workers that die in the middle of their work, and workers that were away for too long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use push_domain::{FailReason, JobId, Kind, Provider, Verdict};
use redis::cmd;
use tokio_util::task::TaskTracker;

use super::rig::{Rig, Server, a_gateway, a_worker, until};
use super::tests::futures;
use crate::Job;
use crate::conformance::{a_job, a_verdict, claim_all};

#[tokio::test]
async fn the_jobs_of_a_dead_worker_are_taken_over_and_those_of_a_living_one_are_not() {
    let rig = Rig::start(100).await;
    let callers = futures(&rig, 4).await;
    let held = claim_all(&rig, 2).await;
    dies_with(&rig.server, "doomed", 2);

    // The other worker has two of its own, which take their time, and takes over the two lost ones.
    let found = claim_all(&rig, 2).await;
    for claimed in held.into_iter().chain(found) {
        assert!(claimed.may_send());
        claimed.finish(a_verdict(1));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    }
}

/// Works until it meets the killer, and then ends with all that it has; or until all is over.
fn live_until(server: &Server, name: &str, killer: JobId, over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = a_worker(name, &[server], &TaskTracker::new());
        while !over.load(Ordering::Relaxed) {
            let claim = tokio::time::timeout(Duration::from_millis(100), worker.claim(Provider::Fcm, 20));
            let jobs = claim.await.ok().flatten().unwrap_or_default();
            if jobs.iter().any(|claimed| claimed.job().notification.id == killer) {
                std::mem::forget(jobs);
                return;
            }
            for claimed in jobs {
                claimed.finish(a_verdict(1));
            }
        }
    });
    runtime.shutdown_background();
}

/// A job that outlives the deaths of four workers, of which each takes seconds to be noticed.
fn a_patient_job() -> Job {
    let job = a_job(Kind::Message);
    Job { deadline: job.accepted_at + Duration::from_mins(1), ..job }
}

/// Starts a worker in a thread of its own; it claims so many jobs, and ends with them in the middle of its work.
fn dies_with(server: &Server, name: &str, count: usize) {
    let dying = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let worker = a_worker(name, &[server], &TaskTracker::new());
            let mut jobs = Vec::new();
            while jobs.len() < count {
                jobs.extend(worker.claim(Provider::Fcm, count - jobs.len()).await.unwrap());
            }
            std::mem::forget(jobs);
        });
        runtime.shutdown_background();
    };
    std::thread::scope(|scope| scope.spawn(dying).join().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_every_worker_is_given_up_and_the_others_are_not() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let gateway = a_gateway("gw", &[&server], 1000, &TaskTracker::new());
    let guilty = a_patient_job();
    let killer = guilty.notification.id;
    let over = AtomicBool::new(false);

    let (innocents, verdict) = std::thread::scope(|scope| {
        // Two workers at any time, each with a new name; whoever gets the guilty job ends.
        for place in 0..2 {
            let (server, over) = (&server, &over);
            scope.spawn(move || {
                for life in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    live_until(server, &format!("w{place}-{life}"), killer, over);
                }
            });
        }
        let asked = async {
            let innocents: Vec<_> = (0..200).map(|_| gateway.submit(a_patient_job())).collect();
            let all = async {
                let mut answers = Vec::new();
                for innocent in innocents {
                    answers.push(innocent.await);
                }
                answers
            };
            tokio::join!(all, gateway.submit(guilty))
        };
        let runtime = tokio::runtime::Handle::current();
        let answers = tokio::task::block_in_place(|| runtime.block_on(asked));
        over.store(true, Ordering::Relaxed);
        answers
    });

    let wronged: Vec<_> = innocents.iter().filter(|answer| **answer != Ok(a_verdict(1))).collect();
    assert!(wronged.is_empty(), "{wronged:?}");
    assert_eq!(verdict, Ok(Verdict::unsent(FailReason::Poison)));
}

#[tokio::test]
async fn a_worker_that_was_away_too_long_sends_nothing_that_it_had_before() {
    let rig = Rig::start(100).await;
    let callers = futures(&rig, 2).await;
    let mut held = claim_all(&rig, 2).await;

    rig.server.admin(cmd("CLIENT").arg("PAUSE").arg(2500).arg("ALL")).await;
    until(|| !rig.worker.is_up()).await;
    assert!(held.iter().all(|claimed| !claimed.may_send()));
    until(|| rig.worker.is_up()).await;

    // It is not its own any more, although nobody else has taken it.
    let one = held.remove(0);
    assert!(!one.may_send() && !held[0].may_send());
    one.abandon();
    held.remove(0).abandon();
    for claimed in claim_all(&rig, 2).await {
        assert!(claimed.may_send());
        claimed.finish(a_verdict(1));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    }
}
