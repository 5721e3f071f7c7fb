//! The thread, the port and the connections.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use crossbeam_channel::{Receiver, Sender};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};

use super::node::HTTP_CONNECTIONS;
use super::socket::{Client, Patient};
use super::{Gateway, HttpOptions, routes};
#[cfg(feature = "async")]
use crate::runtime::asynchronous::spawn_guarded_task;
use crate::runtime::sockets::{ACCEPT_PAUSE, is_the_others_fault};
use crate::runtime::{Input, LogLimit, NodeHandle, spawn_guarded};

/// How long a request's body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take to send the next request's head, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take none of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes. It has at most 100 headers.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// A client that has been silent for so long is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The service. Dropping it ends it at once.
pub struct HttpServer {
    phase: watch::Sender<Phase>,
    /// Disconnected when the last connection has ended.
    ended: Receiver<()>,
    /// Its own, if it has one.
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// What has begun is finished.
    Closing,
    Over,
}

impl HttpServer {
    /// Serves this port, for this node, until it is stopped.
    ///
    /// # Errors
    /// The system cannot watch the port, or start a thread.
    pub fn start(options: HttpOptions, node: NodeHandle, listener: TcpListener, name: &str) -> io::Result<HttpServer> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let panicked = node.clone();
        let (mut server, serving) = HttpServer::open(runtime.handle(), options, node, listener)?;
        let run = move || {
            runtime.block_on(serving);
            // Whatever is left ends with it.
            runtime.shutdown_background();
        };
        let panicked = move |reason| panicked.deliver(Input::Failed { reason });
        let thread = spawn_guarded(format!("{name}-http"), run, panicked)?;
        server.thread = Some(thread);
        Ok(server)
    }

    /// The same with tasks of a runtime that is there already.
    ///
    /// # Errors
    /// The system cannot watch the port.
    #[cfg(feature = "async")]
    pub fn start_on(
        tasks: &Handle,
        options: HttpOptions,
        node: NodeHandle,
        listener: TcpListener,
    ) -> io::Result<HttpServer> {
        let panicked = node.clone();
        let (server, serving) = HttpServer::open(tasks, options, node, listener)?;
        spawn_guarded_task(tasks, "http", serving, move |reason| panicked.deliver(Input::Failed { reason }));
        Ok(server)
    }

    /// The service, and what is to be run for it.
    fn open(
        tasks: &Handle,
        options: HttpOptions,
        node: NodeHandle,
        listener: TcpListener,
    ) -> io::Result<(HttpServer, impl Future<Output = ()> + use<>)> {
        listener.set_nonblocking(true)?;
        let _inside = tasks.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (phase, phases) = watch::channel(Phase::Serving);
        let (end, ended) = crossbeam_channel::bounded(0);
        let gateway = Gateway::new(options, node, phases.clone());
        let serving = async move {
            serve(gateway, listener, phases).await;
            drop::<Sender<()>>(end);
        };
        Ok((HttpServer { phase, ended, thread: None }, serving))
    }

    /// No new connections and requests from now on. Those that wait for messages are answered, the others when the node
    /// answers them.
    pub fn close(&self) {
        self.phase.send_replace(Phase::Closing);
    }

    /// Waits until everything is answered, for `patience` at most, and ends.
    pub fn stop(self, patience: Duration) {
        self.close();
        // Nothing is sent.
        let _ = self.ended.recv_timeout(patience);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
        if let Some(thread) = self.thread.take() {
            // Had it panicked, it would have said so.
            let _ = thread.join();
        }
    }
}

/// Accepts connections while the service is open, and waits for those that are up.
async fn serve(gateway: Arc<Gateway>, listener: tokio::net::TcpListener, mut phases: watch::Receiver<Phase>) {
    let log_limit = LogLimit::default();
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let mut closing = phases.clone();
    let mut next_id = HTTP_CONNECTIONS;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|phase| *phase != Phase::Serving) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_the_others_fault(&error) => continue,
            Err(error) => {
                if let Some(suppressed) = log_limit.admit() {
                    log::warn!("cannot accept connections of HTTP clients for now: {error}{suppressed}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = gateway.options.seats.take() else {
            if let Some(suppressed) = log_limit.admit() {
                let limit = gateway.options.seats.limit();
                log::warn!("turned an HTTP client away: there are {limit} connections of clients already{suppressed}");
            }
            gateway.traffic.turned_away.add(1);
            turn_away(&stream);
            continue;
        };
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        if stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive)).is_err() {
            // Closed by the other side already.
            continue;
        }
        next_id += 1;
        let served = serve_connection(Arc::clone(&gateway), stream, next_id, phases.clone());
        let alive = alive.clone();
        tokio::spawn(async move {
            served.await;
            drop((seat, alive));
        });
    }
    drop((listener, alive));
    tokio::select! {
        _ = ended.recv() => {}
        _ = phases.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

async fn serve_connection(gateway: Arc<Gateway>, stream: TcpStream, id: u64, mut phases: watch::Receiver<Phase>) {
    let stream = Arc::new(stream);
    let client = Client::new(id, Some(Arc::clone(&stream)));
    let socket = Patient::new(stream, WRITE_TIMEOUT, Arc::clone(&gateway.traffic));
    let service = service_fn(move |request: Request<Incoming>| {
        let (gateway, client) = (Arc::clone(&gateway), client.clone());
        async move { Ok::<_, Infallible>(routes::dispatch(gateway, client, request.map(Body::new)).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // A client that has nothing more to say still reads.
            .half_close(true)
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service)
    );
    // However a connection ends, there is nobody left to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = phases.wait_for(|phase| *phase != Phase::Serving) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Tells a client beyond the limit, as far as its socket takes it at once.
fn turn_away(stream: &TcpStream) {
    let body = r#"{"success": false, "error": "too_many_connections", "message": "there are too many connections"}"#;
    let farewell = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Raft-Error: too_many_connections\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let socket = SockRef::from(stream);
    let _ = socket.send(farewell.as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // What it has said already would make the kernel reset the connection, farewell and all.
    let _ = stream.try_read(&mut [0; 4096]);
}
