//! Scorecard rows S13: fairness between tenants when one takes more than its share.

use std::time::Duration;

use system_tests::client::{self, Load, Sample, Status};
use system_tests::hosted::Size;

use crate::rig::{Outcome, Place, Scale};

/// How many are quiet, and how often each of them pushes.
const QUIET: u32 = 200;
const QUIET_RATE: f64 = 400.0;
/// The same where less is to be had.
const LITTLE_RATE: f64 = 160.0;

/// For so long a row's start is not looked at.
const SETTLED: Duration = Duration::from_secs(1);

/// What came of the quiet ones, alone and beside the noisy one.
struct Comparison {
    /// The p50 and p99 of the quiet ones alone, in milliseconds.
    before: [f64; 2],
    /// The same beside the noisy one.
    after: [f64; 2],
    flood: client::Outcome,
    outcome: Outcome,
}

/// How the quiet ones and the noisy one push.
struct Pushes {
    platforms: &'static [&'static str],
    quiet_rate: f64,
    /// Each quiet push goes through one of so many connections.
    connections: usize,
    flood_connections: usize,
    flood_rate: f64,
}

const ALL: &[&str] = &["apple_rn-v2", "android_rn-v2"];

/// Lets the quiet tenants of a place push alone, and then the last one beside them.
fn beside_a_flood(place: &mut Place, time: Duration, pushes: &Pushes) -> anyhow::Result<Comparison> {
    let mut prefixes = place.hosted.prefixes();
    let noisy = prefixes.pop().unwrap_or_default();
    let platforms = pushes.platforms.to_vec();
    let quiet = Load {
        prefixes,
        connections: pushes.connections,
        platforms: platforms.clone(),
        ..place.load(pushes.quiet_rate)
    };
    let loud = Load {
        prefixes: vec![noisy],
        first: 1 << 40,
        connections: pushes.flood_connections,
        calls: 0,
        platforms,
        ..place.load(pushes.flood_rate)
    };
    let calm = place.under(&quiet, time, |_, _| Ok(()))?;
    let quiet = Load { first: 1 << 32, ..quiet };
    let mut flood = client::Outcome::default();
    let beside = place.under(&quiet, time, |_, _| {
        flood = client::run(&loud, time)?;
        Ok(())
    })?;
    let (before, after) = (quantiles(&calm), quantiles(&beside));
    let served = beside.count(Status::Ok) as f64 / beside.samples.len() as f64;
    let mut all = calm;
    all.extra_answers += beside.extra_answers + flood.extra_answers;
    all.samples.extend(beside.samples.iter().chain(&flood.samples));
    let mut outcome = place.reconcile(format!("2 × {} s", time.as_secs()), &all)?;
    let percent = served * 100.0;
    outcome.demand(served >= 0.999, format!("only {percent:.2} % of the quiet were served"));
    let bound = (before[1] * 2.0).max(before[1] + 20.0);
    outcome.demand(after[1] <= bound, format!("their p99 rose to {:.0} ms", after[1]));
    outcome.demand(outcome.books.lost == 0, "pushes were not answered");
    let [[p50, p99], [p50_after, p99_after]] = [before, after];
    outcome.also = format!(
        "quiet: {percent:.2} % served, p50 {p50:.0} → {p50_after:.0} ms, p99 {p99:.0} → {p99_after:.0} ms; noisy: "
    );
    Ok(Comparison { before, after, flood, outcome })
}

/// S13: one tenant offers ten times what its licence allows, which is much; the others notice nothing.
pub(crate) fn noisy_tenant(scale: &Scale) -> anyhow::Result<Outcome> {
    let time = Duration::from_secs(scale.of(60, 600));
    let size = Size { tenants: QUIET + 1, rate: 500, ..Size::default() };
    let mut place = Place::start(&size, r#"{"p50_ms":20,"p95_ms":40}"#)?;
    let pushes = Pushes {
        platforms: ALL,
        quiet_rate: QUIET_RATE,
        connections: 400,
        flood_connections: 600,
        flood_rate: 5000.0,
    };
    let Comparison { flood, mut outcome, .. } = beside_a_flood(&mut place, time, &pushes)?;
    let offered = flood.samples.len() as f64 / time.as_secs_f64();
    outcome.demand(offered > 4500.0, format!("the noisy one offered only {offered:.0}/s"));
    outcome.also = format!("{}{} served", outcome.also, flood.count(Status::Ok));
    Ok(outcome)
}

/// The same without a licence's limit, with more than the providers' answers leave room for: so pushes wait,
/// and only the order in which they go keeps the quiet ones well.
pub(crate) fn crowded(scale: &Scale) -> anyhow::Result<Outcome> {
    let pushes = Pushes {
        platforms: ALL,
        quiet_rate: QUIET_RATE,
        connections: 600,
        flood_connections: 3000,
        flood_rate: 2500.0,
    };
    crowd(scale, Size::default(), r#"{"p50_ms":500,"p95_ms":600}"#, &pushes)
}

/// The same with twenty threads of gateways that do not know of each other, and workers that have little room.
pub(crate) fn crowded_by_twenty(scale: &Scale) -> anyhow::Result<Outcome> {
    let settings = "[worker]\nslots = 32\n".to_owned();
    let size = Size { gateways: 5, threads: 4, settings, ..Size::default() };
    let pushes = Pushes {
        platforms: &ALL[..1],
        quiet_rate: LITTLE_RATE,
        connections: 600,
        flood_connections: 3000,
        flood_rate: 1200.0,
    };
    crowd(scale, size, r#"{"p50_ms":250,"p95_ms":300}"#, &pushes)
}

fn crowd(scale: &Scale, size: Size, latency: &str, pushes: &Pushes) -> anyhow::Result<Outcome> {
    let time = Duration::from_secs(scale.of(30, 300));
    let gateway_settings = "connections_per_address = 20000".to_owned();
    let mut place = Place::start(&Size { tenants: QUIET + 1, gateway_settings, ..size }, latency)?;
    let Comparison { before, after, flood, mut outcome } = beside_a_flood(&mut place, time, pushes)?;
    let [before, after] = [before, after].map(|times| times[0]);
    outcome.demand(after <= before * 2.0, format!("their p50 rose from {before:.0} to {after:.0} ms"));
    let waited = flood.percentile_ms(0.5, |_| true);
    outcome.demand(waited > after, "the noisy one did not wait: there was room for all");
    let per_second = flood.count(Status::Ok) as f64 / time.as_secs_f64();
    outcome.also = format!("{}{per_second:.0}/s served, half of them after {waited:.0} ms", outcome.also);
    Ok(outcome)
}

fn p99(outcome: &client::Outcome) -> f64 {
    quantiles(outcome)[1]
}

/// The p50 and p99, in milliseconds.
fn quantiles(outcome: &client::Outcome) -> [f64; 2] {
    [0.5, 0.99].map(|part| outcome.percentile_ms(part, |sample: &Sample| sample.at > SETTLED))
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
