//! Test rig of the rows: a deployment of their own, a load beside a fault, both ledgers reconciled.

use std::path::PathBuf;
use std::time::Duration;

use system_tests::client::{self, Load, Sample, Status};
use system_tests::hosted::{Hosted, Size};
use system_tests::ledger::Reconciliation;
use tempfile::TempDir;
use tokio::time::Instant;

/// An open loop needs a free connection at every moment, also when answers take their whole time.
pub(crate) const CONNECTIONS: u64 = 1000;

/// Providers answer within some 5 to 50 ms.
pub(crate) const LATENCY: &str = r#"{"p50_ms":15,"p95_ms":40}"#;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Scale) -> anyhow::Result<Outcome>,
}

/// Scale of a run: short or long, and the other version, if any.
#[derive(Debug, Default)]
pub(crate) struct Scale {
    pub(crate) is_long: bool,
    /// The binary of another version, for the row that mixes two.
    pub(crate) other: Option<PathBuf>,
}

impl Scale {
    /// Chooses a number of the short or the long size.
    pub(crate) fn of<T>(&self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}

/// Result of a row.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) size: String,
    pub(crate) books: Reconciliation,
    pub(crate) times_ms: [f64; 3],
    pub(crate) also: String,
    /// What was promised and not kept.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self { broken: vec![format!("it could not be run: {error:#}")], ..Self::default() }
    }

    pub(crate) fn line(&self, row: &Row) -> String {
        let Self { size, books, times_ms: [p50, p99, slowest], also, broken } = self;
        let untrue = books.untrue();
        let kept = if broken.is_empty() { "yes" } else { "**no**" };
        format!(
            "| {} | {} | {size}, {} pushes | {} | {untrue} | {} | {p50:.0} / {p99:.0} / {slowest:.0} | {also} | {kept} |",
            row.id, row.what, books.sent, books.lost, books.duplicates
        )
    }

    /// Notes a promise that was not kept.
    pub(crate) fn demand(&mut self, kept: bool, promise: impl Into<String>) {
        if !kept {
            self.broken.push(promise.into());
        }
    }
}

/// Hosted deployment of a row's own.
pub(crate) struct Place {
    pub(crate) hosted: Hosted,
    _directory: TempDir,
}

impl Place {
    /// Starts it, with providers that take their time.
    pub(crate) fn start(size: &Size, latency: &str) -> anyhow::Result<Self> {
        let hpns = std::env::current_exe()?.with_file_name("hpns");
        let directory = tempfile::tempdir()?;
        let hosted = Hosted::start(&hpns, directory.path(), size)?;
        for provider in ["apns", "fcm"] {
            let conduct = format!(r#"{{"provider":"{provider}","latency":{latency}}}"#);
            hosted.simulator.ask("POST", "/sim/conduct", &conduct)?;
        }
        let place = Self { hosted, _directory: directory };
        client::run(&Load { first: u64::MAX >> 16, ..place.load(50.0) }, Duration::from_millis(500))?;
        place.hosted.simulator.ask("POST", "/sim/reset", "")?;
        Ok(place)
    }

    /// An open loop through the address of all gateways; every push goes to a device of its own.
    pub(crate) fn load(&self, per_second: f64) -> Load {
        Load {
            address: self.hosted.balancer.address,
            prefixes: self.hosted.prefixes(),
            platforms: vec!["apple_rn-v2", "android_rn-v2"],
            devices: 0,
            first: 0,
            connections: CONNECTIONS as usize,
            per_second: Some(per_second),
            padding: 0,
            calls: 10,
        }
    }

    /// Sends for a time while `fault` does its work; it is told until when, and gets the service.
    pub(crate) fn under(
        &mut self,
        load: &Load,
        time: Duration,
        fault: impl FnOnce(&mut Hosted, Instant) -> anyhow::Result<()>,
    ) -> anyhow::Result<client::Outcome> {
        let hosted = &mut self.hosted;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| client::run(load, time));
            let broken = fault(hosted, Instant::now() + time);
            let outcome = sending.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
            broken.and(outcome)
        })
    }

    /// Waits until nothing is under way, and compares the ledgers.
    pub(crate) fn reconcile(&self, size: String, sent: &client::Outcome) -> anyhow::Result<Outcome> {
        let patience = Instant::now() + Duration::from_secs(30);
        let mut unsettled = self.hosted.unsettled()?;
        while unsettled > 0 && Instant::now() < patience {
            wait(Duration::from_millis(200));
            unsettled = self.hosted.unsettled()?;
        }
        let books = Reconciliation::new(sent, &self.hosted.simulator.ask("GET", "/sim/ledger", "")?);
        let at = |share| sent.percentile_ms(share, |sample: &Sample| sample.status != Status::Lost);
        let mut outcome =
            Outcome { size, books, times_ms: [at(0.5), at(0.99), at(1.0)], ..Outcome::default() };
        outcome.broken.extend(books.untruths());
        outcome.demand(unsettled == 0, format!("{unsettled} jobs are left in the lanes"));
        outcome.demand(books.sent > 0, "nothing was sent");
        Ok(outcome)
    }
}

/// No push may be without an answer, and few may arrive twice.
pub(crate) fn demand_all_answered(outcome: &mut Outcome, most_duplicates: f64) {
    let books = outcome.books;
    outcome.demand(books.lost == 0, format!("{} pushes were not answered", books.lost));
    outcome.demand(books.ok == books.sent, format!("{} pushes failed", books.sent - books.ok - books.lost));
    let share = books.duplicates as f64 / books.sent.max(1) as f64;
    outcome.demand(share <= most_duplicates, format!("{:.2} % arrived twice", share * 100.0));
}

/// Lets time pass.
pub(crate) fn wait(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a schedule of a measurement, not of a test")]
    std::thread::sleep(time);
}

/// A number below `below`, a different one each time, the same in each run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
