//! Idle TLS sockets: silent after the handshake.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use system_tests::hosted::Secure;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Sockets in a thread of their own.
pub(crate) struct Idle {
    thread: JoinHandle<anyhow::Result<Vec<Option<Duration>>>>,
}

impl Idle {
    /// Begins to open so many, and to wait until the other side closes each.
    pub(crate) fn open(secure: &Secure, sockets: usize) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(secure.certificate.clone())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (connector, address) = (TlsConnector::from(Arc::new(config)), secure.process.address);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut open = JoinSet::new();
                for _ in 0..sockets {
                    let connector = connector.clone();
                    open.spawn(async move {
                        let stream = TcpStream::connect(address).await?;
                        let name = ServerName::try_from("localhost")?;
                        let mut stream = connector.connect(name, stream).await?;
                        let greeted = Instant::now();
                        let ended = timeout(Duration::from_secs(14), stream.read(&mut [0; 64])).await;
                        anyhow::Ok(ended.is_ok().then(|| greeted.elapsed()))
                    });
                }
                let mut closed = Vec::new();
                while let Some(one) = open.join_next().await {
                    closed.push(one??);
                }
                Ok(closed)
            })
        });
        Ok(Self { thread })
    }

    /// Returns how long each stayed open; nothing for one that did not close in 14 s.
    pub(crate) fn closed_after(self) -> anyhow::Result<Vec<Option<Duration>>> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the idle sockets panicked"))?
    }
}
