//! A provider's TLS port: accepts connections and hands them to a service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::conduct::{Conductor, Door};
use crate::http2::{Service, converse};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept, such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One TLS port.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) expired: TlsAcceptor,
    pub(crate) conductor: Arc<Conductor>,
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
                    () = port.converse(stream, id, &*service) => {}
                }
            });
        }
    }

    async fn converse<S: Service>(
        &self,
        stream: TcpStream,
        id: u64,
        service: &(dyn Fn(Option<CertificateDer<'static>>) -> S + Send + Sync),
    ) {
        let _ = stream.set_nodelay(true);
        let acceptor = match self.conductor.conduct().door {
            Door::Open => &self.acceptor,
            Door::Expired => &self.expired,
            Door::Shut => return,
            Door::Dark => return std::future::pending().await,
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
        if let Err(error) = converse(transport, id, service, self.conductor.orders()).await {
            debug!(connection = id, %error, "connection ended");
        }
    }
}
