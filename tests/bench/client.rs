//! The load: keep-alive connections that each send a push, wait for the answer, and go on.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What to send, and from how many connections.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) keys: Vec<String>,
    pub(crate) platform: &'static str,
    pub(crate) tokens: u32,
    pub(crate) connections: usize,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
}

/// Sends for `time`.
pub(crate) fn run(load: &Load, time: Duration) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let load = Arc::new(load.clone());
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for number in 0..load.connections {
            connections.spawn(converse(Arc::clone(&load), number, started + time));
        }
        let mut all = Outcome::default();
        while let Some(one) = connections.join_next().await {
            let one = one??;
            all.latencies_us.extend(one.latencies_us);
            all.failed += one.failed;
        }
        all.elapsed = started.elapsed();
        Ok(all)
    })
}

async fn converse(load: Arc<Load>, number: usize, end: Instant) -> anyhow::Result<Outcome> {
    let mut stream = TcpStream::connect(load.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut outcome = Outcome::default();
    let (mut request, mut response) = (Vec::new(), vec![0; 4096]);
    let mut random = 0x9e37_79b9_u64.wrapping_mul(number as u64 + 1);
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(outcome);
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write_request(&mut request, &load, (random >> 33) as u32)?;
        stream.write_all(&request).await?;
        let mut read = 0;
        // An answer ends with the line feed behind its JSON.
        while !response[..read].ends_with(
            b"}
",
        ) {
            let more = stream.read(&mut response[read..]).await?;
            ensure!(more > 0, "the service closed a connection");
            read += more;
        }
        if response[..read].windows(4).any(|four| four == b"\"OK\"") {
            outcome.latencies_us.push(u32::try_from(now.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else {
            outcome.failed += 1;
        }
    }
}

/// A message as a stock server writes it: some 580 bytes, with a signature.
fn write_request(request: &mut Vec<u8>, load: &Load, random: u32) -> anyhow::Result<()> {
    let token = random % load.tokens;
    let key = &load.keys[token as usize % load.keys.len()];
    let body = format!(
        r#"{{"ack_id":"kyrk5x1kd3yr7ycwqcs6xg{token:04}","platform":"{}","server_id":"8wfsxkz1ntr1ue8yf6sba9anqc","device_id":"{:064x}","post_id":"8ydn8ctqcbbz5m9o8yhpz9oste","category":"CAN_REPLY","message":"@bob: did you see the numbers of last week? :+1:","badge":3,"team_id":"7z1jfoyk9ibafb4f7jsqgmkfqe","channel_id":"kjrs7q1ij3g5pnsbxrrdjuk54o","channel_name":"Town Square","type":"message","sender_id":"3p5ekq7gs3dcipy1bxcqxwfbhe","sender_name":"bob","version":"v2","is_crt_enabled":false,"is_id_loaded":false,"signature":"eyJhbGciOiJFUzI1NiJ9.eyJhY2tfaWQiOiJrIn0.c2ln"}}"#,
        load.platform, token
    );
    request.clear();
    write!(
        request,
        "POST /t/{key}/api/v1/send_push HTTP/1.1\r\nHost: push.example.com\r\nUser-Agent: Mattermost-Bot/1.1\r\nContent-Length: {}\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}
