//! `hpns send`: one push from the command line, with the time of each part.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  HPNS_PUSH_URL=http://127.0.0.1:8066/t/KEY hpns send --platform apple_rn-v2 --message 'Hello' < token.txt\n  hpns send --url http://127.0.0.1:8066 --platform android_rn-v2 --type test < token.txt\n\nExit status: 0 for OK, 1 for FAIL or no answer, 3 for REMOVE, 2 for a wrong command line."
)]
pub(crate) struct SendOptions {
    /// The push URL of a service that asks no key. One with a key in it stands in the variable `HPNS_PUSH_URL`: on a command
    /// line other users of the machine would read it. The device token is read from standard input.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Platform name, such as apple_rn-v2 or android_rn-v2.
    #[arg(long)]
    pub(crate) platform: String,
    /// Text to show.
    #[arg(long, default_value = "A test push from hpns")]
    pub(crate) message: String,
    /// Title to show.
    #[arg(long, default_value = "hpns")]
    pub(crate) channel_name: String,
    /// `message`, `clear`, `update_badge`, `session` or `test`.
    #[arg(long = "type", default_value = "message", value_name = "TYPE")]
    pub(crate) kind: String,
}

const ROUTE: &str = "/api/v1/send_push";
/// A stock server waits as long.
const TIMEOUT: Duration = Duration::from_secs(30);
const REMOVED: u8 = 3;
const MAX_TOKEN_BYTES: u64 = 8192;

#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
}

/// Sends, and prints the answer and each hop.
pub(crate) fn run(options: SendOptions) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(options))
}

/// The push URL: of a variable, or one without a key.
#[expect(clippy::disallowed_methods, reason = "a secret must not stand on a command line")]
fn push_url(given: Option<String>) -> anyhow::Result<String> {
    let Some(url) = given else {
        return std::env::var("HPNS_PUSH_URL").context("a push URL is needed: HPNS_PUSH_URL, or --url");
    };
    ensure!(!holds_a_key(&url), "--url: a licence key does not belong on a command line; use HPNS_PUSH_URL");
    Ok(url)
}

fn holds_a_key(url: &str) -> bool {
    url.contains("/t/") || url.contains('@')
}

/// The device token, as the first line of standard input.
fn device_token() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_TOKEN_BYTES).read_line(&mut line).context("standard input")?;
    let token = line.trim().to_owned();
    ensure!(!token.is_empty(), "a device token is expected on standard input");
    Ok(token)
}

async fn send(options: SendOptions) -> anyhow::Result<ExitCode> {
    let (base, token) = (push_url(options.url)?, device_token()?);
    let body = json!({
        "server_id": "hpns-send",
        "platform": options.platform,
        "device_id": token,
        "type": options.kind,
        "version": "v2",
        "badge": if options.kind == "message" { 1 } else { -1 },
        "channel_name": options.channel_name,
        "message": options.message,
    });
    let base = base.trim_end_matches('/');
    let url = format!("{}{ROUTE}", base.strip_suffix(ROUTE).unwrap_or(base));
    let client =
        reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
    let started = Instant::now();
    let request = client.post(&url).header("x-hpns-timing", "1").body(body.to_string());
    // The URL holds the licence key: errors must not repeat it.
    let response =
        request.send().await.map_err(reqwest::Error::without_url).context("the push URL does not answer")?;
    let status = response.status();
    let timing = header(&response, "server-timing");
    let id = header(&response, "x-request-id");
    let text = response.text().await.map_err(reqwest::Error::without_url)?;
    let round_trip = started.elapsed();
    let Ok(answer) = serde_json::from_str::<Answer>(&text) else {
        anyhow::bail!("HTTP {status}: this is not the answer of a push service; is the push URL right?");
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "answer       {}{}",
        answer.status,
        answer.error.map(|error| format!("  {error}")).unwrap_or_default()
    )?;
    if !id.is_empty() {
        writeln!(out, "request id   {id}")?;
    }
    for (name, value) in hops(&timing) {
        writeln!(out, "{name:<12} {value}")?;
    }
    writeln!(out, "round trip   {:.3} ms", round_trip.as_secs_f64() * 1000.0)?;
    Ok(match answer.status.as_str() {
        "OK" => ExitCode::SUCCESS,
        "REMOVE" => ExitCode::from(REMOVED),
        _ => ExitCode::FAILURE,
    })
}

fn header(response: &reqwest::Response, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Reads `Server-Timing`: `queue;dur=0.1, attempts;desc="1"`.
fn hops(timing: &str) -> Vec<(String, String)> {
    let entry = |text: &str| {
        let (name, value) = text.trim().split_once(';')?;
        let (kind, value) = value.split_once('=')?;
        let value = value.trim_matches('"');
        Some((name.to_owned(), if kind == "dur" { format!("{value} ms") } else { value.to_owned() }))
    };
    timing.split(',').filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hop_is_shown_with_its_time() {
        let hops = hops("queue;dur=0.120, provider;dur=3.5, attempts;desc=\"2\"");

        let shown: Vec<_> = hops.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(shown, ["queue 0.120 ms", "provider 3.5 ms", "attempts 2"]);
    }
}
