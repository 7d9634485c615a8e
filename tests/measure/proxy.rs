//! TCP fault proxy, which also spreads connections over several targets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Fault of the proxy: what it does with every byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Passes it on.
    #[default]
    None,
    /// Passes it on so much later.
    Delay(Duration),
    /// Passes it on in pieces of so many bytes.
    Slice(usize),
    /// Keeps it, and says nothing: a connection that is half open.
    Blackhole,
    /// Ends every connection at once.
    Refuse,
}

/// A running proxy; its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Shared {
    targets: Mutex<Vec<SocketAddr>>,
    turn: Mutex<usize>,
    fault: watch::Sender<Fault>,
    /// Grows whenever all connections are cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy on a free port of loopback.
    pub fn start(targets: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            targets: Mutex::new(targets),
            turn: Mutex::default(),
            fault: watch::Sender::default(),
            cuts: watch::Sender::default(),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _runtime: runtime })
    }

    /// Sends new connections to these targets, in turn.
    pub fn target(&self, targets: Vec<SocketAddr>) {
        *lock(&self.shared.targets) = targets;
    }

    /// Misbehaves from now on; connections that are there do so too.
    pub fn misbehave(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the proxy")]
        tokio::spawn(async move {
            let mut cuts = shared.cuts.subscribe();
            tokio::select! {
                _ = cuts.changed() => {}
                () = connect(client, &shared) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, shared: &Shared) {
    if *shared.fault.borrow() == Fault::Refuse {
        return;
    }
    let Some(server) = next(shared).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // As soon as one side ends, so does the other: a reset stays a reset.
    tokio::select! {
        () = copy(from_client, to_server, shared.fault.subscribe()) => {}
        () = copy(from_server, to_client, shared.fault.subscribe()) => {}
    }
}

/// Connects to the next target that is there.
async fn next(shared: &Shared) -> Option<TcpStream> {
    let targets = lock(&shared.targets).clone();
    for _ in 0..targets.len() {
        let target = {
            let mut turn = lock(&shared.turn);
            *turn = (*turn + 1) % targets.len();
            targets[*turn]
        };
        if let Ok(stream) = TcpStream::connect(target).await {
            return Some(stream);
        }
    }
    None
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..read];
        let now = *fault.borrow_and_update();
        let written = match now {
            Fault::None => to.write_all(bytes).await,
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                to.write_all(bytes).await
            }
            Fault::Slice(size) => {
                let mut written = Ok(());
                for piece in bytes.chunks(size.max(1)) {
                    written = to.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                written
            }
            Fault::Blackhole => {
                // Until the fault is over; then what was kept arrives late.
                let over = fault.wait_for(|fault| *fault != Fault::Blackhole).await.is_ok();
                if !over {
                    return;
                }
                to.write_all(bytes).await
            }
            Fault::Refuse => return,
        };
        if written.is_err() {
            return;
        }
    }
}
