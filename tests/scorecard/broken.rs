//! Scorecard rows S4 to S11: processes, lanes and connections fail while pushes come in.

use std::time::Duration;

use system_tests::client::{self, Sample, Status};
use system_tests::hosted::{Hosted, Size};
use system_tests::proxy::Fault;
use tokio::time::Instant;

use crate::rig::{CONNECTIONS, LATENCY, Outcome, Place, Random, Scale, demand_all_answered, wait};

/// The budget of a push, and a little for the way.
const BUDGET_MS: f64 = 10_300.0;

/// S4: a worker is killed every 7 s, and another one takes its place. What it had sent without a verdict, some 3 of
/// its pushes, arrives again: so the share of duplicates is half the providers' time divided by these 7 s.
pub(crate) fn workers_killed(scale: &Scale) -> anyhow::Result<Outcome> {
    let kills = scale.of(20, 200);
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let every = Duration::from_secs(7);
    let load = place.load(300.0);
    let sent = place.under(&load, every * (kills + 2), |hosted, _| {
        for number in 0..kills {
            wait(every);
            let victim = number as usize % hosted.workers.len();
            hosted.workers[victim].signal("KILL")?;
            hosted.workers.remove(victim);
            hosted.add_worker()?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{kills} times"), &sent)?;
    demand_all_answered(&mut outcome, 0.002);
    outcome.demand(outcome.times_ms[2] <= 5000.0, "a push took longer than 5 s");
    Ok(outcome)
}

/// S5: a lane is killed, and comes back empty.
pub(crate) fn lanes_killed(scale: &Scale) -> anyhow::Result<Outcome> {
    let kills = scale.of(10, 100);
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let every = Duration::from_millis(2500);
    let load = place.load(300.0);
    let mut random = Random::new(5);
    let sent = place.under(&load, every * (kills + 2), |hosted, _| {
        for number in 0..kills {
            wait(every.saturating_sub(Duration::from_millis(500)));
            let lane = &mut hosted.lanes[number as usize % 2];
            lane.kill()?;
            wait(Duration::from_millis(50 + random.below(750)));
            lane.start_again()?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{kills} times"), &sent)?;
    demand_all_answered(&mut outcome, 0.05);
    outcome.demand(outcome.times_ms[2] <= BUDGET_MS, "a push took longer than its budget");
    Ok(outcome)
}

/// S6: a gateway is killed. Its open requests break off; nothing is answered that is not true.
pub(crate) fn gateways_killed(scale: &Scale) -> anyhow::Result<Outcome> {
    let kills = scale.of(5, 50);
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let every = Duration::from_millis(2500);
    let load = place.load(300.0);
    let (mut killed, began) = (Vec::new(), Instant::now());
    let sent = place.under(&load, every * (kills + 1), |hosted, _| {
        for _ in 0..kills {
            wait(every);
            killed.push(began.elapsed());
            hosted.gateways[0].signal("KILL")?;
            hosted.gateways.remove(0);
            hosted.balance();
            hosted.add_gateway()?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{kills} times"), &sent)?;
    let books = outcome.books;
    outcome.demand(books.ok + books.lost == books.sent, format!("{} pushes failed", books.fail));
    // Those that were open at the moment of a kill; the load began a moment after the watch.
    let around = Duration::from_millis(300);
    let open = |it: &Sample| killed.iter().any(|at| it.at <= *at + around && it.at + it.took + around >= *at);
    let astray = sent.samples.iter().filter(|it| it.status == Status::Lost && !open(it)).count();
    outcome.demand(
        astray == 0,
        format!("{astray} requests broke off that were not open when a gateway was killed"),
    );
    outcome.demand(books.duplicates == 0, format!("{} pushes arrived twice", books.duplicates));
    // What belonged to a gateway that is gone is forgotten.
    let kept = Instant::now() + Duration::from_mins(1);
    let left = |hosted: &Hosted| -> anyhow::Result<usize> {
        let mut left = 0;
        for lane in &hosted.lanes {
            left = left.max(lane.ask(&["KEYS", "hpns:r:*"])?.lines().filter(|key| !key.is_empty()).count());
            left += lane.ask(&["KEYS", "hpns:g:*"])?.lines().filter(|key| !key.is_empty()).count();
        }
        Ok(left)
    };
    while left(&place.hosted)? > 2 && Instant::now() < kept {
        wait(Duration::from_secs(1));
    }
    outcome.demand(left(&place.hosted)? <= 2, "a gateway that is gone is remembered for more than 60 s");
    outcome.also = format!("{} requests broke off", books.lost);
    Ok(outcome)
}

/// S7: a process stands still, and goes on.
pub(crate) fn paused(scale: &Scale) -> anyhow::Result<Outcome> {
    let rounds = scale.of(1, 17);
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let pauses = [1, 4, 10].map(Duration::from_secs);
    let gap = Duration::from_secs(3);
    let time = (pauses.iter().sum::<Duration>() + gap * 3) * 3 * rounds + Duration::from_secs(5);
    let load = place.load(200.0);
    let (mut standstills, began) = (Vec::new(), Instant::now());
    let sent = place.under(&load, time, |hosted, _| {
        for _ in 0..rounds {
            for pause in pauses {
                let gateway = hosted.gateways[0].id();
                for victim in [hosted.workers[0].id(), gateway, hosted.lanes[0].id()] {
                    wait(gap);
                    if victim == gateway {
                        standstills.push((began.elapsed(), began.elapsed() + pause));
                    }
                    signal(victim, "STOP")?;
                    wait(pause);
                    signal(victim, "CONT")?;
                }
            }
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{} times", 9 * rounds), &sent)?;
    let books = outcome.books;
    outcome.demand(books.lost == 0, format!("{} pushes were not answered", books.lost));
    // Only a gateway that stands still may answer too late, and only what it had then.
    let around = Duration::from_millis(500);
    let stood = |it: &Sample| {
        standstills.iter().any(|(from, to)| it.at <= *to + around && it.at + it.took + around >= *from)
    };
    let failed = sent.samples.iter().filter(|it| it.status != Status::Ok && !stood(it)).count();
    outcome.demand(failed == 0, format!("{failed} pushes failed that no gateway had while it stood still"));
    let share = books.duplicates as f64 / books.sent as f64;
    outcome.demand(share <= 0.02, format!("{} pushes arrived twice", books.duplicates));
    outcome.also = format!("{} failed", books.fail);
    Ok(outcome)
}

fn signal(process: u32, name: &str) -> anyhow::Result<()> {
    let sent = std::process::Command::new("kill").args(["-s", name, &process.to_string()]).status()?;
    anyhow::ensure!(sent.success(), "no signal to {process}");
    Ok(())
}

/// S8: what is between the processes and the lanes misbehaves.
pub(crate) fn connections(scale: &Scale) -> anyhow::Result<Outcome> {
    let faults = scale.of(30, 500);
    let mut place = Place::start(&Size { proxies: true, ..Size::default() }, LATENCY)?;
    let every = Duration::from_secs(2);
    let load = place.load(200.0);
    let mut random = Random::new(8);
    let sent = place.under(&load, every * (faults + 2), |hosted, _| {
        for _ in 0..faults {
            let lane = usize::try_from(random.below(2))?;
            let proxy = &hosted.proxies[lane];
            match random.below(5) {
                0 => proxy.cut(),
                4 => {
                    let replies = hosted.lanes[lane].ask(&["KEYS", "hpns:r:*"])?;
                    for stream in replies.lines().filter(|key| !key.is_empty()) {
                        hosted.lanes[lane].ask(&["DEL", stream])?;
                    }
                }
                1 => proxy.misbehave(Fault::Delay(Duration::from_millis(200))),
                2 => proxy.misbehave(Fault::Slice(7)),
                _ => proxy.misbehave(Fault::Blackhole),
            }
            wait(every / 2);
            proxy.misbehave(Fault::None);
            wait(every / 2);
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{faults} times"), &sent)?;
    demand_all_answered(&mut outcome, 0.05);
    outcome.demand(outcome.times_ms[2] <= BUDGET_MS, "a push took longer than its budget");
    Ok(outcome)
}

/// S9: one lane is gone for long, then both are.
pub(crate) fn lanes_down(scale: &Scale) -> anyhow::Result<Outcome> {
    let (calm, one, both) = (
        Duration::from_secs(5),
        Duration::from_secs(scale.of(15, 600)),
        Duration::from_secs(scale.of(8, 60)),
    );
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let time = calm + one + calm + both + calm;
    let load = place.load(200.0);
    let sent = place.under(&load, time, |hosted, _| {
        wait(calm);
        hosted.lanes[0].kill()?;
        wait(one);
        hosted.lanes[0].start_again()?;
        wait(calm);
        for lane in &mut hosted.lanes {
            lane.kill()?;
        }
        wait(both);
        for lane in &mut hosted.lanes {
            lane.start_again()?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{} + {} s", one.as_secs(), both.as_secs()), &sent)?;
    let second = Duration::from_secs(1);
    let between = |from: Duration, to: Duration| move |it: &Sample| it.at >= from && it.at < to;
    let usual = sent.percentile_ms(0.99, between(second, calm));
    let alone = sent.percentile_ms(0.99, between(calm + second, calm + one));
    outcome.demand(alone <= (usual * 2.0).max(usual + 20.0), format!("with one lane p99 is {alone:.0} ms"));
    // What was handed over before the lanes went is answered when they are back, or when its time is over.
    let dark = calm + one + calm;
    let in_the_dark = between(dark + second, dark + both.saturating_sub(second));
    // A connection of the load that still waits for a push from before sends its next one late.
    let held: Vec<_> =
        sent.samples.iter().filter(|it| it.at < dark + second && it.at + it.took > dark + second).collect();
    let on_time =
        |it: &Sample| !held.iter().any(|other| other.number % CONNECTIONS == it.number % CONNECTIONS);
    let told = |it: &Sample| in_the_dark(it) && on_time(it);
    let refused = sent.percentile_ms(1.0, told);
    outcome.demand(refused <= 1100.0, format!("without lanes an answer took {refused:.0} ms"));
    let in_vain = sent.samples.iter().filter(|it| told(it) && it.status == Status::Unsent).count();
    outcome.demand(in_vain > 100, "hardly anything was refused without lanes");
    let one_down = |it: &Sample| it.at + second < dark && it.status != Status::Ok;
    let failed = sent.samples.iter().filter(|it| one_down(it)).count();
    outcome.demand(failed == 0, format!("{failed} pushes failed while one lane was up"));
    let late = |it: &Sample| it.at >= dark + both + Duration::from_secs(2) && it.status != Status::Ok;
    let late = sent.samples.iter().filter(|it| late(it)).count();
    outcome.demand(late == 0, format!("{late} pushes failed after the lanes were back"));
    outcome.demand(outcome.books.lost == 0, "pushes were not answered");
    outcome.also = format!("p99 {usual:.0} → {alone:.0} ms; FAIL in {refused:.0} ms");
    Ok(outcome)
}

/// S10: a lane is at its memory limit: it takes nothing new, and lets out what it has.
pub(crate) fn full(scale: &Scale) -> anyhow::Result<Outcome> {
    let cycles = scale.of(10, 100);
    // Slow providers: so there is something in the lanes when they are full.
    let mut place = Place::start(&Size::default(), r#"{"p50_ms":300,"p95_ms":500}"#)?;
    let (filled, free) = (Duration::from_secs(2), Duration::from_secs(1));
    let load = place.load(200.0);
    let sent = place.under(&load, (filled + free) * cycles + free * 2, |hosted, _| {
        let limit = |hosted: &Hosted, bytes: &str| -> anyhow::Result<()> {
            for lane in &hosted.lanes {
                anyhow::ensure!(lane.ask(&["CONFIG", "SET", "maxmemory", bytes])? == "OK", "no limit");
            }
            Ok(())
        };
        for _ in 0..cycles {
            wait(free);
            limit(hosted, "1")?;
            wait(filled);
            limit(hosted, "512mb")?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{cycles} times"), &sent)?;
    let books = outcome.books;
    outcome.demand(books.lost == 0, format!("{} pushes were not answered", books.lost));
    outcome.demand(books.fail > 0, "the lanes were never full");
    let told = sent.count(Status::Unsent);
    outcome.demand(books.fail == told, format!("{} pushes failed for another reason", books.fail - told));
    let last = sent.samples.iter().filter(|it| it.at > (filled + free) * cycles + free).collect::<Vec<_>>();
    outcome.demand(last.iter().all(|it| it.status == Status::Ok), "pushes failed when there was room again");
    outcome.also = format!("{} refused", books.fail);
    Ok(outcome)
}

/// S11: the database is away. Who is known goes on; who is not is not called a stranger.
pub(crate) fn no_database(scale: &Scale) -> anyhow::Result<Outcome> {
    let away = Duration::from_mins(scale.of(1, 15));
    let mut place = Place::start(&Size { tenants: 50, ..Size::default() }, LATENCY)?;
    let load = place.load(500.0);
    let mut strangers = Vec::new();
    let mut resynced = Duration::MAX;
    let sent = place.under(&load, away + Duration::from_secs(10), |hosted, _| {
        wait(Duration::from_secs(2));
        hosted.postgres.stop()?;
        wait(away / 2);
        // A key as it could have been sold a moment ago in another place.
        let mut unknown = hosted.keys[0].clone().into_bytes();
        unknown[10] = if unknown[10] == b'x' { b'y' } else { b'x' };
        strangers = client::answers(hosted.balancer.address, &with_check_sum(&unknown), 5)?;
        wait(away / 2);
        hosted.postgres.start_again()?;
        let back = Instant::now();
        let key = hosted.seed(1000)?;
        // What is asked with it is in nobody's books: a push that no phone of the load's gets.
        while resynced == Duration::MAX && back.elapsed() < Duration::from_secs(20) {
            if client::answers(hosted.balancer.address, &key, 1)?.iter().all(|it| it.contains("OK")) {
                resynced = back.elapsed();
            }
            wait(Duration::from_millis(50));
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{} min", away.as_secs() / 60), &sent)?;
    demand_all_answered(&mut outcome, 0.0);
    let honest = strangers.iter().all(|answer| answer.contains("unavailable"));
    outcome.demand(honest, format!("an unknown key was told {strangers:?}"));
    outcome.demand(resynced <= Duration::from_secs(5), format!("a new licence took {resynced:?}"));
    outcome.also = format!("a new licence counts after {:.1} s", resynced.as_secs_f64());
    Ok(outcome)
}

/// Gives a key the check sum that it needs to be looked up at all.
pub(crate) fn with_check_sum(key: &[u8]) -> String {
    let body = &key[..key.len() - 6];
    let alphabet: Vec<u8> = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect();
    let mut number = crc32fast::hash(body) as usize;
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = alphabet[number % 62];
        number /= 62;
    }
    String::from_utf8_lossy(&[body, &digits].concat()).into_owned()
}
