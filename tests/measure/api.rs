//! Admin API client of measurements: one connection for each request, and the time that took.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::Instant;

/// Client of the admin API.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// The operator's token.
    pub token: String,
}

impl Api {
    /// Asks once; fails if the answer is no success.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<(Value, Duration)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let began = Instant::now();
        let (token, length) = (&self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIf-Match: *\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let answer = exchange(self.address, &request)?;
        let took = began.elapsed();
        anyhow::ensure!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        let text = answer.split_once("\r\n\r\n").context("no body")?.1;
        Ok((serde_json::from_str(text).unwrap_or_default(), took))
    }

    /// Signs in to the console.
    pub fn sign_in(&self) -> anyhow::Result<Session> {
        let body = format!("token={}", self.token);
        let answer = exchange(
            self.address,
            &format!(
                "POST /sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )?;
        let cookie =
            answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).context("no session")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Session { address: self.address, cookie })
    }

    /// Asks the API.
    pub fn v1(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.ask(method, &format!("/v1{path}"), body)?.0)
    }

    /// Reads a whole list, page by page.
    pub fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.v1("GET", &format!("{path}?limit=100{cursor}"), &Value::Null)?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }
}

/// Signed-in session of the console.
#[derive(Debug, Clone)]
pub struct Session {
    address: SocketAddr,
    cookie: String,
}

impl Session {
    /// Reads a page; returns how long that took.
    pub fn get(&self, path: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let cookie = &self.cookie;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        let answer = exchange(self.address, &request)?;
        let took = began.elapsed();
        anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        Ok(took)
    }
}

fn exchange(address: SocketAddr, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
