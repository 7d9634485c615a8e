//! A CONNECT proxy (RFC 9110, section 9.3.6), as companies have one at their border.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::record::Record;

const MAX_HEAD_BYTES: usize = 8192;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What every tunnel shares.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) record: Arc<Record>,
    /// `user:password`, if callers have to say who they are.
    pub(crate) login: Option<String>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Proxy {
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let proxy = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = proxy.stop.cancelled() => {}
                    () = proxy.tunnel(stream) => {}
                }
            });
        }
    }

    async fn tunnel(&self, mut stream: TcpStream) {
        let head = tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream)).await;
        let Ok(Some(head)) = head else { return };
        let refusal = match self.target(&head) {
            Ok(target) => match TcpStream::connect(&target).await {
                Ok(mut server) => {
                    self.record.tunnelled(&target);
                    let _ = (stream.set_nodelay(true), server.set_nodelay(true));
                    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
                        let _ = copy_bidirectional(&mut stream, &mut server).await;
                    }
                    return;
                }
                Err(_) => "502 Bad Gateway",
            },
            Err(refusal) => refusal,
        };
        let answer = format!(
            "HTTP/1.1 {refusal}\r\nProxy-Authenticate: Basic realm=\"sim\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    /// Reads where the caller wants to go, if it may.
    fn target(&self, head: &str) -> Result<String, &'static str> {
        let mut lines = head.split("\r\n");
        let mut request = lines.next().unwrap_or_default().split(' ');
        let (Some("CONNECT"), Some(target)) = (request.next(), request.next()) else {
            return Err("405 Method Not Allowed");
        };
        if let Some(login) = &self.login {
            let given = lines.find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("proxy-authorization").then_some(value.trim())
            });
            if given != Some(&format!("Basic {}", STANDARD.encode(login))) {
                return Err("407 Proxy Authentication Required");
            }
        }
        Ok(target.to_owned())
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD_BYTES {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
