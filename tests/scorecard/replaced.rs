//! Scorecard rows S27 and S28: a push that ends whoever handles it, and rolling deploys.

use std::time::Duration;

use serde_json::Value;
use system_tests::client::{self, Load, Status};
use system_tests::hosted::Size;
use system_tests::process::Process;

use crate::rig::{LATENCY, Outcome, Place, Scale, demand_all_answered, wait};

/// S28: all processes are replaced, one after the other. With another version's binary they become that one first,
/// and then this one again: so both share the lanes and the database, each in both roles, on the way there and back.
pub(crate) fn deploys(scale: &Scale) -> anyhow::Result<Outcome> {
    let rounds = scale.of(2, 20);
    let mut place = Place::start(&Size::default(), LATENCY)?;
    let this = place.hosted.hpns.clone();
    let other = scale.other.as_ref().unwrap_or(&this);
    let load = Load { connections: 200, ..place.load(500.0) };
    let mut codes = Vec::new();
    let sent = place.under(&load, Duration::from_secs(16) * rounds, |hosted, _| {
        for round in 0..rounds {
            (if round % 2 == 0 { other } else { &this }).clone_into(&mut hosted.hpns);
            for _ in 0..2 {
                wait(Duration::from_secs(1));
                hosted.add_worker()?;
                let mut old = hosted.workers.remove(0);
                old.signal("TERM")?;
                codes.push(old.wait()?);
            }
            for _ in 0..2 {
                wait(Duration::from_secs(1));
                hosted.add_gateway()?;
                let mut old = hosted.gateways.remove(0);
                // It is not ready any more, and nobody new comes; then it goes.
                old.signal("TERM")?;
                hosted.balance();
                codes.push(old.wait()?);
            }
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{rounds} times"), &sent)?;
    demand_all_answered(&mut outcome, 0.0);
    outcome.demand(codes.iter().all(|code| *code == Some(0)), format!("processes ended with {codes:?}"));
    let versions = if other == &this { "the same version" } else { "two versions, there and back" };
    outcome.also = format!("{} processes replaced: {versions}", codes.len());
    Ok(outcome)
}

/// S27: pushes that end each worker that sends them, beside others. Each is given up after four workers.
pub(crate) fn poison(scale: &Scale) -> anyhow::Result<Outcome> {
    let rounds: u64 = scale.of(2, 100);
    // A worker's death is noticed after 2 s, and there are four of them.
    let gateway_settings = "budget_ms = 25000\ncall_budget_ms = 25000".to_owned();
    let mut place = Place::start(&Size { workers: 1, gateway_settings, ..Size::default() }, LATENCY)?;
    let (mut killers, mut deaths, mut news) = (Vec::new(), 0, ArrivalCursor::default());
    let load = place.load(200.0);
    let time = Duration::from_secs(17) * u32::try_from(rounds)?;
    let sent = place.under(&load, time, |hosted, _| {
        for round in 0..rounds {
            let killer = Load {
                first: (1 << 40) + 2 * round,
                connections: 1,
                per_second: Some(1.0),
                calls: 0,
                ..load.clone()
            };
            let token = format!("{:064x}", killer.first);
            // The worker ends while it waits for the provider, as it would of the push itself.
            let script = format!(
                r#"{{"token":"{token}","answers":[{{"action":"hang","status":503}}],"repeat":true}}"#
            );
            hosted.simulator.ask("POST", "/sim/script", &script)?;
            let pushed = std::thread::scope(|scope| -> anyhow::Result<client::Outcome> {
                let pushing = scope.spawn(|| client::run(&killer, Duration::from_millis(1)));
                while !pushing.is_finished() {
                    wait(Duration::from_millis(20));
                    if news.holds(&hosted.simulator, &token)? {
                        deaths += 1;
                        hosted.workers[0].signal("KILL")?;
                        hosted.workers.remove(0);
                        hosted.add_worker()?;
                    }
                }
                pushing.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
            })?;
            killers.extend(pushed.samples);
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{rounds} times"), &sent)?;
    let books = outcome.books;
    outcome.demand(books.lost == 0, format!("{} pushes were not answered", books.lost));
    outcome.demand(books.fail == 0, format!("{} innocent pushes failed", books.fail));
    let given_up = killers.iter().filter(|it| it.status == Status::Fail).count() as u64;
    outcome.demand(given_up == rounds, format!("only {given_up} of {rounds} killers were given up"));
    outcome.demand(deaths <= 4 * rounds, format!("{deaths} workers ended for {rounds} pushes"));
    outcome.also = format!("{deaths} workers ended; innocents failed: {}", books.fail);
    Ok(outcome)
}

/// What has arrived at the simulator since the last look.
#[derive(Default)]
struct ArrivalCursor {
    seen: u64,
}

impl ArrivalCursor {
    /// Says whether a push to a device is new there.
    fn holds(&mut self, simulator: &Process, token: &str) -> anyhow::Result<bool> {
        let text = simulator.ask("GET", &format!("/sim/notifications?after={}", self.seen), "")?;
        let arrived: Vec<Value> = serde_json::from_str(&text)?;
        if let Some(last) = arrived.last() {
            self.seen = last["number"].as_u64().unwrap_or(self.seen);
        }
        Ok(arrived.iter().any(|push| push["token"] == token))
    }
}
