//! System tests: TLS that the service terminates itself.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Deployment, ios, put};
use crate::http::post;

/// Writes a certificate of its own and its key.
fn write_certificate(directory: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    put(&directory.join("tls.pem"), &certificate.pem());
    put(&directory.join("tls-key.pem"), &key.serialize_pem());
}

/// A client that trusts the certificate of the moment, and keeps its tickets.
fn client(directory: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("tls.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Sends one push and returns the answer and how the handshake went; `None` if there was none.
async fn push(deployment: &Deployment, client: &TlsConnector) -> Option<(String, HandshakeKind)> {
    let tcp = TcpStream::connect(deployment.service.gateway).await.unwrap();
    let mut tls = client.connect(ServerName::try_from("localhost").unwrap(), tcp).await.ok()?;
    let request = post("/api/v1/send_push", ios(json!({})).to_string().as_bytes());
    let request =
        String::from_utf8(request).unwrap().replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    Some((answer, tls.get_ref().1.handshake_kind().unwrap()))
}

fn with_tls() -> Deployment {
    Deployment::with_simulator(
        |_| {},
        |_, config| {
            let directory = config.split('"').nth(1).unwrap().to_owned();
            write_certificate(Path::new(&directory));
            config
                + "\n[gateway.tls]\ncertificate_file = \"tls.pem\"\nkey_file = \"tls-key.pem\"\n[credentials]\npoll_ms = 20\n"
        },
    )
}

#[tokio::test]
async fn a_push_over_tls_is_answered_and_the_next_connection_resumes_the_session() {
    let deployment = with_tls();
    let client = client(deployment.directory.path());
    let mut kinds = Vec::new();
    // The threads accept each other's tickets.
    for _ in 0..6 {
        let (answer, kind) = push(&deployment, &client).await.unwrap();
        assert!(answer.contains(r#"{"status":"OK"}"#), "{answer}");
        kinds.push(kind);
    }

    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let deployment = with_tls();
    let directory = deployment.directory.path();
    write_certificate(directory);
    deployment.service.until_logged("the listener has a new certificate").await;
    assert!(push(&deployment, &client(directory)).await.is_some());

    // A look between the two files of a new pair counts, too.
    let failures = || deployment.metric("listener_certificate_reload_failures_total", "");
    let before = failures().await;
    let client = client(directory);
    put(&directory.join("tls.pem"), "junk");
    deployment.service.until_logged("not a PEM file with X.509 certificates").await;
    assert!(push(&deployment, &client).await.is_some(), "the old certificate is still served");
    std::fs::remove_file(directory.join("tls-key.pem")).unwrap();
    deployment.service.until_logged("`gateway.tls.key_file`: cannot read").await;
    assert!(push(&deployment, &client).await.is_some());
    assert_eq!(failures().await, before + 2.0);
    assert!(deployment.metric("listener_certificate_days_left", "").await > 1000.0);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_nothing_and_harms_nothing() {
    let deployment = with_tls();
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;

    assert!(!answer.starts_with(b"HTTP"));
    assert!(push(&deployment, &client(deployment.directory.path())).await.is_some());
}

/// The simulator is for customers too, and their clients stand on OpenSSL: curl, Python.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_openssl_believes_the_simulator() {
    let deployment = Deployment::start();
    let configuration = deployment.simulator.configuration();
    let endpoint = configuration.split("endpoint = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let authority = deployment.simulator.ca_file();

    let asked = tokio::task::spawn_blocking(move || {
        std::process::Command::new("curl")
            .args(["-sS", "--http2", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{}"])
            .arg("--cacert")
            .arg(authority)
            .arg(format!("https://{endpoint}/3/device/{}", "ab".repeat(32)))
            .output()
            .unwrap()
    });
    let output = asked.await.unwrap();

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // Without a token Apple refuses it; but it was asked.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "403");
}
