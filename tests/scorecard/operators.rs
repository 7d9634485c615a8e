//! Scorecard rows S21 to S23 and `many`: operators revoke, rotate and search while customers push.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::api::Api;
use system_tests::client::{self, Load, Sample, Status};
use system_tests::hosted::{Hosted, Size};
use tokio::time::Instant;

use crate::rig::{LATENCY, Outcome, Place, Scale};

fn api(hosted: &Hosted) -> anyhow::Result<Api> {
    let admin = hosted.admin.as_ref().ok_or_else(|| anyhow::anyhow!("no admin process"))?;
    Ok(Api { address: admin.address, token: hosted.admin_token()? })
}

/// The ids of all licences.
fn licences(api: &Api) -> anyhow::Result<Vec<String>> {
    let tenants = api.all("/tenants")?;
    let ids = tenants.iter().filter_map(|tenant| tenant["licences"][0]["id"].as_str().map(str::to_owned));
    Ok(ids.collect())
}

/// A percentile of times, in seconds.
fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// How long both gateways take until they refuse a key that was revoked.
fn revoked_after(hosted: &Hosted, api: &Api, key: &str) -> anyhow::Result<f64> {
    let kid = key.split('_').nth(2).unwrap_or_default();
    api.v1("DELETE", &format!("/keys/{kid}"), &Value::Null)?;
    let revoked = Instant::now();
    for gateway in &hosted.gateways {
        while !client::answers(gateway.address, key, 1)?.iter().all(|it| it.contains("licence_unknown")) {
            anyhow::ensure!(revoked.elapsed() < Duration::from_secs(30), "a revoked key still opens");
        }
    }
    Ok(revoked.elapsed().as_secs_f64())
}

/// S21: keys are revoked while pushes come in; some of them when nobody tells the gateways.
pub(crate) fn revocations(scale: &Scale) -> anyhow::Result<Outcome> {
    let keys: u32 = scale.of(100, 1000);
    let unheard = keys / 10;
    let size = Size { tenants: keys + 1, admin: true, ..Size::default() };
    let mut place = Place::start(&size, LATENCY)?;
    let api = api(&place.hosted)?;
    let prefixes = place.hosted.prefixes();
    let load = Load { prefixes: vec![prefixes[0].clone()], ..place.load(200.0) };
    let (mut told, mut untold) = (Vec::new(), Vec::new());
    let time = Duration::from_secs(scale.of(40, 400));
    let sent = place.under(&load, time, |hosted, _| {
        let keys = hosted.keys[1..].to_vec();
        for (number, key) in (0_u32..).zip(&keys) {
            if number < unheard {
                // The connection on which changes are told is cut at the moment of the change.
                hosted.postgres.ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'",
                )?;
                untold.push(revoked_after(hosted, &api, key)?);
            } else {
                told.push(revoked_after(hosted, &api, key)?);
            }
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{keys} times"), &sent)?;
    let books = outcome.books;
    outcome.demand(books.ok == books.sent, format!("{} pushes of others failed", books.sent - books.ok));
    let (p99, worst) = (percentile(&mut told, 99), percentile(&mut untold, 100));
    outcome.demand(p99 <= 1.0, format!("99 of 100 took {p99:.2} s"));
    outcome.demand(worst <= 10.0, format!("with its news cut off, one took {worst:.1} s"));
    outcome.also =
        format!("refused after {:.0} ms (p99); with the news cut off {worst:.1} s at most", p99 * 1000.0);
    Ok(outcome)
}

/// S22: every licence gets a second key, under load; then all push with the new one.
pub(crate) fn rotations(scale: &Scale) -> anyhow::Result<Outcome> {
    let tenants: u32 = scale.of(500, 500);
    let size = Size { tenants, admin: true, ..Size::default() };
    let mut place = Place::start(&size, LATENCY)?;
    let api = api(&place.hosted)?;
    let licences = licences(&api)?;
    anyhow::ensure!(licences.len() == tenants as usize, "{} licences", licences.len());
    let load = place.load(500.0);
    let mut new = Vec::new();
    let time = Duration::from_secs(20);
    let old_keys = place.under(&load, time, |_, end| {
        for licence in &licences {
            let made =
                api.v1("POST", &format!("/licences/{licence}/keys"), &json!({ "overlap_hours": 1 }))?;
            new.push(format!("/t/{}", made["key"].as_str().unwrap_or_default()));
        }
        anyhow::ensure!(Instant::now() < end, "the rotation took longer than the load");
        Ok(())
    })?;
    let load = Load { prefixes: new, first: 1 << 32, ..load };
    let new_keys = place.under(&load, Duration::from_secs(5), |_, _| Ok(()))?;
    let mut all = old_keys;
    all.extra_answers += new_keys.extra_answers;
    all.samples.extend(new_keys.samples);
    let mut outcome = place.reconcile(format!("{tenants} licences"), &all)?;
    let books = outcome.books;
    outcome.demand(books.ok == books.sent, format!("{} pushes failed", books.sent - books.ok));
    outcome.also = format!("{} keys issued at 500 pushes/s", licences.len());
    Ok(outcome)
}

/// S23: well-formed keys that nobody has, as fast as they go, beside a customer.
pub(crate) fn bad_keys(scale: &Scale) -> anyhow::Result<Outcome> {
    let wanted: u64 = scale.of(100_000, 1_000_000);
    let gateway_settings = "connections_per_address = 20000".to_owned();
    let mut place = Place::start(&Size { gateway_settings, ..Size::default() }, LATENCY)?;
    let time = Duration::from_secs(scale.of(25, 250));
    let load = place.load(200.0);
    let calm = place.under(&load, Duration::from_secs(10), |_, _| Ok(()))?;
    let key = place.hosted.keys[0].clone();
    let prefixes = (0..1000).map(|number| format!("/t/{}", another_key(&key, number))).collect();
    let guess = Load {
        prefixes,
        first: client::FIRST_UNRECONCILED,
        connections: 50,
        per_second: Some(5000.0),
        ..load.clone()
    };
    let load = Load { first: 1 << 32, ..load };
    let mut guesses = client::Outcome::default();
    let beside = place.under(&load, time, |_, _| {
        guesses = client::run(&guess, time.saturating_sub(Duration::from_secs(1)))?;
        Ok(())
    })?;
    let p99 = |it: &client::Outcome| it.percentile_ms(0.99, |it: &Sample| it.at > Duration::from_secs(1));
    let (before, after) = (p99(&calm), p99(&beside));
    let mut all = calm;
    all.samples.extend(beside.samples);
    let tried = guesses.samples.len() as u64;
    let mut outcome = place.reconcile(format!("{tried} tries"), &all)?;
    let books = outcome.books;
    let accepted = guesses.count(Status::Ok) + guesses.count(Status::Remove);
    outcome.demand(tried >= wanted, format!("only {tried} tries"));
    outcome.demand(accepted == 0, format!("{accepted} were accepted"));
    outcome
        .demand(books.ok == books.sent, format!("{} pushes of the customer failed", books.sent - books.ok));
    outcome.demand(after <= (before * 1.1).max(before + 20.0), format!("p99 rose to {after:.0} ms"));
    outcome.also = format!("0 accepted; the customer's p99 {before:.0} → {after:.0} ms");
    Ok(outcome)
}

/// A key like this one, with another secret and a check sum that fits.
fn another_key(key: &str, number: u32) -> String {
    let body = format!("{}{number:06}", &key[..key.len() - 12]);
    crate::broken::with_check_sum(format!("{body}000000").as_bytes())
}

/// A hundred thousand tenants and a million devices: lists, searches and a tenant's page.
pub(crate) fn many(scale: &Scale) -> anyhow::Result<Outcome> {
    let (tenants, devices) = scale.of((100_000, 1_000_000), (100_000, 10_000_000));
    let size = Size { tenants: 1, gateways: 1, workers: 1, admin: true, ..Size::default() };
    let mut place = Place::start(&size, LATENCY)?;
    let began = Instant::now();
    place.hosted.fill(tenants, devices)?;
    let filled = began.elapsed();
    let api = api(&place.hosted)?;
    let page = api.v1("GET", "/tenants?limit=100&search=fill", &Value::Null)?;
    let ids: Vec<_> =
        page["items"].as_array().into_iter().flatten().filter_map(|it| it["id"].as_str()).collect();
    anyhow::ensure!(ids.len() == 100, "{} tenants on a page", ids.len());
    let session = api.sign_in()?;
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for turn in 0..200 {
        let id = ids[turn % ids.len()];
        let asked = [
            ("list", format!("/v1/tenants?limit=50&cursor={}", encoded(&format!("fill-{turn}")))),
            ("search", format!("/v1/tenants?search=fill-{}", 90_000 + turn)),
            ("tenant", format!("/v1/tenants/{id}")),
            ("usage", format!("/v1/tenants/{id}/usage")),
        ];
        for (name, path) in asked {
            times
                .entry(name)
                .or_default()
                .push(api.ask("GET", &path, &Value::Null)?.1.as_secs_f64() * 1000.0);
        }
        for (name, path) in [("list page", "/tenants".to_owned()), ("tenant page", format!("/tenants/{id}"))]
        {
            times.entry(name).or_default().push(session.get(&path)?.as_secs_f64() * 1000.0);
        }
    }
    let started = Instant::now();
    place.hosted.add_gateway()?;
    let start = started.elapsed().as_secs_f64();
    let load = place.load(100.0);
    let sent = place.under(&load, Duration::from_secs(3), |_, _| Ok(()))?;
    let mut outcome = place.reconcile(format!("{tenants} tenants, {devices} devices"), &sent)?;
    let mut shown = Vec::new();
    for (name, mut times) in times {
        let p99 = percentile(&mut times, 99);
        outcome.demand(p99 < 100.0, format!("{name}: p99 {p99:.0} ms"));
        shown.push(format!("{name} {p99:.0}"));
    }
    outcome.demand(start < 5.0, format!("a gateway took {start:.1} s to start"));
    outcome.also = format!(
        "p99 in ms: {}; a gateway starts in {start:.1} s; seeded in {:.0} s",
        shown.join(", "),
        filled.as_secs_f64()
    );
    Ok(outcome)
}

/// A name as a cursor.
fn encoded(name: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for chunk in name.as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            encoded.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    encoded
}
