//! `make bench`: what a push costs.
//!
//! Starts the release binary and the simulator as processes of their own, sends from this one, and
//! prints a table and a JSON line: pushes a second, CPU per push of each process, latency, memory,
//! connections to Apple. With `--baseline BINARY` every run is also made with another build, right
//! before, and the ratio is printed. Everything is on loopback, bounded in time, and ends by itself.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod crowd;
mod growth;
mod lanes;
mod scale;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use system_tests::client::{self, Load, Outcome, Status};
use system_tests::cost::{Cpu, rss_mb};
use system_tests::hosted::{Hosted, Size};
use system_tests::process::{self, Process, SimulatorOptions};

const TENANTS: u32 = 100;
const DEVICES: u32 = 100_000;
const WARM_UP: Duration = Duration::from_secs(3);

struct Run {
    name: &'static str,
    platforms: &'static [&'static str],
    connections: usize,
    /// `None`: closed loop.
    per_second: Option<f64>,
    padding: usize,
    delay_ms: u64,
    rtt_ms: u64,
    /// Settings of the iOS apps.
    apns: &'static str,
    /// Habits of the simulated Apple.
    conduct: &'static str,
    /// Whether gateway, worker, lanes and database are processes of their own.
    hosted: bool,
    /// Serving threads of a hosted process; by default it has one a core.
    threads: usize,
}

const CLOSED: Run = Run {
    name: "",
    platforms: &["apple_rn-v2"],
    connections: 64,
    per_second: None,
    padding: 0,
    delay_ms: 0,
    rtt_ms: 0,
    apns: "",
    conduct: "",
    hosted: false,
    threads: 1,
};

/// Makes the body to Apple 1,000 bytes long.
const KILOBYTE: usize = 348;

const FAR: Run = Run { connections: 1024, per_second: Some(4000.0), padding: KILOBYTE, rtt_ms: 80, ..CLOSED };

const RUNS: [Run; 17] = [
    Run { name: "apns, 64 connections", ..CLOSED },
    Run { name: "apns, 256 connections", connections: 256, ..CLOSED },
    Run { name: "apns, 512 connections, 20 ms provider", connections: 512, delay_ms: 20, ..CLOSED },
    Run { name: "fcm, 64 connections", platforms: &["android_rn-v2"], ..CLOSED },
    Run {
        name: "two ios apps and android, 64 connections",
        platforms: &["apple_rn-v2", "apple_rnbeta-v2", "android_rn-v2"],
        ..CLOSED
    },
    Run { name: "apns, open loop, 10,000/s", connections: 256, per_second: Some(10_000.0), ..CLOSED },
    Run {
        name: "fcm, open loop, 5,000/s, 60 ms",
        platforms: &["android_rn-v2"],
        connections: 512,
        per_second: Some(5000.0),
        delay_ms: 60,
        ..CLOSED
    },
    // Flow control: a connection carries what comes back of its 65,535 bytes in a round trip. Where the
    // window is given back by thirds, 4,000/s × 1,000 bytes × 80 ms / 45,000 bytes make 8 connections;
    // where it is given back by halves, / 32,768 makes 10, of which none would be idle for a moment.
    Run {
        name: "apns, 4,000/s, 80 ms RTT, 1 kB, 8 links",
        apns: "max_connections = 4\n",
        conduct: r#""window_refill_bytes":21845"#,
        ..FAR
    },
    Run {
        name: "apns, 4,000/s, 80 ms RTT, 1 kB, 12 links",
        apns: "max_connections = 6\n",
        conduct: r#""window_refill_bytes":32768"#,
        ..FAR
    },
    Run { name: "apns, 4,000/s, 80 ms RTT, 1 kB, by need", ..FAR },
    Run { name: "hosted: apns, 64 connections", hosted: true, ..CLOSED },
    Run { name: "hosted: apns, 256 connections", connections: 256, hosted: true, ..CLOSED },
    Run { name: "hosted: apns, 64 connections, 2 threads", hosted: true, threads: 2, ..CLOSED },
    Run {
        name: "hosted: apns, 256 connections, 2 threads",
        connections: 256,
        hosted: true,
        threads: 2,
        ..CLOSED
    },
    Run {
        name: "hosted: apns, open loop, 10,000/s",
        connections: 256,
        per_second: Some(10_000.0),
        hosted: true,
        ..CLOSED
    },
    Run { name: "apns, open loop, 1,000/s", connections: 256, per_second: Some(1000.0), ..CLOSED },
    Run {
        name: "hosted: apns, open loop, 1,000/s",
        connections: 256,
        per_second: Some(1000.0),
        hosted: true,
        ..CLOSED
    },
];

fn main() -> anyhow::Result<()> {
    let (mut seconds, mut baseline, mut only) = (10, None, None);
    let (mut grows, mut scales) = (false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--baseline" => baseline = arguments.next().map(PathBuf::from),
            "--only" => only = arguments.next(),
            "--growth" => grows = true,
            "--scale" => scales = true,
            text => seconds = text.parse().context("the argument is a number of seconds")?,
        }
    }
    let hpns = std::env::current_exe()?.with_file_name("hpns");
    anyhow::ensure!(hpns.exists(), "build the release binary first: cargo build --release -p hpns");
    if grows {
        return growth::run(&hpns, Duration::from_secs(seconds));
    }
    if scales {
        return very_many(&hpns, baseline.as_deref(), Duration::from_secs(seconds), only.as_deref());
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{TENANTS} tenants, {DEVICES} device tokens, {seconds} s a run, default logging to a file\n"
    )?;
    writeln!(
        out,
        "{:<44} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6}",
        "run", "pushes/s", "hpns µs", "sim µs", "load µs", "p50 ms", "p99 ms", "p99.9", "RSS MB", "links"
    )?;
    let mut lines = Vec::new();
    for run in RUNS.iter().filter(|run| only.as_ref().is_none_or(|part| run.name.contains(part.as_str()))) {
        let time = Duration::from_secs(seconds);
        let measured = |build: &Path| {
            if run.hosted { measure_hosted(build, run, time) } else { measure(build, &hpns, run, time) }
        };
        let before = baseline.as_deref().map(measured).transpose()?;
        let mut line = measured(&hpns)?;
        print_line(&mut out, &line)?;
        if let Some(before) = before {
            let ratio =
                |key: &str| line[key].as_f64().unwrap_or(0.0) / before[key].as_f64().unwrap_or(f64::NAN);
            let (speed, cost, tail) =
                (ratio("pushes_per_second"), ratio("hpns_us_per_push"), ratio("p99_ms"));
            writeln!(
                out,
                "    against the baseline: pushes/s ×{speed:.3}, µs per push ×{cost:.3}, p99 ×{tail:.2}"
            )?;
            line["baseline"] = before;
        }
        lines.push(line);
    }
    writeln!(out, "\n{}", json!({ "cores": std::thread::available_parallelism()?.get(), "runs": lines }))?;
    Ok(())
}

fn print_line(out: &mut impl Write, line: &Value) -> std::io::Result<()> {
    let figure = |key: &str| line[key].as_f64().unwrap_or_default();
    writeln!(
        out,
        "{:<44} {:>9.0} {:>9.1} {:>8.1} {:>8.1} {:>8.2} {:>8.2} {:>8.2} {:>7.1} {:>6}",
        line["name"].as_str().unwrap_or_default(),
        figure("pushes_per_second"),
        figure("hpns_us_per_push"),
        figure("simulator_us_per_push"),
        figure("load_us_per_push"),
        figure("p50_ms"),
        figure("p99_ms"),
        figure("p999_ms"),
        figure("hpns_rss_mb"),
        line["provider_connections"],
    )
}

/// Measures `hpns`; the simulator is always the present build's, so that only one thing differs.
fn measure(hpns: &Path, simulator: &Path, run: &Run, time: Duration) -> anyhow::Result<Value> {
    let directory = tempfile::tempdir()?;
    let options = SimulatorOptions { accept_all: true, delay_ms: run.delay_ms, rtt_ms: run.rtt_ms };
    let simulator = Process::simulator(simulator, directory.path(), &options)?;
    if !run.conduct.is_empty() {
        simulator.ask("POST", "/sim/conduct", &format!(r#"{{"provider":"apns",{}}}"#, run.conduct))?;
    }
    let config = process::config(hpns, directory.path(), &simulator, "", run.apns)?;
    let keys = seed(hpns, &config, TENANTS)?;
    let service = Process::service(hpns, "all", &config, &directory.path().join("hpns.log"))?;
    let load = Load {
        address: service.address,
        prefixes: keys.iter().map(|key| format!("/t/{key}")).collect(),
        platforms: run.platforms.to_vec(),
        devices: DEVICES,
        first: 0,
        connections: run.connections,
        per_second: run.per_second,
        padding: run.padding,
        calls: 0,
    };
    client::run(&load, WARM_UP)?;
    let accepted_before = simulator.stat("accepted")?;
    let before = (Cpu::of(service.id())?, Cpu::of(simulator.id())?, Cpu::of_this_process()?);
    let outcome = client::run(&load, time)?;
    let after = (Cpu::of(service.id())?, Cpu::of(simulator.id())?, Cpu::of_this_process()?);
    let (ok, accepted) = (outcome.count(Status::Ok), simulator.stat("accepted")? - accepted_before);
    let failed = outcome.samples.len() as u64 - ok;
    anyhow::ensure!(failed == 0, "{failed} pushes failed in \"{}\"", run.name);
    anyhow::ensure!(accepted == ok, "{accepted} pushes were accepted, {ok} answered OK");
    let at = |share: f64| outcome.percentile_ms(share, |_| true);
    let each = |before: Cpu, after: Cpu| (after.micros - before.micros) / ok as f64;
    Ok(json!({
        "name": run.name,
        "connections": run.connections,
        "provider_delay_ms": run.delay_ms,
        "provider_rtt_ms": run.rtt_ms,
        "pushes_per_second": per_second(&outcome),
        "hpns_us_per_push": each(before.0, after.0),
        "simulator_us_per_push": each(before.1, after.1),
        "load_us_per_push": each(before.2, after.2),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "hpns_rss_mb": rss_mb(service.id())?,
        "provider_connections": simulator.stat("apns_connections")? + simulator.stat("fcm_connections")?,
    }))
}

/// Measures what very many apps cost, all of it or a part.
fn very_many(hpns: &Path, baseline: Option<&Path>, time: Duration, only: Option<&str>) -> anyhow::Result<()> {
    let chosen = |part| only.is_none_or(|it| it == part);
    if chosen("apps") {
        let before = baseline.map(|build| ("baseline", build));
        let builds: Vec<_> = before.into_iter().chain([("this", hpns)]).collect();
        scale::run(&builds, time)?;
    }
    if chosen("lanes") {
        lanes::run(time)?;
    }
    if chosen("crowd") {
        crowd::run(hpns, time)?;
    }
    Ok(())
}

/// Measures the hosted shape: one gateway, one worker and two lanes; the simulator is of the
/// same build.
fn measure_hosted(hpns: &Path, run: &Run, time: Duration) -> anyhow::Result<Value> {
    let directory = tempfile::tempdir()?;
    let size = Size {
        gateways: 1,
        workers: 1,
        threads: run.threads,
        tenants: 1000,
        simulator: SimulatorOptions { accept_all: true, delay_ms: run.delay_ms, rtt_ms: run.rtt_ms },
        ..Size::default()
    };
    let hosted = Hosted::start(hpns, directory.path(), &size)?;
    let load = Load {
        address: hosted.gateways[0].address,
        prefixes: hosted.prefixes(),
        platforms: run.platforms.to_vec(),
        devices: DEVICES,
        first: 0,
        connections: run.connections,
        per_second: run.per_second,
        padding: run.padding,
        calls: 0,
    };
    client::run(&load, WARM_UP)?;
    let lanes = || hosted.lanes.iter().map(|lane| Cpu::of(lane.id())).sum::<anyhow::Result<Cpu>>();
    let used = || -> anyhow::Result<[Cpu; 5]> {
        let (gateway, worker) = (Cpu::of(hosted.gateways[0].id())?, Cpu::of(hosted.workers[0].id())?);
        Ok([gateway, worker, lanes()?, Cpu::of(hosted.simulator.id())?, Cpu::of_this_process()?])
    };
    let accepted_before = hosted.simulator.stat("accepted")?;
    let before = used()?;
    let outcome = client::run(&load, time)?;
    let after = used()?;
    let (ok, accepted) = (outcome.count(Status::Ok), hosted.simulator.stat("accepted")? - accepted_before);
    let failed = outcome.samples.len() as u64 - ok;
    anyhow::ensure!(failed == 0, "{failed} pushes failed in \"{}\"", run.name);
    anyhow::ensure!(accepted == ok, "{accepted} pushes were accepted, {ok} answered OK");
    let at = |share: f64| outcome.percentile_ms(share, |_| true);
    let each = |part: usize| (after[part].micros - before[part].micros) / ok as f64;
    let memory = rss_mb(hosted.gateways[0].id())? + rss_mb(hosted.workers[0].id())?;
    Ok(json!({
        "name": run.name,
        "connections": run.connections,
        "pushes_per_second": per_second(&outcome),
        "hpns_us_per_push": each(0) + each(1) + each(2),
        "gateway_us_per_push": each(0),
        "worker_us_per_push": each(1),
        "redis_us_per_push": each(2),
        "simulator_us_per_push": each(3),
        "load_us_per_push": each(4),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "hpns_rss_mb": memory,
        "provider_connections": hosted.simulator.stat("apns_connections")?,
    }))
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.samples.len() as f64 / outcome.elapsed.as_secs_f64()
}

/// Makes tenants and returns their keys.
fn seed(hpns: &Path, config: &Path, tenants: u32) -> anyhow::Result<Vec<String>> {
    let arguments = ["seed", "--rate", "1000000", "--tenants", &tenants.to_string(), "--config"];
    let output = Command::new(hpns).args(arguments).arg(config).output()?;
    anyhow::ensure!(output.status.success(), "seed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
