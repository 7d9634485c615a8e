//! The hosted shape: gateways, workers, lanes and a database, in a process each. Here only what is true is
//! judged; how long things take under faults is measured by `make faults`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use system_tests::api::Api;
use system_tests::client::{self, Load, Outcome, Status};
use system_tests::hosted::{Hosted, Size, write_private};
use system_tests::ledger::Reconciliation;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{hpns, run};

/// A deployment is nine processes: one at a time is enough for two cores.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Place {
    hosted: Hosted,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn a_place(size: &Size) -> Place {
    let alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let hosted = Hosted::start(hpns(), directory.path(), size).unwrap();
    for provider in ["apns", "fcm"] {
        let latency = format!(r#"{{"provider":"{provider}","latency":{{"p50_ms":10,"p95_ms":30}}}}"#);
        hosted.simulator.ask("POST", "/sim/conduct", &latency).unwrap();
    }
    Place { hosted, directory, _alone: alone }
}

impl Place {
    fn load(&self) -> Load {
        Load {
            address: self.hosted.balancer.address,
            prefixes: self.hosted.prefixes(),
            platforms: vec!["apple_rn-v2", "android_rn-v2"],
            devices: 0,
            first: 0,
            connections: 60,
            per_second: Some(100.0),
            padding: 0,
            calls: 10,
        }
    }

    /// Pushes for some seconds; breaks something after the first.
    fn under(&mut self, seconds: u64, fault: impl FnOnce(&mut Hosted)) -> Reconciliation {
        let load = self.load();
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| client::run(&load, Duration::from_secs(seconds)).unwrap());
            until(|| self.hosted.simulator.stat("accepted").unwrap() >= 100);
            fault(&mut self.hosted);
            sending.join().unwrap()
        });
        until(|| self.hosted.unsettled().unwrap() == 0);
        self.compared(&sent)
    }

    fn compared(&self, sent: &Outcome) -> Reconciliation {
        Reconciliation::new(sent, &self.hosted.simulator.ask("GET", "/sim/ledger", "").unwrap())
    }
}

/// Waits until something is so; a test that waits in vain fails after 30 s.
fn until(mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < patience, "in vain");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn assert_true_and_complete(books: &Reconciliation) {
    assert_eq!(books.untruths(), Vec::<String>::new());
    assert_eq!((books.ok, books.lost), (books.sent, 0), "{books:?}");
}

#[test]
fn a_killed_worker_costs_no_push() {
    let mut place = a_place(&Size::default());

    let books = place.under(5, |hosted| {
        hosted.workers[0].signal("KILL").unwrap();
        hosted.workers.remove(0);
    });

    assert_true_and_complete(&books);
}

#[test]
fn a_killed_lane_costs_no_push_also_when_it_comes_back_empty() {
    let mut place = a_place(&Size::default());

    let books = place.under(5, |hosted| {
        hosted.lanes[0].kill().unwrap();
        hosted.lanes[1].kill().unwrap();
        hosted.lanes[1].start_again().unwrap();
        hosted.lanes[0].start_again().unwrap();
    });

    assert_true_and_complete(&books);
}

#[test]
fn a_killed_gateway_tells_no_lie() {
    let mut place = a_place(&Size::default());

    let books = place.under(3, |hosted| {
        hosted.gateways[0].signal("KILL").unwrap();
        hosted.gateways.remove(0);
        hosted.balance();
    });

    assert_eq!(books.untruths(), Vec::<String>::new());
    assert_eq!(books.ok + books.lost, books.sent);
    // As many as were open at that moment: some 3 of 100 a second that take 30 ms.
    assert!(books.lost <= 20, "{books:?}");
}

#[test]
fn processes_are_replaced_without_a_failed_push() {
    let mut place = a_place(&Size::default());
    let mut codes = Vec::new();

    let books = place.under(6, |hosted| {
        hosted.add_worker().unwrap();
        let mut worker = hosted.workers.remove(0);
        worker.signal("TERM").unwrap();
        codes.push(worker.wait().unwrap());
        hosted.add_gateway().unwrap();
        let mut gateway = hosted.gateways.remove(0);
        gateway.signal("TERM").unwrap();
        hosted.balance();
        codes.push(gateway.wait().unwrap());
    });

    assert_true_and_complete(&books);
    assert_eq!(codes, [Some(0), Some(0)]);
    assert_eq!(books.duplicates, 0);
}

/// Adds what `hpns` prints to a key file: below what is there, or on top of it.
fn add_key(file: &Path, arguments: &[&str], on_top: bool) {
    let new = run(arguments);
    assert!(new.status.success(), "{new:?}");
    let (new, old) = (String::from_utf8(new.stdout).unwrap(), std::fs::read_to_string(file).unwrap());
    write_private(file, (if on_top { new + &old } else { old + &new }).as_bytes()).unwrap();
}

/// Leaves of a key file the lines that are chosen.
fn keep(file: &Path, lines: impl Fn(Vec<&str>) -> Vec<&str>) {
    let text = std::fs::read_to_string(file).unwrap();
    let kept = lines(text.lines().collect());
    write_private(file, (kept.join("\n") + "\n").as_bytes()).unwrap();
}

/// Replaces every process, one after the other.
fn restart_all(hosted: &mut Hosted) {
    for _ in 0..hosted.gateways.len() {
        hosted.add_gateway().unwrap();
        let mut old = hosted.gateways.remove(0);
        old.signal("TERM").unwrap();
        hosted.balance();
        old.wait().unwrap();
    }
    for _ in 0..hosted.workers.len() {
        hosted.add_worker().unwrap();
        let mut old = hosted.workers.remove(0);
        old.signal("TERM").unwrap();
        old.wait().unwrap();
    }
    hosted.restart_admin().unwrap();
}

#[test]
fn every_ring_of_keys_is_rotated_without_a_failed_push() {
    let mut place = a_place(&Size { admin: true, gateways: 1, workers: 1, ..Size::default() });
    let directory = place.directory.path().to_owned();
    let file = |name: &str| directory.join(name);
    let token = place.hosted.admin_token().unwrap();
    let ring = file("dispatch.keys");

    let books = place.under(25, |hosted| {
        // New keys: those by purpose make at once, that of the lanes opens only.
        for name in ["control.keys", "devices.keys", "log.keys", "operators.keys", "rights.keys"] {
            let path = file(name);
            add_key(&path, &["keys", "new", path.to_str().unwrap()], false);
        }
        add_key(&ring, &["new-key"], false);
        // Gateways prove signatures of a key before the admin role signs with it.
        let checks = run(&["keys", "checks", file("rights.keys").to_str().unwrap()]);
        write_private(&file("rights-check.keys"), &checks.stdout).unwrap();
        restart_all(hosted);
        // That of the lanes goes on top.
        keep(&ring, |lines| lines.into_iter().rev().collect());
        restart_all(hosted);
        // What nothing needs any more goes: the lanes' first key, and the log's.
        keep(&ring, |lines| lines[..1].to_vec());
        keep(&file("log.keys"), |lines| lines[1..].to_vec());
        // The first control key, once no licence key needs it.
        until(|| hosted.postgres.ask("SELECT count(*) FROM licence_key WHERE pepper < 2").unwrap() == "0");
        // By somebody who has the new one.
        let owner = file("owner.toml");
        let text = std::fs::read_to_string(&owner).unwrap();
        std::fs::write(&owner, text.replace("[registry]\n", "[registry]\nkey_files = [\"control.keys\"]\n"))
            .unwrap();
        let finished = run(&["migrate", "--finish", "--config", owner.to_str().unwrap()]);
        assert!(finished.status.success(), "{finished:?}");
        keep(&file("control.keys"), |lines| lines[1..].to_vec());
        restart_all(hosted);
    });

    assert_true_and_complete(&books);
    // Tokens and licence keys of before are known, and what is new is made under the new keys.
    let api = Api { address: place.hosted.admin.as_ref().unwrap().address, token };
    let tenants = api.all("/tenants").unwrap();
    let licence = format!("/tenants/{}/licences", tenants[0]["id"].as_str().unwrap());
    let licences = api.v1("GET", &licence, &serde_json::Value::Null).unwrap();
    let id =
        licences["items"].as_array().or(licences.as_array()).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let issued = api.v1("POST", &format!("/licences/{id}/keys"), &serde_json::json!({})).unwrap();
    let key = issued["key"].as_str().unwrap();
    until(|| client::answers(place.hosted.balancer.address, key, 1).unwrap()[0].contains("OK"));
    let peppers = place.hosted.postgres.ask("SELECT DISTINCT pepper FROM licence_key ORDER BY 1").unwrap();
    assert_eq!(peppers, "2");
    let report = api.v1("GET", "/audit/verification", &serde_json::Value::Null).unwrap();
    assert_eq!(report["intact"], true, "{report}");
}

#[test]
fn a_database_that_is_away_is_not_noticed_by_who_is_known() {
    let mut place = a_place(&Size::default());

    let books = place.under(4, |hosted| hosted.postgres.stop().unwrap());

    assert_true_and_complete(&books);
    place.hosted.postgres.start_again().unwrap();
    // And what is sold then counts as soon as it is noticed.
    let key = place.hosted.seed(100).unwrap();
    until(|| client::answers(place.hosted.balancer.address, &key, 1).unwrap()[0].contains("OK"));
}

#[test]
fn a_provider_that_is_down_is_told_at_once_by_the_gateway_itself() {
    let place = a_place(&Size::default());
    let refuse = r#"{"provider":"apns","door":"shut"}"#;
    place.hosted.simulator.ask("POST", "/sim/conduct", refuse).unwrap();
    place.hosted.simulator.ask("POST", "/sim/strike", r#"{"provider":"apns","blow":"close"}"#).unwrap();
    let load = Load { platforms: vec!["apple_rn-v2"], ..place.load() };
    let barred = || {
        let pages: Vec<_> = place.hosted.gateways.iter().map(|it| it.metrics().unwrap()).collect();
        pages.iter().all(|page| page.contains("provider_out_of_order{region=\"us\",app=\"ios\"} 1"))
    };

    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| client::run(&load, Duration::from_secs(5)).unwrap());
        until(barred);
        sending.join().unwrap()
    });

    let failed = sent.count(Status::Fail) + sent.count(Status::Unsent);
    assert_eq!(failed, sent.samples.len() as u64);
    // What is refused by the gateway itself takes no time at all: half of all pushes came after it knew.
    assert!(sent.percentile_ms(0.25, |_| true) < 50.0);
}

#[test]
fn nothing_of_a_push_lies_on_any_disk_and_an_abort_leaves_no_core() {
    let mut place = a_place(&Size { settings: "[log]\nlevel = \"trace\"".into(), ..Size::default() });
    let books = place.under(3, |hosted| {
        hosted.lanes[0].kill().unwrap();
        hosted.lanes[0].start_again().unwrap();
        hosted.workers.remove(0).abort().unwrap();
        hosted.gateways.remove(0).abort().unwrap();
        hosted.balance();
    });
    assert!(books.ok > 100);
    place.hosted.postgres.ask("CHECKPOINT").unwrap();
    let pages: String =
        place.hosted.gateways.iter().chain(&place.hosted.workers).map(|it| it.metrics().unwrap()).collect();

    let key = place.hosted.keys[0].as_bytes();
    let token = format!("{:064x}", 42);
    let secrets: [&[u8]; 4] = [b"did you see the numbers", b"Town Square", key, &token.as_bytes()[32..]];
    let mut seen = 0;
    for file in files(place.directory.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!file.file_name().unwrap().to_string_lossy().starts_with("core"), "{}", file.display());
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{} holds {}", file.display(), String::from_utf8_lossy(secret));
        }
        seen += 1;
    }
    assert!(seen > 100, "PostgreSQL, lanes and logs: {seen} files");
    assert!(!pages.contains("Town Square") && !pages.contains(&*place.hosted.keys[0]));
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// Starts a role with a changed configuration, and returns what it said when it ended.
fn refused(place: &Place, role: &str, change: impl FnOnce(String) -> String) -> Output {
    let config = std::fs::read_to_string(place.directory.path().join(format!("{role}.toml"))).unwrap();
    let path = place.directory.path().join("changed.toml");
    std::fs::write(&path, change(config)).unwrap();
    Command::new(hpns()).args([role, "--config"]).arg(&path).output().unwrap()
}

/// The one line for a person; the log's own lines are JSON.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

#[test]
fn what_is_not_safe_or_not_ready_is_refused_with_one_clear_line() {
    let place = a_place(&Size { workers: 0, gateways: 0, ..Size::default() });
    let same = |config: String| config;
    let directory = place.directory.path();

    for (setting, value, back) in
        [("appendonly", "yes", "no"), ("maxmemory-policy", "allkeys-lru", "noeviction")]
    {
        place.hosted.lanes[1].ask(&["CONFIG", "SET", setting, value]).unwrap();
        for role in ["gateway", "worker"] {
            let line = complaint(&refused(&place, role, same));
            assert!(line.contains("dispatch.lanes, number 2") && line.contains(setting), "{line}");
        }
        place.hosted.lanes[1].ask(&["CONFIG", "SET", setting, back]).unwrap();
    }

    write_private(&directory.join("other.keys"), b"no key\n").unwrap();
    let line = complaint(&refused(&place, "worker", |it| {
        it.replace("[dispatch]\n", "[dispatch]\nkey_ring_file = \"other.keys\"\n")
    }));
    assert!(line.contains("dispatch.key_ring_file") && !line.contains("no key\n"), "{line}");

    let line = complaint(&refused(&place, "gateway", |it| {
        it.replace("key_files", "key_file = \"other.key\"\n# key_files")
    }));
    assert!(line.contains("key file does not belong to this registry"), "{line}");

    // As the version before left it.
    place.hosted.postgres.ask("CREATE DATABASE behind TEMPLATE template0").unwrap();
    for role in ["gateway", "worker"] {
        let line = complaint(&refused(&place, role, |it| it.replace("/postgres\"", "/behind\"")));
        assert!(line.contains("hpns migrate"), "{line}");
    }

    let line = complaint(&refused(&place, "worker", |it| it.replace("lanes = [", "lanes = []\n#")));
    assert!(line.contains("dispatch.lanes"), "{line}");
}
