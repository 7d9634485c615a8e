//! `make attack`: a hosted service is attacked from outside, by each of those whom docs/SECURITY.md names, while a tenant
//! pushes. A row tells what the attacker tried, what it gained, and what the tenant noticed; the run fails if an attacker
//! gains more than the row allows, if the tenant gets a wrong answer, or if its p99 rises above max(2×, +20 ms).
//!
//! `attack [SECONDS]`: how long each attack goes on; 4 by default. `attack --short`: a moment each, and no time is judged: a
//! build machine has others to serve.

mod attacks;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use system_tests::api::Api;
use system_tests::client::{self, Load, Outcome, Status};
use system_tests::hosted::{Hosted, Size};

/// Pushes of the tenant that is attacked, each second.
const RATE: f64 = 100.0;

/// A service under attack.
pub(crate) struct Place {
    pub(crate) hosted: Hosted,
    pub(crate) api: Api,
    /// The licence key of the attacker, if it has one.
    pub(crate) key: String,
    victim: String,
}

/// Tells an attacker when it is over.
#[derive(Default)]
pub(crate) struct StopSignal {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl StopSignal {
    fn tell(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is.
    pub(crate) fn wait(&self) {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_while(is_over, |is_over| !*is_over));
    }
}

/// One attacker, and what it does until it is told to stop. It returns what it gained, or an error if that is too much.
pub(crate) struct Attack {
    pub(crate) who: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Place, &StopSignal) -> anyhow::Result<String>,
}

impl Place {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let hpns = own.with_file_name("hpns");
        let settings = "connections = 2000\n[gateway.test_tier]\nenabled = true\n".to_owned();
        let size = Size { tenants: 2, admin: true, gateway_settings: settings, ..Size::default() };
        let hosted = Hosted::start(&hpns, directory, &size)?;
        let admin = hosted.admin.as_ref().context("no admin")?;
        let api = Api { address: admin.address, token: hosted.admin_token()? };
        let [victim, key] = &hosted.keys[..] else { anyhow::bail!("two tenants are needed") };
        let (victim, key) = (victim.clone(), key.clone());
        Ok(Self { hosted, api, key, victim })
    }

    /// The tenant's pushes, for so long.
    fn pushes(&self, first: u64, time: Duration) -> anyhow::Result<Outcome> {
        let load = Load {
            platforms: vec!["apple_rn-v2", "android_rn-v2"],
            devices: 5000,
            connections: 16,
            per_second: Some(RATE),
            first,
            ..Load::closed(self.hosted.balancer.address, vec![format!("/t/{}", self.victim)])
        };
        client::run(&load, time)
    }
}

fn p99(outcome: &Outcome) -> f64 {
    outcome.percentile_ms(0.99, |_| true)
}

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().nth(1);
    let is_short = wanted.as_deref() == Some("--short");
    let seconds = wanted.filter(|_| !is_short).map_or(Ok(4), |text| text.parse())?;
    let time = if is_short { Duration::from_millis(600) } else { Duration::from_secs(seconds) };
    let directory = tempfile::tempdir()?;
    let place = Place::start(directory.path())?;
    let mut out = std::io::stdout().lock();
    place.pushes(0, Duration::from_secs(1))?;
    writeln!(out, "| who | tries | gains | the tenant's p99, alone and beside |\n| --- | --- | --- | --- |")?;
    let mut failed = Vec::new();
    for (number, attack) in (1..).zip(attacks::ALL) {
        let alone = p99(&place.pushes(number << 32, time)?);
        let stop = StopSignal::default();
        let (gained, outcome) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| (attack.run)(&place, &stop));
            let outcome = place.pushes((number << 32) + (1 << 31), time);
            stop.tell();
            (attacker.join(), outcome)
        });
        let (outcome, gained) = (outcome?, gained.map_err(|_| anyhow::anyhow!("an attack panicked"))?);
        let (beside, bad) = (p99(&outcome), outcome.samples.len() as u64 - outcome.count(Status::Ok));
        let (who, what) = (attack.who, attack.what);
        let told = gained.as_ref().map_or_else(|error| format!("TOO MUCH: {error:#}"), Clone::clone);
        writeln!(out, "| {who} | {what} | {told} | {alone:.0} → {beside:.0} ms |")?;
        out.flush()?;
        let is_slow = !is_short && beside > (alone * 2.0).max(alone + 20.0);
        if gained.is_err() || bad > 0 || is_slow {
            failed.push(format!("{who}, {what}: {bad} wrong answers, {alone:.0} → {beside:.0} ms, {told}"));
        }
    }
    for line in &failed {
        writeln!(out, "failed: {line}")?;
    }
    anyhow::ensure!(failed.is_empty(), "{} attacks got more than they may", failed.len());
    Ok(())
}

/// A file of the service, for an attacker who has got it.
pub(crate) fn file(place: &Place, name: &str) -> PathBuf {
    place.hosted.directory.join(name)
}
