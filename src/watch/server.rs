//! The HTTP server: one thread, one request a connection, limits on everything.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_io_timeout::TimeoutStream;

use super::Listen;
use super::connections::{Connections, Place};
use super::guard::Guard;
use super::site::Site;
use crate::board::Board;
use crate::sink::feed::Feed;
use crate::{Error, Result, ending};

/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, and of an answer that waits in this process.
const HEAD: usize = 16 << 10;
/// Bytes that the kernel keeps for a reader. More would only make records old.
const SEND_BUFFER: usize = 128 << 10;
/// A reader that takes nothing for this long is disconnected.
const STANDSTILL: Duration = Duration::from_secs(300);
/// How long readers may take to get the last records.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often those readers are looked after.
const TICK: Duration = Duration::from_millis(10);
/// How long accepting rests after a failure, for example because no file may be opened any more.
const REST: Duration = Duration::from_millis(100);

/// A running server. Dropping it ends it, after readers got the last records.
pub(super) struct Server {
    address: SocketAddr,
    feed: Feed,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(listen: Listen, board: Arc<Board>) -> Result<Self> {
        let Listen { host, port, feed, token } = listen;
        let named = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let refused = |e: io::Error| {
            Error::Usage(match e.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "--listen {named}:{port}: another program listens there; name another port"
                ),
                _ => format!("--listen {named}:{port} is not possible: {e}"),
            })
        };
        let listener = TcpListener::bind((host.as_str(), port)).map_err(refused)?;
        let address = prepare(&listener).map_err(refused)?;
        let guard = Guard::new(token, address);
        let site = Arc::new(Site::new(board, feed.clone(), guard));
        let (stop, stopped) = oneshot::channel();
        let failed = |e| Error::Device(format!("cannot start the server's thread: {e}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("listen".into())
            .spawn(move || runtime.block_on(serve(listener, site, stopped)))
            .map_err(failed)?;
        tracing::info!("listening on http://{address}/");
        Ok(Self { address, feed, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.feed.close();
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the server of --listen had failed");
        }
    }
}

/// The address of a listener that is ready for the server.
fn prepare(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    // Accepted connections inherit it.
    rustix::net::sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    listener.local_addr()
}

/// Serves until `stopped`.
async fn serve(listener: TcpListener, site: Arc<Site>, stopped: oneshot::Receiver<()>) {
    let connections = Connections::default();
    let accepting = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => tokio::spawn(accept(listener, site, connections.clone())),
        Err(error) => return tracing::error!("nobody can be served: {error}"),
    };
    // The other end is dropped.
    let _ = stopped.await;
    accepting.abort();
    connections.close_waiting();
    let most = ending::left().map_or(FAREWELL, |left| left.min(FAREWELL));
    let gone = async {
        while connections.count() > 0 {
            tokio::time::sleep(TICK).await;
        }
    };
    let _ = tokio::time::timeout(most, gone).await;
}

async fn accept(listener: tokio::net::TcpListener, site: Arc<Site>, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a place the connection is closed at once.
                if let Some(place) = connections.admit() {
                    let number = place.number();
                    let task = tokio::spawn(converse(stream, place, site.clone()));
                    connections.waits(number, task.abort_handle());
                }
            }
            Err(error) => {
                tracing::debug!("a connection was not accepted: {error}");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Answers one request. What goes wrong on the way concerns only the one who asked.
async fn converse(stream: TcpStream, place: Place, site: Arc<Site>) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STANDSTILL));
    let answer = service_fn(|request| {
        place.asked();
        let answer = site.answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(HEAD)
        // Whoever asks again connects again: connections that only wait are not worth a place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}
