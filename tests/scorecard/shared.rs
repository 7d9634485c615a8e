//! Many share the service, and one of them takes more than its share.

use std::time::Duration;

use system_tests::client::{self, Load, Sample, Status};
use system_tests::hosted::Size;

use crate::rig::{Outcome, Place, Scale};

/// How many are quiet, and how often each of them pushes.
const QUIET: u32 = 200;
const QUIET_RATE: f64 = 400.0;

/// What came of the quiet ones, alone and beside the noisy one.
struct Beside {
    before_ms: f64,
    flood: client::Outcome,
    outcome: Outcome,
}

/// Lets the quiet tenants of a place push alone, and then the last one beside them. Each quiet push goes through
/// one of so many connections.
fn beside_a_flood(
    place: &mut Place,
    time: Duration,
    connections: usize,
    flood_connections: usize,
    flood_rate: f64,
) -> anyhow::Result<Beside> {
    let mut prefixes = place.hosted.prefixes();
    let noisy = prefixes.pop().unwrap_or_default();
    let quiet = Load { prefixes, connections, ..place.load(QUIET_RATE) };
    let loud = Load {
        prefixes: vec![noisy],
        first: 1 << 40,
        connections: flood_connections,
        calls: 0,
        ..place.load(flood_rate)
    };
    let calm = place.under(&quiet, time, |_, _| Ok(()))?;
    let quiet = Load { first: 1 << 32, ..quiet };
    let mut flood = client::Outcome::default();
    let beside = place.under(&quiet, time, |_, _| {
        flood = client::run(&loud, time)?;
        Ok(())
    })?;
    let (before_ms, after_ms) = (p99(&calm), p99(&beside));
    let served = beside.count(Status::Ok) as f64 / beside.samples.len() as f64;
    let mut all = calm;
    all.extra_answers += beside.extra_answers + flood.extra_answers;
    all.samples.extend(beside.samples.iter().chain(&flood.samples));
    let mut outcome = place.reconcile(format!("2 × {} s", time.as_secs()), &all)?;
    let percent = served * 100.0;
    outcome.demand(served >= 0.999, format!("only {percent:.2} % of the quiet were served"));
    let bound = (before_ms * 2.0).max(before_ms + 20.0);
    outcome.demand(after_ms <= bound, format!("their p99 rose to {after_ms:.0} ms"));
    outcome.demand(outcome.books.lost == 0, "pushes were not answered");
    outcome.also = format!("quiet: {percent:.2} % served, p99 {before_ms:.0} → {after_ms:.0} ms; noisy: ");
    Ok(Beside { before_ms, flood, outcome })
}

/// S13: one tenant offers ten times what its licence allows, which is much; the others notice nothing.
pub(crate) fn noisy_tenant(scale: &Scale) -> anyhow::Result<Outcome> {
    let time = Duration::from_secs(scale.of(60, 600));
    let size = Size { tenants: QUIET + 1, rate: 500, ..Size::default() };
    let mut place = Place::start(&size, r#"{"p50_ms":20,"p95_ms":40}"#)?;
    let Beside { flood, mut outcome, .. } = beside_a_flood(&mut place, time, 400, 600, 5000.0)?;
    let offered = flood.samples.len() as f64 / time.as_secs_f64();
    outcome.demand(offered > 4500.0, format!("the noisy one offered only {offered:.0}/s"));
    outcome.also = format!("{}{} served", outcome.also, flood.count(Status::Ok));
    Ok(outcome)
}

/// The same without a licence's limit, with more than the providers' answers leave room for: so pushes wait,
/// and only the order in which they go keeps the quiet ones well.
pub(crate) fn crowded(scale: &Scale) -> anyhow::Result<Outcome> {
    let time = Duration::from_secs(scale.of(30, 300));
    let gateway_settings = "connections_per_address = 20000".to_owned();
    let size = Size { tenants: QUIET + 1, gateway_settings, ..Size::default() };
    let mut place = Place::start(&size, r#"{"p50_ms":500,"p95_ms":600}"#)?;
    let Beside { before_ms, flood, mut outcome, .. } = beside_a_flood(&mut place, time, 600, 3000, 2500.0)?;
    let waited = flood.percentile_ms(0.5, |_| true);
    outcome.demand(waited > before_ms, "the noisy one did not wait: there was room for all");
    let per_second = flood.count(Status::Ok) as f64 / time.as_secs_f64();
    outcome.also = format!("{}{per_second:.0}/s served, half of them after {waited:.0} ms", outcome.also);
    Ok(outcome)
}

fn p99(outcome: &client::Outcome) -> f64 {
    outcome.percentile_ms(0.99, |sample: &Sample| sample.at > Duration::from_secs(1))
}

/// A flood of messages beside calls: calls have their own way everywhere.
pub(crate) fn calls_in_a_flood(scale: &Scale) -> anyhow::Result<Outcome> {
    let time = Duration::from_secs(scale.of(15, 120));
    // More messages than the providers' answers leave room for: so they wait.
    let gateway_settings = "connections_per_address = 20000".to_owned();
    let size = Size { tenants: 2, gateway_settings, ..Size::default() };
    let mut place = Place::start(&size, r#"{"p50_ms":250,"p95_ms":300}"#)?;
    let prefixes = place.hosted.prefixes();
    let calls = Load { prefixes: vec![prefixes[0].clone()], connections: 100, calls: 1, ..place.load(50.0) };
    let flood =
        Load { prefixes: vec![prefixes[1].clone()], first: 1 << 40, connections: 2000, ..place.load(3000.0) };
    let calm = place.under(&calls, time, |_, _| Ok(()))?;
    let calls = Load { first: 1 << 32, ..calls };
    let mut messages = client::Outcome::default();
    let beside = place.under(&calls, time, |_, _| {
        messages = client::run(&flood, time)?;
        Ok(())
    })?;
    let (before, after) = (p99(&calm), p99(&beside));
    let failed = beside.samples.len() as u64 - beside.count(Status::Ok);
    let per_second = messages.samples.len() as f64 / time.as_secs_f64();
    let mut all = calm;
    all.samples.extend(beside.samples.iter().chain(&messages.samples));
    let mut outcome = place.reconcile(format!("2 × {} s", time.as_secs()), &all)?;
    outcome.demand(failed == 0, format!("{failed} calls failed"));
    outcome.demand(after <= (before * 2.0).max(before + 20.0), format!("their p99 rose to {after:.0} ms"));
    outcome.also = format!("calls: p99 {before:.0} → {after:.0} ms beside {per_second:.0} messages/s");
    Ok(outcome)
}
