//! `make bench`: what a push costs.
//!
//! Starts the release binary and the simulator as processes of their own, sends from this one, and
//! prints a table and a JSON line for each run: pushes a second, CPU per push of each process,
//! latency, memory. Everything is on loopback, bounded in time, and ends by itself.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod client;
mod process;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::client::{Load, Outcome};
use crate::process::{Cpu, Process};

const TENANTS: u32 = 100;
const TOKENS: u32 = 100_000;
const WARM_UP: Duration = Duration::from_secs(3);

struct Run {
    name: &'static str,
    platform: &'static str,
    connections: usize,
    provider_delay_ms: u64,
}

const RUNS: [Run; 4] = [
    Run { name: "apns, 64 connections", platform: "apple_rn-v2", connections: 64, provider_delay_ms: 0 },
    Run { name: "apns, 256 connections", platform: "apple_rn-v2", connections: 256, provider_delay_ms: 0 },
    Run {
        name: "apns, 512 connections, 20 ms provider",
        platform: "apple_rn-v2",
        connections: 512,
        provider_delay_ms: 20,
    },
    Run { name: "fcm, 64 connections", platform: "android_rn-v2", connections: 64, provider_delay_ms: 0 },
];

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())
        .context("the argument is a number of seconds")?;
    let hpns = std::env::current_exe()?.with_file_name("hpns");
    anyhow::ensure!(hpns.exists(), "build the release binary first: cargo build --release -p hpns");
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{TENANTS} tenants, {TOKENS} device tokens, {seconds} s a run, default logging to a file\n"
    )?;
    writeln!(
        out,
        "{:<40} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6}",
        "run", "pushes/s", "hpns µs", "sim µs", "load µs", "p50 ms", "p99 ms", "p99.9", "RSS MB", "FAIL"
    )?;
    let mut lines = Vec::new();
    for run in &RUNS {
        let line = measure(&hpns, run, Duration::from_secs(seconds))?;
        writeln!(
            out,
            "{:<40} {:>9.0} {:>9.1} {:>8.1} {:>8.1} {:>8.2} {:>8.2} {:>8.2} {:>7.1} {:>6}",
            run.name,
            line["pushes_per_second"].as_f64().unwrap_or_default(),
            line["hpns_us_per_push"].as_f64().unwrap_or_default(),
            line["simulator_us_per_push"].as_f64().unwrap_or_default(),
            line["load_us_per_push"].as_f64().unwrap_or_default(),
            line["p50_ms"].as_f64().unwrap_or_default(),
            line["p99_ms"].as_f64().unwrap_or_default(),
            line["p999_ms"].as_f64().unwrap_or_default(),
            line["hpns_rss_mb"].as_f64().unwrap_or_default(),
            line["failed"],
        )?;
        lines.push(line);
    }
    writeln!(out, "\n{}", json!({ "cores": std::thread::available_parallelism()?.get(), "runs": lines }))?;
    Ok(())
}

fn measure(hpns: &Path, run: &Run, time: Duration) -> anyhow::Result<serde_json::Value> {
    let directory = tempfile::tempdir()?;
    let simulator = Process::simulator(hpns, directory.path(), run.provider_delay_ms)?;
    let config = process::config(directory.path(), &simulator)?;
    let keys = process::seed(hpns, &config, TENANTS)?;
    let service = Process::service(hpns, &config, directory.path())?;
    let load = Load {
        address: service.address,
        keys,
        platform: run.platform,
        tokens: TOKENS,
        connections: run.connections,
    };
    client::run(&load, WARM_UP)?;
    let accepted_before = simulator.accepted()?;
    let before = (service.cpu()?, simulator.cpu()?, Cpu::of_this_process()?);
    let Outcome { mut latencies_us, failed, elapsed } = client::run(&load, time)?;
    let after = (service.cpu()?, simulator.cpu()?, Cpu::of_this_process()?);
    let accepted = simulator.accepted()? - accepted_before;
    anyhow::ensure!(failed == 0, "{failed} pushes failed");
    anyhow::ensure!(
        accepted == latencies_us.len() as u64,
        "{accepted} pushes were accepted, {} answered OK",
        latencies_us.len()
    );
    latencies_us.sort_unstable();
    let pushes = latencies_us.len() as f64;
    let at = |share: f64| {
        let index = (share * (pushes - 1.0)) as usize;
        latencies_us.get(index).map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    let each = |before: Cpu, after: Cpu| (after.micros - before.micros) / pushes;
    Ok(json!({
        "name": run.name,
        "connections": run.connections,
        "provider_delay_ms": run.provider_delay_ms,
        "pushes_per_second": pushes / elapsed.as_secs_f64(),
        "hpns_us_per_push": each(before.0, after.0),
        "simulator_us_per_push": each(before.1, after.1),
        "load_us_per_push": each(before.2, after.2),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "hpns_rss_mb": service.rss_mb()?,
        "failed": failed,
    }))
}
