//! Scorecard row S1: sustained load without a fault.

use std::time::Duration;

use system_tests::client::Load;
use system_tests::cost::resident_mb;
use system_tests::hosted::Size;

use crate::rig::{Outcome, Place, Scale};

/// 99 of 100 answers of the providers take at most so long: log-normal, half of them 50 ms, 95 of 100 70 ms.
const PROVIDER_P99_MS: f64 = 80.5;

/// S1: a thousand a second. What the service adds to the providers' time is at most 50 ms for 99 of 100.
pub(crate) fn sustained(scale: &Scale) -> anyhow::Result<Outcome> {
    let time = Duration::from_mins(scale.of(3, 60));
    let mut place = Place::start(&Size::default(), r#"{"p50_ms":50,"p95_ms":70}"#)?;
    // So many phones that none gets more than one push in a while, and the same all the time.
    let load = Load { devices: 20_000, ..place.load(1000.0) };
    let mut memory = [0.0; 2];
    let sent = place.under(&load, time, |hosted, end| {
        let all = |hosted: &system_tests::hosted::Hosted| -> anyhow::Result<f64> {
            let mut sum = 0.0;
            for process in hosted.gateways.iter().chain(&hosted.workers) {
                sum += resident_mb(process.id())?;
            }
            Ok(sum)
        };
        crate::rig::wait(time / 3);
        memory[0] = all(hosted)?;
        crate::rig::wait(end.saturating_duration_since(tokio::time::Instant::now()));
        memory[1] = all(hosted)?;
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{} min", time.as_secs() / 60), &sent)?;
    let books = outcome.books;
    outcome.demand(books.ok == books.sent, format!("{} pushes were not answered OK", books.sent - books.ok));
    outcome.demand(books.duplicates == 0, format!("{} pushes arrived twice", books.duplicates));
    let added = outcome.times_ms[1] - PROVIDER_P99_MS;
    outcome.demand(added <= 50.0, format!("99 of 100 took {added:.0} ms longer than the providers"));
    let growth = (memory[1] / memory[0] - 1.0) * 100.0;
    outcome.demand(growth < 5.0, format!("the memory grew by {growth:.1} %"));
    outcome.also = format!("p99 +{added:.0} ms; memory {:.0} → {:.0} MB", memory[0], memory[1]);
    Ok(outcome)
}
