//! The laws of connections.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::Limits;

fn a_server(limits: Limits) -> (SocketAddr, CancellationToken, TaskTracker) {
    a_server_of(Router::new().route("/", get(|| async { "hello" })), None, limits)
}

fn a_server_of(
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
) -> (SocketAddr, CancellationToken, TaskTracker) {
    let listener = crate::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(serve(listener, tls, router, Edge::new("test", limits), stop.clone(), tasks.clone()));
    (address, stop, tasks)
}

fn quick() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(60),
        idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// Reads until the server closes.
async fn everything(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn a_request_is_answered_with_a_length() {
    let (address, ..) = a_server(Limits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();

    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();

    let answer = everything(stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("content-length: 5"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_only_half_a_header_is_closed() {
    let (address, ..) = a_server(quick());
    let silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();

    assert_eq!(everything(silent).await, "");
    assert_eq!(everything(slow).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_later_than_a_silent_one() {
    let (address, ..) = a_server(quick());
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();

    assert!(everything(stream).await.contains("hello"));
    assert!(began.elapsed() >= Duration::from_millis(300));
}

/// Asks once, reads the answer's first line, and keeps the connection.
async fn asked(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    (stream, String::from_utf8(head.to_vec()).unwrap())
}

#[tokio::test]
async fn a_site_that_is_full_gives_up_its_own_idle_connection() {
    let (address, ..) = a_server(Limits { connections_per_site: 2, ..Limits::default() });
    let (first, _) = asked(address).await;
    let (_second, _) = asked(address).await;

    let (_third, answer) = asked(address).await;

    assert_eq!(answer, "HTTP/1.1 200");
    assert!(everything(first).await.ends_with("hello"), "it was idle the longest, and is closed");
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_in_plain_http_and_over_tls() {
    for is_tls in [false, true] {
        let limits = Limits { connections_per_site: 1, ..Limits::default() };
        let begun = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&begun);
        let stuck = Router::new().route(
            "/",
            get(async move || {
                told.notify_one();
                std::future::pending::<String>().await
            }),
        );
        let (tls, connector) = if is_tls { a_certificate() } else { (None, None) };
        let (address, ..) = a_server_of(stuck, tls, limits);
        let ask = async || -> String {
            let stream = TcpStream::connect(address).await.unwrap();
            let question = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut text = String::new();
            match &connector {
                None => {
                    let mut stream = stream;
                    let _ = stream.write_all(question).await;
                    let _ = stream.read_to_string(&mut text).await;
                }
                Some(connector) => {
                    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                    let Ok(mut stream) = connector.connect(name, stream).await else { return text };
                    let _ = stream.write_all(question).await;
                    let _ = stream.read_to_string(&mut text).await;
                }
            }
            text
        };
        // Until its request has begun, the first one would give its place up.
        let second = async {
            begun.notified().await;
            ask().await
        };
        let refused = tokio::select! { answer = ask() => answer, answer = second => answer };
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("connections_per_site"), "{refused}");
        assert!(refused.to_lowercase().contains("connection: close"), "{refused}");
    }
}

#[tokio::test]
async fn listeners_of_one_edge_count_together() {
    let edge = Edge::new("test", Limits { connections_per_site: 1, ..Limits::default() });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = crate::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        addresses.push(listener.local_addr().unwrap());
        let router = Router::new().route("/", get(|| async { "hello" }));
        tasks.spawn(serve(listener, None, router, Arc::clone(&edge), stop.clone(), tasks.clone()));
    }
    let (first, _) = asked(addresses[0]).await;
    let (_second, answer) = asked(addresses[1]).await;

    assert_eq!(answer, "HTTP/1.1 200");
    assert!(everything(first).await.ends_with("hello"), "it had to make room");
}

#[tokio::test]
async fn who_trickles_a_body_makes_room_and_who_is_answered_does_not() {
    let router = Router::new().route("/", axum::routing::post(|body: axum::body::Bytes| async move { body }));
    let limits = Limits { connections_per_site: 2, ..Limits::default() };
    let (address, ..) = a_server_of(router, None, limits);
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhal").await.unwrap();
        slow.push(stream);
    }

    let mut stream = TcpStream::connect(address).await.unwrap();
    let whole = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    stream.write_all(whole).await.unwrap();
    assert!(everything(stream).await.ends_with("hi"));
    assert_eq!(everything(slow.remove(0)).await, "", "closed");
}

#[tokio::test]
async fn bodies_have_a_size_a_time_and_a_sum() {
    let read = |request: axum::extract::Request| async {
        match crate::read(request.into_body()).await {
            Ok(body) => format!("{} bytes", body.len()),
            Err(fault) => fault.to_string(),
        }
    };
    let router = Router::new().route("/", axum::routing::post(read));
    let limits = Limits {
        max_body_bytes: 100,
        body_bytes: 120,
        // Behind a proxy all callers are one site, which has all of it then.
        connections_per_site: Limits::default().connections,
        body_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let (address, ..) = a_server_of(router, None, limits);
    let send = async |head: &str, rest: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n{rest}");
        stream.write_all(text.as_bytes()).await.unwrap();
        everything(stream).await
    };

    assert!(send("Content-Length: 100", &"x".repeat(100)).await.ends_with("100 bytes"));
    assert!(send("Content-Length: 101", "").await.ends_with("too large"));
    let chunk = format!("65\r\n{}\r\n0\r\n\r\n", "x".repeat(101));
    assert!(send("Transfer-Encoding: chunked", &chunk).await.ends_with("too large"));
    let half = "x".repeat(80);
    let (one, other) = tokio::join!(send("Content-Length: 100", &half), send("Content-Length: 100", &half));
    let faults = [&one, &other].map(|answer| answer.rsplit("\r\n").next().unwrap().to_owned());
    assert!(faults.contains(&"the body took too long to arrive".into()), "{faults:?}");
    assert!(faults.contains(&"too much is arriving at once".into()), "{faults:?}");
    // What was set aside is free again.
    assert!(send("Content-Length: 100", &half).await.ends_with("too long to arrive"));
}

#[tokio::test]
async fn a_body_in_a_coding_that_we_do_not_know_is_refused() {
    let (address, ..) = a_server(Limits::default());
    for coding in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let smuggled = format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{coding}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        stream.write_all(smuggled.as_bytes()).await.unwrap();

        let answer = everything(stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("hello"), "{coding}: {answer}");
    }
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_server() {
    let (address, stop, tasks) = a_server(Limits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();

    stop.cancel();
    tasks.close();

    tasks.wait().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_that_has_said_all_or_too_much_still_gets_its_answer() {
    let (address, ..) = a_server(Limits::default());
    for rest in ["", "half of something"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{rest}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();

        assert!(everything(stream).await.contains("hello"));
    }
}

#[tokio::test]
async fn a_length_beside_chunks_is_ignored_and_the_connection_closed() {
    let (address, ..) = a_server(Limits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();

    let smuggled = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(smuggled).await.unwrap();

    let answer = everything(stream).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

use tokio::time::Instant;

/// A certificate, and a client that trusts it.
fn a_certificate() -> (Option<Tls>, Option<tokio_rustls::TlsConnector>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let secret = |text: String| push_domain::SecretBytes::new(text.into_bytes());
    let tls = Tls::new(&secret(certificate.pem()), &secret(key.serialize_pem())).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Some(tls), Some(Arc::new(config).into()))
}
