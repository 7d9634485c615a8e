//! Scorecard rows S14, S15 and S20: slow sockets, garbage, and a search for what is left of pushes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::client::{self, Sample, Status};
use system_tests::hosted::{Hosted, Size};
use tokio::time::Instant;

use crate::idle::Idle;
use crate::rig::{LATENCY, Outcome, Place, Random, Scale, wait};

/// What a slow socket does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlowBehaviour {
    /// Nothing at all, to either listener.
    Silent,
    /// A byte of a header now and then.
    Dribbles,
    /// Half of a TLS greeting, and no more.
    HalfGreeting,
}

const HABITS: [(SlowBehaviour, bool); 4] = [
    (SlowBehaviour::Silent, false),
    (SlowBehaviour::Dribbles, false),
    (SlowBehaviour::Silent, true),
    (SlowBehaviour::HalfGreeting, true),
];

/// S14: sockets that say nothing, a byte now and then, or half of a TLS greeting; and, as many again as a quarter of
/// them, TLS sockets that say nothing once they are greeted. Half of all are open at a listener with TLS.
pub(crate) fn slow_sockets(scale: &Scale) -> anyhow::Result<Outcome> {
    let sockets = scale.of(2000, 2000);
    let gateway_settings = "connections_per_address = 20000".to_owned();
    let mut place = Place::start(&Size { gateway_settings, ..Size::default() }, LATENCY)?;
    let secure = place.hosted.secure_gateway()?;
    let time = Duration::from_secs(25);
    let load = place.load(200.0);
    let calm = place.under(&load, time, |_, _| Ok(()))?;
    let load = client::Load { first: 1 << 32, ..load };
    let mut slow = Slow::default();
    let beside = place.under(&load, time, |hosted, _| {
        let idle = Idle::open(&secure, sockets / 4)?;
        let mut open = Vec::new();
        for number in 0..sockets - sockets / 4 {
            let (habit, tls) = HABITS[number % HABITS.len()];
            // Straight to a gateway: how long a balancer keeps a socket is another matter.
            let plain = &hosted.gateways[number / 2 % hosted.gateways.len()];
            let mut socket = TcpStream::connect(if tls { secure.process.address } else { plain.address })?;
            socket.set_nonblocking(true)?;
            match habit {
                SlowBehaviour::Silent => {}
                SlowBehaviour::Dribbles => socket.write_all(b"POST /api/v1/send_push HTTP/1.1\r\n")?,
                SlowBehaviour::HalfGreeting => socket.write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252])?,
            }
            open.push((socket, habit, Instant::now()));
        }
        slow.watch(open);
        slow.add(idle.closed_after()?);
        Ok(())
    })?;
    let p99 = |it: &client::Outcome| it.percentile_ms(0.99, |it: &Sample| it.at > Duration::from_secs(1));
    let (before, after) = (p99(&calm), p99(&beside));
    let mut all = calm;
    all.samples.extend(beside.samples);
    let mut outcome = place.reconcile(format!("{sockets} sockets"), &all)?;
    let books = outcome.books;
    outcome.demand(books.ok == books.sent, format!("{} pushes failed", books.sent - books.ok));
    outcome.demand(after <= (before * 1.2).max(before + 20.0), format!("p99 rose to {after:.0} ms"));
    let Slow { slowest_close, left_open } = slow;
    let in_time = left_open == 0 && slowest_close <= Duration::from_secs(10);
    outcome
        .demand(in_time, format!("{left_open} sockets stayed open, the last closed after {slowest_close:?}"));
    outcome.also =
        format!("p99 {before:.0} → {after:.0} ms; all closed in {:.1} s", slowest_close.as_secs_f64());
    Ok(outcome)
}

/// How long slow sockets stayed open.
#[derive(Default)]
struct Slow {
    slowest_close: Duration,
    left_open: usize,
}

impl Slow {
    /// Waits for the ends of sockets, and goes on being slow.
    fn watch(&mut self, mut open: Vec<(TcpStream, SlowBehaviour, Instant)>) {
        let all_open = Instant::now();
        while !open.is_empty() && all_open.elapsed() < Duration::from_secs(14) {
            wait(Duration::from_millis(250));
            open.retain_mut(|(socket, habit, since)| {
                let ended = match socket.read(&mut [0; 512]) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                };
                let over = ended || (*habit == SlowBehaviour::Dribbles && socket.write_all(b"x").is_err());
                if over {
                    self.slowest_close = self.slowest_close.max(since.elapsed());
                }
                !over
            });
        }
        self.left_open += open.len();
    }

    fn add(&mut self, closed: Vec<Option<Duration>>) {
        for closed in closed {
            match closed {
                Some(after) => self.slowest_close = self.slowest_close.max(after),
                None => self.left_open += 1,
            }
        }
    }
}

/// S15: requests with bytes changed, left out, doubled, and cut.
pub(crate) fn garbage(scale: &Scale) -> anyhow::Result<Outcome> {
    let inputs: u64 = scale.of(50_000, 1_000_000);
    let place = Place::start(&Size::default(), LATENCY)?;
    let addresses: Vec<_> = place.hosted.gateways.iter().map(|gateway| gateway.address).collect();
    let key = place.hosted.keys[0].clone();
    let threads = 4;
    let faults = std::thread::scope(|scope| {
        let throwing: Vec<_> = (0..threads)
            .map(|number| {
                let (addresses, key) = (&addresses, &key);
                scope.spawn(move || -> anyhow::Result<u64> {
                    let mut random = Random::new(15 + number);
                    let mut faults = 0;
                    for turn in 0..inputs / threads {
                        let address = addresses[usize::try_from(turn)? % addresses.len()];
                        faults += u64::from(send_garbage(address, &mangled(key, &mut random))?);
                    }
                    Ok(faults)
                })
            })
            .collect();
        throwing.into_iter().try_fold(0, |sum, it| {
            Ok::<_, anyhow::Error>(sum + it.join().map_err(|_| anyhow::anyhow!("a thrower panicked"))??)
        })
    })?;
    let mut panics = 0;
    for gateway in &place.hosted.gateways {
        panics += std::fs::read_to_string(&gateway.log)?.matches("panic").count();
    }
    let mut place = place;
    let after = place.load(100.0);
    let after =
        place.under(&client::Load { first: 1 << 32, ..after }, Duration::from_secs(2), |_, _| Ok(()))?;
    let mut outcome = Outcome { size: format!("{inputs} inputs"), ..Outcome::default() };
    outcome.books.sent = after.samples.len() as u64;
    outcome.demand(faults == 0, format!("{faults} answers were 5xx"));
    outcome.demand(panics == 0, format!("{panics} panics"));
    let well = after.count(Status::Ok) == after.samples.len() as u64;
    outcome.demand(well, "pushes failed afterwards");
    outcome.also = format!("{faults} answers 5xx, {panics} panics");
    Ok(outcome)
}

/// Sends bytes on a connection of their own; says whether the answer is a 5xx.
fn send_garbage(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.take(4096).read_to_end(&mut answer);
    Ok(answer.starts_with(b"HTTP/1.1 5"))
}

fn mangled(key: &str, random: &mut Random) -> Vec<u8> {
    let body = r#"{"server_id":"s","platform":"apple_rn-v2","device_id":"0123456789abcdef0123456789abcdef","type":"message","message":"x"}"#;
    let path = ["/api/v1/send_push", "/api/v1/ack", "/version", "/"][random.below(4) as usize];
    let length = body.len() as u64 + random.below(3) - 1;
    let mut bytes = format!(
        "POST /t/{key}{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.below(256) as u8),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let piece = bytes[at..].iter().take(20).copied().collect::<Vec<_>>();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// S20: after pushes, faults and all, nothing of what was pushed lies in any file.
pub(crate) fn canaries(scale: &Scale) -> anyhow::Result<Outcome> {
    let pushes: f64 = scale.of(50_000.0, 1_000_000.0);
    let mut place = Place::start(&Size { tenants: 20, ..Size::default() }, LATENCY)?;
    let rate = 1000.0;
    let time = Duration::from_secs_f64(pushes / rate);
    let load = place.load(rate);
    let mut texts = Vec::new();
    let sent = place.under(&load, time, |hosted, end| {
        while Instant::now() + Duration::from_secs(10) < end {
            wait(Duration::from_secs(3));
            hosted.workers.remove(0).abort()?;
            hosted.add_worker()?;
            wait(Duration::from_secs(3));
            hosted.lanes[0].kill()?;
            hosted.lanes[0].start_again()?;
            wait(Duration::from_secs(3));
            let mut gateway = hosted.gateways.remove(0);
            hosted.balance();
            texts.push(gateway.metrics()?);
            gateway.abort()?;
            hosted.add_gateway()?;
        }
        Ok(())
    })?;
    let mut outcome = place.reconcile(format!("{:.0} s", time.as_secs_f64()), &sent)?;
    place.hosted.postgres.ask("CHECKPOINT")?;
    let (files, hits, cores) = search(&place.hosted, texts)?;
    outcome.demand(hits.is_empty(), format!("found in {hits:?}"));
    outcome.demand(cores == 0, format!("{cores} core files"));
    outcome.demand(files > 100, "there was nothing to search");
    let books = outcome.books;
    outcome.demand(books.ok + books.lost == books.sent, format!("{} pushes failed", books.fail));
    outcome.also = format!("{files} files searched: {} hits; {cores} core files", hits.len());
    Ok(outcome)
}

/// Searches every file of the lanes, the database and the logs, and the metrics, for what was pushed.
fn search(hosted: &Hosted, pages: Vec<String>) -> anyhow::Result<(usize, Vec<String>, usize)> {
    let mut secrets: Vec<Vec<u8>> = vec![b"did you see the numbers".to_vec(), b"Town Square".to_vec()];
    secrets.extend(hosted.keys.iter().map(|key| key.clone().into_bytes()));
    // Tokens have many zeros and then a number; some of them, with enough zeros to be no accident.
    secrets.extend((1000..1020).map(|device: u64| format!("{device:048x}").into_bytes()));
    let mut texts: Vec<_> = pages.into_iter().map(|page| ("metrics".to_owned(), page.into_bytes())).collect();
    for process in hosted.gateways.iter().chain(&hosted.workers) {
        texts.push(("metrics".to_owned(), process.metrics()?.into_bytes()));
    }
    let (mut hits, mut cores, mut count) = (Vec::new(), 0, 0);
    for file in files(&hosted.directory)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cores += usize::from(name.starts_with("core"));
        texts.push((file.display().to_string(), std::fs::read(&file)?));
        count += 1;
        for (place, bytes) in texts.drain(..) {
            if secrets.iter().any(|secret| contains(&bytes, secret)) {
                hits.push(place);
            }
        }
    }
    Ok((count, hits, cores))
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    let Some((first, rest)) = secret.split_first() else { return false };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        if bytes[from + at + 1..].starts_with(rest) {
            return true;
        }
        from += at + 1;
    }
    false
}

fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if path.is_file() {
            all.push(path);
        }
    }
    Ok(all)
}
