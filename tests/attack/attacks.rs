//! Attacks of `make attack`: what each attacker does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use system_tests::servers::{GATEWAY_LOGIN, WORKER_LOGIN};

use crate::{Attack, Place, StopSignal, file};

/// All attackers, in the order of docs/SECURITY.md.
pub(crate) const ALL: [Attack; 10] = [
    Attack { who: "one licence", what: "random tokens, then another app's", run: junk_tokens },
    Attack { who: "one licence", what: "receipts in any number", run: receipts },
    Attack { who: "test tier", what: "random tokens from 64 addresses", run: strangers_tokens },
    Attack {
        who: "network only",
        what: "open sign-ins, half bodies, idle connections",
        run: open_connections,
    },
    Attack { who: "gateway login", what: "forged verdicts, gateways, scripts", run: gateway_login },
    Attack { who: "worker login", what: "forged evidence, verdicts, entries", run: worker_login },
    Attack {
        who: "gateway's files and database login",
        what: "sessions, people, rights",
        run: stolen_gateway,
    },
    Attack { who: "the database, to write", what: "lifts a suspension, raises a role", run: database_writer },
    Attack { who: "viewer token", what: "fills the audit log, changes things", run: viewer },
    Attack { who: "one licence", what: "words under ids only", run: words },
];

/// Repeats something until it is told to stop; returns how often.
fn until(stop: &StopSignal, mut again: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let mut count = 0;
    while !stop.is_over() {
        again(count)?;
        count += 1;
    }
    Ok(count)
}

/// Sends one request, and returns the answer; empty if the connection was closed.
fn exchange(address: SocketAddr, head: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let request = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

fn push(place: &Place, prefix: &str, header: &str, device: &str) -> anyhow::Result<String> {
    let body = json!({ "server_id": "attack", "platform": "apple_rn-v2", "device_id": device, "type": "message", "message": "x" });
    let head = format!("POST {prefix}/api/v1/send_push HTTP/1.1\r\n{header}");
    exchange(place.hosted.balancer.address, &head, &body.to_string())
}

/// Lets Apple call devices dead, or another app's, whose tokens begin so.
fn script(place: &Place, token: &str, reason: &str) -> anyhow::Result<()> {
    let script = json!({
        "token": format!("{token}*"), "provider": "apns", "repeat": true,
        "answers": [{ "status": 400, "reason": reason }],
    });
    place.hosted.simulator.ask("POST", "/sim/script", &script.to_string()).map(drop)
}

fn junk_tokens(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    script(place, "eeee", "BadDeviceToken")?;
    script(place, "ffff", "DeviceTokenNotForTopic")?;
    let prefix = format!("/t/{}", place.key);
    let sent = until(stop, |number| {
        let kind = if number < 60 { "eeee" } else { "ffff" };
        push(place, &prefix, "", &format!("{kind}{number:060x}")).map(drop)
    })?;
    Ok(format!("nothing by {sent} pushes: its own are doubted and held"))
}

fn receipts(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    let head = format!("POST /t/{}/api/v1/ack HTTP/1.1\r\n", place.key);
    let sent = until(stop, |number| {
        let body = json!({ "id": number.to_string(), "platform": "ios", "type": "message" });
        exchange(place.hosted.balancer.address, &head, &body.to_string()).map(drop)
    })?;
    Ok(format!("nothing by {sent} receipts: they have a rate and a memory of their own"))
}

fn strangers_tokens(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    script(place, "dddd", "BadDeviceToken")?;
    let sent = until(stop, |number| {
        let from = format!("X-Forwarded-For: 198.51.100.{}\r\n", number % 64);
        push(place, "", &from, &format!("dddd{number:060x}")).map(drop)
    })?;
    Ok(format!("nothing by {sent} pushes: strangers speak for nobody"))
}

fn open_connections(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    let (public, admin) = (place.hosted.gateways.first().context("no gateway")?.address, place.api.address);
    let mut open = Vec::new();
    for _ in 0..400 {
        for (address, half) in [
            (admin, "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\ntoken="),
            (public, "POST /api/v1/send_push HTTP/1.1\r\nHost: x\r\nContent-Length: 250000\r\n\r\n{"),
            (public, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let mut stream = TcpStream::connect(address)?;
            let _ = stream.write_all(half.as_bytes());
            open.push(stream);
        }
        place.api.v1("GET", "/me", &serde_json::Value::Null).context("an operator was kept out")?;
    }
    stop.wait();
    Ok(format!("nothing by {} connections: an operator is answered beside them", open.len()))
}

/// Runs commands with a login that was stolen; returns those that were let through of those that must not be.
fn refused(place: &Place, login: &str, commands: &[&[&str]]) -> anyhow::Result<()> {
    for command in commands {
        let said = place.hosted.lanes[0].ask_as(login, command)?;
        ensure!(said.contains("NOPERM"), "{command:?} was let through: {said}");
    }
    Ok(())
}

/// Tells all gateways that it can find that all is well, or dead.
fn tell_gateways(place: &Place, login: &str) -> anyhow::Result<()> {
    let lane = &place.hosted.lanes[0];
    for process in lane.ask_as(login, &["SMEMBERS", "hpns:states"])?.lines() {
        lane.ask_as(login, &["XADD", &format!("hpns:r:{process}"), "*", "v", "REMOVE"])?;
        lane.ask_as(login, &["SET", &format!("hpns:state:{process}"), "{\"is_gateway\":true}"])?;
    }
    Ok(())
}

fn gateway_login(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    refused(
        place,
        GATEWAY_LOGIN,
        &[
            &["EVAL", "return 1", "0"],
            &["HSET", "hpns:guard:ios", "me", "x"],
            &["SADD", "hpns:dead", "worker"],
            &["KEYS", "*"],
            &["CONFIG", "SET", "appendonly", "yes"],
            &["SHUTDOWN", "NOSAVE"],
        ],
    )?;
    let told = until(stop, |number| {
        tell_gateways(place, GATEWAY_LOGIN)?;
        let fake = format!("fake-{number}");
        let lane = &place.hosted.lanes[0];
        lane.ask_as(GATEWAY_LOGIN, &["SADD", "hpns:states", &fake])?;
        lane.ask_as(GATEWAY_LOGIN, &["SET", &format!("hpns:state:{fake}"), "{\"is_gateway\":true}"])?;
        lane.ask_as(GATEWAY_LOGIN, &["SET", "hpns:summary", "{\"gateways\":1000,\"broken\":[\"ios\"]}"])?;
        lane.ask_as(GATEWAY_LOGIN, &["XADD", "hpns:jobs:apns:other", "*", "p", "junk"]).map(drop)
    })?;
    Ok(format!("no answer, no gateway, no outage by {told} rounds of forged words"))
}

fn worker_login(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    refused(
        place,
        WORKER_LOGIN,
        &[&["EVAL", "return 1", "0"], &["HSET", "hpns:g:gw", "call", "9"], &["KEYS", "*"]],
    )?;
    let told = until(stop, |_| {
        tell_gateways(place, WORKER_LOGIN)?;
        let lane = &place.hosted.lanes[0];
        for subject in ["ios", "android"] {
            lane.ask_as(WORKER_LOGIN, &["HSET", &format!("hpns:guard:{subject}"), "me", "d9999"])?;
        }
        Ok(())
    })?;
    Ok(format!("no answer, no pause, no doubt by {told} rounds of forged words"))
}

fn stolen_gateway(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    // What its configuration lets it have: it refuses to start with more.
    let config = std::fs::read_to_string(file(place, "gateway.toml"))?;
    ensure!(!config.contains("operators.keys"), "a gateway has the operators' keys");
    let started = Command::new(&place.hosted.hpns)
        .args(["gateway", "--config"])
        .arg({
            let greedy = file(place, "greedy.toml");
            std::fs::write(&greedy, config.replace("\"log.keys\"", "\"log.keys\", \"operators.keys\""))?;
            greedy
        })
        .output()?;
    ensure!(!started.status.success(), "a gateway took the operators' keys");
    let asked = until(stop, |_| {
        for (statement, is_let) in [
            ("SELECT kid, mac FROM licence_key LIMIT 1", true),
            ("SELECT contact FROM tenant", false),
            ("SELECT name FROM tenant", false),
            ("SELECT suspended_by FROM licence", false),
            ("UPDATE licence SET suspended = false", false),
            ("INSERT INTO audit_event SELECT * FROM audit_event", false),
            ("SELECT id FROM admin_session", false),
            ("SELECT mac FROM admin_token", false),
        ] {
            let said = place.hosted.postgres.ask_as("gateway", statement);
            ensure!(said.is_ok() == is_let, "{statement}: {said:?}");
        }
        Ok(())
    })?;
    Ok(format!("licences' terms and keyed hashes, no session, nobody's name ({asked} rounds)"))
}

fn database_writer(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    let none = &serde_json::Value::Null;
    let tenant = place.api.v1("POST", "/tenants", &json!({ "name": "suspended" }))?;
    let tenant = tenant["id"].as_str().context("no tenant")?;
    let terms = json!({
        "plan": "professional", "regions": ["us"], "rate_per_second": 100, "burst": 100,
        "in_flight": 0, "devices": 0, "grace_days": 14, "privacy": "full",
    });
    let licence = place.api.v1("POST", &format!("/tenants/{tenant}/licences"), &terms)?;
    let licence = format!("/licences/{}", licence["id"].as_str().context("no licence")?);
    place.api.v1("PUT", &format!("{licence}/terms"), &json!({ "version": "1", "accepted_by": "x" }))?;
    let key = place.api.v1("POST", &format!("{licence}/keys"), &json!({}))?;
    let key = key["key"].as_str().context("no key")?.to_owned();
    place.api.v1("PUT", &format!("{licence}/suspension"), &json!({ "reason": "attack" }))?;
    let viewer = json!({ "name": "raised", "role": "viewer", "days": 1 });
    let token = place.api.v1("POST", "/admin-tokens", &viewer)?;
    let token = token["token"].as_str().context("no token")?.to_owned();
    // What a writer would do: the row, and the revision that lets gateways read it again.
    let lift =
        "UPDATE licence SET suspended = FALSE, revision = (SELECT number FROM revision) WHERE suspended;
        UPDATE admin_token SET role = 'security-admin' WHERE name = 'raised'; NOTIFY hpns_licences";
    let mut refused = 0;
    let tried = until(stop, |_| {
        place.hosted.postgres.ask(lift)?;
        let answer = push(place, &format!("/t/{key}"), "", "device")?;
        ensure!(!answer.contains("\"OK\""), "a suspended licence pushes: {answer}");
        let head = format!("GET /v1/admin-tokens HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        let answer = exchange(place.api.address, &head, "")?;
        // One address may fail so often; what is over that is not even looked at.
        let is_over = answer.starts_with("HTTP/1.1 429") && answer.contains("too_many_failures");
        ensure!(is_over || answer.starts_with("HTTP/1.1 401"), "a raised token opens: {answer}");
        refused += usize::from(!is_over);
        Ok(())
    })?;
    ensure!(refused > 0, "no raised token was ever looked at");
    place.hosted.postgres.ask(
        "UPDATE licence SET suspended = TRUE WHERE suspended_at IS NOT NULL;
         UPDATE admin_token SET role = 'viewer' WHERE name = 'raised'",
    )?;
    place.api.v1("GET", &licence, none)?;
    Ok(format!("nothing: {tried} rounds of lifted suspensions and raised roles"))
}

fn viewer(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    let wanted = json!({ "name": "attack", "role": "viewer", "days": 1 });
    let made = place.api.v1("POST", "/admin-tokens", &wanted)?;
    let token = made["token"].as_str().context("no token")?.to_owned();
    let before = place.api.v1("GET", "/audit?limit=1", &serde_json::Value::Null)?["items"][0]["seq"].as_u64();
    let tried = until(stop, |_| {
        let answer = exchange(place.api.address, "POST /sign-in HTTP/1.1\r\n", &format!("token={token}"))?;
        ensure!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
        let head = format!("POST /v1/tenants HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        let answer = exchange(place.api.address, &head, "{\"name\":\"mine\"}")?;
        ensure!(answer.starts_with("HTTP/1.1 403"), "a viewer made a tenant: {answer}");
        Ok(())
    })?;
    let after = place.api.v1("GET", "/audit?limit=1", &serde_json::Value::Null)?["items"][0]["seq"].as_u64();
    let written = after.unwrap_or_default().saturating_sub(before.unwrap_or_default());
    ensure!(written <= 60, "{written} events");
    Ok(format!("{written} audit events by {tried} sign-ins, and no change"))
}

fn words(place: &Place, stop: &StopSignal) -> anyhow::Result<String> {
    let kid = place.key.split('_').nth(2).context("no kid")?;
    let licence =
        place.hosted.postgres.ask(&format!("SELECT licence_id FROM licence_key WHERE kid = '{kid}'"))?;
    let terms = json!({
        "plan": "enterprise", "regions": ["us"], "rate_per_second": 1_000_000, "burst": 2_000_000,
        "in_flight": 0, "devices": 0, "grace_days": 14, "privacy": "id_only_strip",
    });
    place.api.v1("PUT", &format!("/licences/lic_{}", licence.replace('-', "")), &terms)?;
    let head = format!("POST /t/{}/api/v1/send_push HTTP/1.1\r\n", place.key);
    let send = |device: &str| {
        let mut push = json!({
            "server_id": "canarycanarycanarycanaryca", "platform": "android_rn-v2", "type": "message",
            "device_id": device, "message": "canary",
        });
        for field in
            ["post_id", "team_id", "channel_id", "root_id", "sender_id", "category", "version", "sender_name"]
        {
            push[field] = "canarycanarycanarycanaryca".into();
        }
        exchange(place.hosted.balancer.address, &head, &push.to_string())
    };
    // The gateways hear of the policy at once, and may have pushes under way.
    // What arrived before is of no interest.
    let stat = |name| place.hosted.simulator.stat(name);
    let from = stat("apns_requests")? + stat("fcm_requests")?;
    let received = |device: &str| received(place, from, device);
    let holds = |turn: u32| -> anyhow::Result<bool> {
        for number in 0..20 {
            send(&format!("words-{turn}-{number}"))?;
        }
        let arrived = received(&format!("words-{turn}-"))?;
        Ok(!arrived.is_empty() && !arrived.iter().any(|one| one.contains("canary")))
    };
    let mut turns = 0;
    while !holds(turns)? {
        turns += 1;
        ensure!(turns < 100, "the policy never holds");
    }
    send("after-first")?;
    let pushes = until(stop, |number| send(&format!("after-{number}-")).map(drop))?;
    let arrived = received("after-")?;
    ensure!(!arrived.is_empty(), "nothing arrived");
    if let Some(word) = arrived.iter().find(|one| one.contains("canary")) {
        bail!("a word left the service: {word}");
    }
    Ok(format!("no word of {} pushes leaves", pushes + 1))
}

/// What arrived after the first so many, for devices whose tokens hold a text.
fn received(place: &Place, from: u64, device: &str) -> anyhow::Result<Vec<String>> {
    let list: serde_json::Value = serde_json::from_str(&place.hosted.simulator.ask(
        "GET",
        &format!("/sim/notifications?after={from}"),
        "",
    )?)?;
    let all = list.as_array().cloned().unwrap_or_default();
    Ok(all.iter().map(ToString::to_string).filter(|one| one.contains(device)).collect())
}
