//! TLS listener of a simulated provider: accepts connections and hands them to a service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::fault::{AcceptMode, FaultController};
use crate::http2::{Service, serve_connection};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept, such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// TLS listener.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) expired: TlsAcceptor,
    pub(crate) controller: Arc<FaultController>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) connections: Arc<AtomicU64>,
}

impl Port {
    /// Serves connections; `service` makes one for each, and gets the client's certificate.
    pub(crate) async fn serve<S, F>(self, listener: TcpListener, service: F)
    where
        S: Service + Send + 'static,
        F: Fn(Option<CertificateDer<'static>>) -> S + Send + Sync + 'static,
    {
        let service = Arc::new(service);
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let id = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
            let (port, service) = (self.clone(), Arc::clone(&service));
            self.tasks.spawn(async move {
                tokio::select! {
                    () = port.stop.cancelled() => {}
                    () = port.serve_connection(stream, id, &*service) => {}
                }
            });
        }
    }

    async fn serve_connection<S: Service>(
        &self,
        stream: TcpStream,
        id: u64,
        service: &(dyn Fn(Option<CertificateDer<'static>>) -> S + Send + Sync),
    ) {
        let _ = stream.set_nodelay(true);
        let acceptor = match self.controller.profile().door {
            AcceptMode::Open => &self.acceptor,
            AcceptMode::Expired => &self.expired,
            AcceptMode::Shut => return,
            AcceptMode::Dark => return std::future::pending().await,
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
        let Ok(Ok(transport)) = handshake else {
            debug!(connection = id, "TLS handshake failed");
            return;
        };
        if transport.get_ref().1.alpn_protocol() != Some(b"h2") {
            debug!(connection = id, "the client does not speak HTTP/2");
            return;
        }
        let certificate = transport.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let service = service(certificate.map(CertificateDer::into_owned));
        if let Err(error) = serve_connection(transport, id, service, self.controller.subscribe()).await {
            debug!(connection = id, %error, "connection ended");
        }
    }
}
