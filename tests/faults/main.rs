//! `make faults`: what each provider fault costs, as a table.
//!
//! For every fault and provider: a service and a simulator of their own, a steady open-loop load to both
//! providers, 2 s of calm, 3 s of the fault (one lasts longer), 12 s after it. Then both ledgers are compared. A cell
//! is run three times, and latencies are the median of three. The run fails if a push is lost, if an
//! answer is not true, if a push arrives twice that should not, if the other provider suffers, or if the
//! service does not recover.

mod faults;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use system_tests::client::{self, Load, Outcome, Sample, Status};
use system_tests::process::{self, Process, SimulatorOptions};
use tokio::time::Instant;

use crate::faults::{FAULTS, Fault, Provider};

const CALM: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(12);
/// A provider that answers no push well is left alone after so long, and back after so long.
const OPENS: Duration = Duration::from_secs(2);
const CLOSES: Duration = Duration::from_secs(10);
/// Less than what any answer of the providers takes.
const NOT_TRIED: Duration = Duration::from_millis(4);
/// At the end of which all has to be well again.
const LAST: Duration = Duration::from_secs(1);
const PER_SECOND: f64 = 100.0;
/// An open loop needs a free connection at every moment; a push may take 10 s.
const CONNECTIONS: usize = 1100;
const REPEATS: usize = 3;
/// Cells that run side by side; the load of one is small.
const LANES: usize = 5;
/// How long both providers' answers take, so that requests are open when a fault comes.
const LATENCY: &str = r#""latency":{"p50_ms":10,"p95_ms":30}"#;

/// What came of one run.
#[derive(Clone, Default)]
struct Cell {
    sent: u64,
    ok: u64,
    remove: u64,
    fail: u64,
    lost: u64,
    duplicates: u64,
    untrue: u64,
    /// Pushes that arrived and were not answered `OK`.
    unanswered: u64,
    other_not_ok: u64,
    not_ok_at_last: u64,
    other_calm_p99_ms: f64,
    other_p99_ms: f64,
    /// How long after its beginning the first push was refused without being tried.
    opened: Option<Duration>,
    recovery: Duration,
}

fn main() -> anyhow::Result<()> {
    let only = std::env::args().nth(1);
    let hpns = std::env::current_exe()?.with_file_name("hpns");
    let chosen: Vec<_> = FAULTS
        .iter()
        .flat_map(|fault| [Provider::Apple, Provider::Google].map(|provider| (fault, provider)))
        .filter(|(fault, provider)| fault.hits(*provider))
        .filter(|(fault, _)| only.as_ref().is_none_or(|part| fault.name.contains(part.as_str())))
        .collect();
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(vec![Vec::new(); chosen.len()]));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        let Some((fault, provider)) = chosen.get(turn / REPEATS) else { return Ok(()) };
                        let cell = run(&hpns, fault, *provider)?;
                        let mut cells = cells.lock().map_err(|_| anyhow::anyhow!("a lane panicked"))?;
                        cells[turn / REPEATS].push(cell);
                    }
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?)
    })?;
    let cells = cells.into_inner().map_err(|_| anyhow::anyhow!("a lane panicked"))?;
    report(&chosen, &cells)
}

/// Prints the table, and fails if a promise is broken.
fn report(chosen: &[(&Fault, Provider)], cells: &[Vec<Cell>]) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| fault | provider | sent | OK | REMOVE | FAIL | lost | duplicates | other p99, calm → fault, ms | refused after | recovery |"
    )?;
    writeln!(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for ((fault, provider), runs) in chosen.iter().zip(cells) {
        let (cell, provider) = (middle(runs), provider.label());
        writeln!(
            out,
            "| {} | {provider} | {} | {} | {} | {} | {} | {} | {:.1} → {:.1} | {} | {:.1} s |",
            fault.name,
            cell.sent,
            cell.ok,
            cell.remove,
            cell.fail,
            cell.lost,
            cell.duplicates,
            cell.other_calm_p99_ms,
            cell.other_p99_ms,
            cell.opened.map_or_else(|| "–".into(), |after| format!("{:.1} s", after.as_secs_f64())),
            cell.recovery.as_secs_f64(),
        )?;
        broken.extend(
            cell.complaints(fault).into_iter().map(|text| format!("{} / {provider}: {text}", fault.name)),
        );
    }
    for complaint in &broken {
        writeln!(std::io::stderr(), "BROKEN {complaint}")?;
    }
    anyhow::ensure!(broken.is_empty(), "{} promises are broken", broken.len());
    Ok(())
}

/// The sum of all runs, with the median of what is judged by time.
fn middle(runs: &[Cell]) -> Cell {
    let sum = |of: fn(&Cell) -> u64| runs.iter().map(of).sum();
    let median = |of: fn(&Cell) -> f64| {
        let mut values: Vec<_> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Cell {
        sent: sum(|cell| cell.sent),
        ok: sum(|cell| cell.ok),
        remove: sum(|cell| cell.remove),
        fail: sum(|cell| cell.fail),
        lost: sum(|cell| cell.lost),
        duplicates: sum(|cell| cell.duplicates),
        untrue: sum(|cell| cell.untrue),
        unanswered: sum(|cell| cell.unanswered),
        other_not_ok: sum(|cell| cell.other_not_ok),
        not_ok_at_last: sum(|cell| cell.not_ok_at_last),
        other_calm_p99_ms: median(|cell| cell.other_calm_p99_ms),
        other_p99_ms: median(|cell| cell.other_p99_ms),
        opened: runs.iter().map(|cell| cell.opened).max().flatten(),
        recovery: Duration::from_secs_f64(median(|cell| cell.recovery.as_secs_f64())),
    }
}

impl Cell {
    fn complaints(&self, fault: &Fault) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.lost > 0 {
            complaints.push(format!("{} pushes were not answered", self.lost));
        }
        if self.untrue > 0 {
            complaints.push(format!("{} more pushes were answered OK than arrived", self.untrue));
        }
        if self.duplicates > 0 && !fault.is_ambiguous {
            complaints.push(format!("{} pushes arrived twice", self.duplicates));
        }
        let opened = self.opened.unwrap_or(Duration::MAX);
        if fault.opens_the_breaker() && opened > OPENS {
            complaints.push(format!("pushes were refused after {opened:?} only"));
        }
        if fault.leaves_the_breaker() && self.opened.is_some() {
            complaints.push("pushes were refused although most would have been answered".into());
        }
        if self.recovery > CLOSES {
            complaints.push(format!("it took {:?} until all was well", self.recovery));
        }
        if self.remove > 0 && !fault.removes {
            complaints.push(format!("{} devices were removed", self.remove));
        }
        if self.unanswered > 0 && !fault.is_ambiguous {
            complaints.push(format!("{} pushes arrived that were not answered OK", self.unanswered));
        }
        if self.other_not_ok > 0 {
            complaints.push(format!("{} pushes to the other provider failed", self.other_not_ok));
        }
        if self.not_ok_at_last > 0 {
            complaints.push(format!("{} pushes failed in the last second", self.not_ok_at_last));
        }
        let bound = (self.other_calm_p99_ms * 2.0).max(self.other_calm_p99_ms + 20.0);
        if self.other_p99_ms > bound {
            complaints.push(format!("the other provider's p99 rose to {:.1} ms", self.other_p99_ms));
        }
        complaints
    }
}

/// Starts a service and its simulator, with connections to the providers that are warm before anything is measured.
fn start(hpns: &Path, directory: &Path, provider: Provider) -> anyhow::Result<(Process, Process)> {
    let options = SimulatorOptions { accept_all: false, delay_ms: 0, rtt_ms: 0 };
    let simulator = Process::simulator(hpns, directory, &options)?;
    let config = process::config(
        hpns,
        directory,
        &simulator,
        "access = \"open\"\nconnections_per_address = 20000\n",
        "",
    )?;
    let service = Process::service(hpns, "all", &config, &directory.join("hpns.log"))?;
    for provider in [provider, provider.other()] {
        faults::set_profile(&simulator, provider, LATENCY)?;
    }
    for platform in [provider, provider.other()] {
        client::run(&Load { connections: 4, ..load(&service, platform, 0) }, Duration::from_millis(300))?;
    }
    simulator.ask("POST", "/sim/reset", "")?;
    Ok((simulator, service))
}

/// Runs one cell once.
fn run(hpns: &Path, fault: &Fault, provider: Provider) -> anyhow::Result<Cell> {
    let directory = tempfile::tempdir()?;
    let (simulator, service) = start(hpns, directory.path(), provider)?;
    let end = CALM + fault.time;
    let time = end + AFTER;
    let (hit, other) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let hit = scope.spawn(|| client::run(&load(&service, provider, fault.padding), time));
        let other = scope.spawn(|| client::run(&load(&service, provider.other(), fault.padding), time));
        let started = Instant::now();
        wait_until(started + CALM);
        while started.elapsed() < end {
            fault.begin(&simulator, provider)?;
            wait_until(if fault.repeats() {
                Instant::now() + Duration::from_millis(400)
            } else {
                started + end
            });
        }
        fault.end(&simulator, provider)?;
        let joined = |it: std::thread::ScopedJoinHandle<'_, anyhow::Result<Outcome>>| {
            it.join().map_err(|_| anyhow::anyhow!("a load panicked"))?
        };
        Ok((joined(hit)?, joined(other)?))
    })?;
    let duplicates = simulator.stat("duplicates")?;
    let arrived = simulator.stat("accepted")? - duplicates;
    let answered_ok = hit.count(Status::Ok) + other.count(Status::Ok);
    let last = |sample: &&Sample| {
        sample.at >= time.saturating_sub(LAST) && !matches!(sample.status, Status::Ok | Status::Remove)
    };
    let calm = |sample: &Sample| sample.at < CALM;
    let under_fault = |sample: &Sample| sample.at >= CALM && sample.at < end;
    Ok(Cell {
        sent: hit.samples.len() as u64,
        ok: hit.count(Status::Ok),
        remove: hit.count(Status::Remove),
        fail: hit.count(Status::Fail) + hit.count(Status::Unsent),
        lost: hit.count(Status::Lost) + other.count(Status::Lost),
        duplicates,
        untrue: answered_ok.saturating_sub(arrived),
        unanswered: arrived.saturating_sub(answered_ok),
        other_not_ok: other.samples.len() as u64 - other.count(Status::Ok),
        not_ok_at_last: hit.samples.iter().filter(last).count() as u64,
        other_calm_p99_ms: other.percentile_ms(0.99, calm),
        other_p99_ms: other.percentile_ms(0.99, under_fault),
        opened: opened(&hit, end),
        recovery: recovery(&hit, end),
    })
}

fn load(service: &Process, provider: Provider, padding: usize) -> Load {
    Load {
        address: service.address,
        prefixes: vec![String::new()],
        platforms: vec![provider.platform()],
        devices: 0,
        first: 0,
        connections: CONNECTIONS,
        per_second: Some(PER_SECOND),
        padding,
        calls: 0,
    }
}

/// How long after its beginning the first push was refused without being tried: within a moment.
fn opened(outcome: &Outcome, end: Duration) -> Option<Duration> {
    let refused = |it: &&Sample| {
        let told_no = matches!(it.status, Status::Fail | Status::Unsent);
        it.at >= CALM && it.at < end && told_no && it.took < NOT_TRIED
    };
    outcome.samples.iter().filter(refused).map(|it| it.at.saturating_sub(CALM)).min()
}

/// How long after the end of the fault the last push left that was not answered `OK`.
fn recovery(outcome: &Outcome, end: Duration) -> Duration {
    let late = outcome.samples.iter().filter(|sample| sample.at >= end && sample.status != Status::Ok);
    late.map(|sample| sample.at.saturating_sub(end)).max().unwrap_or_default()
}

fn wait_until(time: Instant) {
    #[expect(clippy::disallowed_methods, reason = "a schedule of a measurement, not of a test")]
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}
