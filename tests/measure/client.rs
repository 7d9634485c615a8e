//! Load generator: keep-alive connections that each send a push, wait for the answer, and go on.
//!
//! Closed loop: the next push leaves when the answer is there. Open loop: pushes leave at their time,
//! whatever becomes of the others, and latency counts from that time.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// A stock server gives up so late.
const GIVE_UP: Duration = Duration::from_secs(30);

/// Pushes from here on are left out when ledgers are compared.
pub const FIRST_UNRECONCILED: u64 = 1 << 50;

/// What makes a message an incoming call.
const CALL: &str = r#","sub_type":"calls","transport":"voip""#;

/// The codes of pushes that were refused before anything could be sent.
const UNSENT: [&[u8]; 3] = [b"\"busy:", b"\"rate_limited:", b"\"unavailable:"];

/// Load: what to send, and from how many connections.
#[derive(Debug, Clone)]
pub struct Load {
    /// The gateway.
    pub address: SocketAddr,
    /// What stands before the route, such as `/t/<key>`; used in turn.
    pub prefixes: Vec<String>,
    /// Used in turn.
    pub platforms: Vec<&'static str>,
    /// How many devices there are; 0: every push goes to a new one.
    pub devices: u32,
    /// The number of the first push; its ack id says it.
    pub first: u64,
    /// How many connections send.
    pub connections: usize,
    /// Pushes a second, all connections together; `None`: closed loop.
    pub per_second: Option<f64>,
    /// What is added to the message of a stock push, in bytes.
    pub padding: usize,
    /// Every how many-th push rings; 0: none.
    pub calls: u64,
}

impl Load {
    /// A closed loop over 64 connections, to iPhones, of which there are a hundred thousand.
    #[must_use]
    pub fn closed(address: SocketAddr, prefixes: Vec<String>) -> Self {
        Self {
            address,
            prefixes,
            platforms: vec!["apple_rn-v2"],
            devices: 100_000,
            first: 0,
            connections: 64,
            per_second: None,
            padding: 0,
            calls: 0,
        }
    }
}

/// Status of a push, as its caller got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The provider took it.
    Ok,
    /// The device is dead.
    Remove,
    /// Neither, with a reason that says that it was never sent.
    Unsent,
    /// Neither, with another reason.
    Fail,
    /// The connection broke before an answer.
    Lost,
}

/// Sample: one push and its latency.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was to leave, after the start.
    pub at: Duration,
    /// How long its answer took from that time.
    pub took: Duration,
    /// What the answer was.
    pub status: Status,
    /// Which push it was.
    pub number: u64,
    /// When its load began, in milliseconds since 1970.
    pub began_ms: u64,
}

/// Result of a load: all samples.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All pushes, in no particular order.
    pub samples: Vec<Sample>,
    /// How long it took until all were answered.
    pub elapsed: Duration,
    /// Answers that nobody had asked for: bytes on a connection with no request open.
    pub extra_answers: u64,
}

impl Outcome {
    /// Counts the pushes that were answered so.
    #[must_use]
    pub fn count(&self, status: Status) -> u64 {
        self.samples.iter().filter(|sample| sample.status == status).count() as u64
    }

    /// The latency below which `share` of the pushes lie that `chosen` selects, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, share: f64, chosen: impl Fn(&Sample) -> bool) -> f64 {
        let mut times: Vec<_> =
            self.samples.iter().filter(|sample| chosen(sample)).map(|sample| sample.took).collect();
        times.sort_unstable();
        let index = (share * times.len().saturating_sub(1) as f64) as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

/// Sends for `time` on a runtime of its own.
pub fn run(load: &Load, time: Duration) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let load = Arc::new(load.clone());
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for number in 0..load.connections {
            connections.spawn(converse(Arc::clone(&load), number, started, time));
        }
        let mut all = Outcome::default();
        while let Some(done) = connections.join_next().await {
            let (samples, extra_answers) = done?;
            all.samples.extend(samples);
            all.extra_answers += extra_answers;
        }
        all.elapsed = started.elapsed();
        Ok(all)
    })
}

static SOURCES: AtomicU32 = AtomicU32::new(0);

/// Sends some pushes with a key, one after the other, and returns the bodies of the answers. Each comes from
/// another address, as a proxy would say: who tries wrong keys too often is told nothing more.
pub fn answers(address: SocketAddr, key: &str, count: u64) -> anyhow::Result<Vec<String>> {
    let load = Load {
        address,
        prefixes: vec![format!("/t/{key}")],
        platforms: vec!["apple_rn-v2"],
        devices: 0,
        first: FIRST_UNRECONCILED,
        connections: 1,
        per_second: None,
        padding: 0,
        calls: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut answers = Vec::new();
        let (mut request, mut response) = (Vec::new(), vec![0; 4096]);
        for number in 0..count {
            write_request(&mut request, &load, load.first + number, number);
            let [_, _, high, low] = SOURCES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let from = format!("\r\nX-Forwarded-For: 198.18.{high}.{low}\r\n\r\n");
            let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
            request.splice(end..end + 4, from.into_bytes());
            let mut stream = None;
            let exchange = exchange(&mut stream, address, &request, &mut response);
            timeout(GIVE_UP, exchange).await??;
            let text = String::from_utf8_lossy(&response);
            let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
            answers.push(body.trim_end_matches('\0').trim().to_owned());
            response.fill(0);
        }
        Ok(answers)
    })
}

async fn converse(load: Arc<Load>, number: usize, started: Instant, time: Duration) -> (Vec<Sample>, u64) {
    let mut stream = None;
    let (mut samples, mut extra_answers) = (Vec::new(), 0);
    let began_ms = now_ms().saturating_sub(started.elapsed().as_millis() as u64);
    let (mut request, mut response) = (Vec::new(), vec![0; 4096]);
    let step = load.per_second.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    let mut random = 0x9e37_79b9_u64.wrapping_mul(number as u64 + 1);
    for turn in 0_u32.. {
        let at = match step {
            None => started.elapsed(),
            Some(step) => step.mul_f64(number as f64 / load.connections as f64) + step * turn,
        };
        if at >= time {
            break;
        }
        if step.is_some() {
            sleep_until(started + at).await;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let push = load.first + u64::from(turn) * load.connections as u64 + number as u64;
        let device = if load.devices == 0 { push } else { (random >> 33) % u64::from(load.devices) };
        write_request(&mut request, &load, push, device);
        match stream.as_ref().map(idle_state) {
            Some(IdleState::Over) => stream = None,
            Some(IdleState::Unasked) => {
                extra_answers += 1;
                stream = None;
            }
            Some(IdleState::Quiet) | None => {}
        }
        let exchange = exchange(&mut stream, load.address, &request, &mut response);
        // A service answers within 25 s, whatever happens.
        let status =
            timeout(GIVE_UP, exchange).await.map_or(Status::Lost, |done| done.unwrap_or(Status::Lost));
        if status == Status::Lost {
            stream = None;
        }
        samples.push(Sample {
            at,
            took: (started.elapsed()).saturating_sub(at),
            status,
            number: push,
            began_ms,
        });
    }
    (samples, extra_answers)
}

/// Sends one request and reads its answer; connects first if there is no connection.
async fn exchange(
    stream: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
    response: &mut [u8],
) -> std::io::Result<Status> {
    let connected = if let Some(stream) = stream {
        stream
    } else {
        let new = TcpStream::connect(address).await?;
        new.set_nodelay(true)?;
        stream.insert(new)
    };
    connected.write_all(request).await?;
    let mut read = 0;
    // An answer ends with the line feed behind its JSON.
    while !response[..read].ends_with(b"}\n") {
        let more = connected.read(&mut response[read..]).await?;
        if more == 0 {
            return Ok(Status::Lost);
        }
        read += more;
    }
    let says = |word: &[u8]| response[..read].windows(word.len()).any(|part| part == word);
    Ok(if says(b"\"OK\"") {
        Status::Ok
    } else if says(b"\"REMOVE\"") {
        Status::Remove
    } else if UNSENT.iter().any(|code| says(code)) {
        Status::Unsent
    } else {
        Status::Fail
    })
}

/// How an idle connection is.
enum IdleState {
    Quiet,
    /// The other side has closed it; it is not used again, as every client does.
    Over,
    /// Something came that nobody asked for.
    Unasked,
}

fn idle_state(stream: &TcpStream) -> IdleState {
    match stream.try_read(&mut [0; 1]) {
        Ok(0) => IdleState::Over,
        Ok(_) => IdleState::Unasked,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => IdleState::Quiet,
        Err(_) => IdleState::Over,
    }
}

fn now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "compared with the times of another process")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_millis() as u64
}

/// A message as a stock server writes it: some 580 bytes, with a signature.
fn write_request(request: &mut Vec<u8>, load: &Load, number: u64, device: u64) {
    let in_turn = device as usize;
    let prefix = &load.prefixes[in_turn % load.prefixes.len()];
    let platform = load.platforms[in_turn % load.platforms.len()];
    let body = format!(
        r#"{{"ack_id":"{number:026x}","platform":"{platform}","server_id":"8wfsxkz1ntr1ue8yf6sba9anqc","device_id":"{device:064x}","post_id":"8ydn8ctqcbbz5m9o8yhpz9oste","category":"CAN_REPLY","message":"@bob: did you see the numbers of last week? :+1:{padding}","badge":3,"team_id":"7z1jfoyk9ibafb4f7jsqgmkfqe","channel_id":"kjrs7q1ij3g5pnsbxrrdjuk54o","channel_name":"Town Square","type":"message"{call},"sender_id":"3p5ekq7gs3dcipy1bxcqxwfbhe","sender_name":"bob","version":"v2","is_crt_enabled":false,"is_id_loaded":false,"signature":"eyJhbGciOiJFUzI1NiJ9.eyJhY2tfaWQiOiJrIn0.c2ln"}}"#,
        padding = "x".repeat(load.padding),
        call = if load.calls > 0 && number.is_multiple_of(load.calls) { CALL } else { "" },
    );
    request.clear();
    // Writing into memory cannot fail.
    let _ = write!(
        request,
        "POST {prefix}/api/v1/send_push HTTP/1.1\r\nHost: push.example.com\r\nUser-Agent: Mattermost-Bot/1.1\r\nContent-Length: {}\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    );
}
