//! The event controller: a fixed pool of threads that serves all sockets of a node by readiness.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::warn;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Poll, Registry, Token, Waker};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::connection::Connection;
use super::log_limit::LogLimit;
use super::worker::Worker;
use crate::runtime::session::Session;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The waker's token; connections and listeners share the numbers above it.
const WAKER: Token = Token(0);

/// How the pool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerOptions {
    /// Names the threads: `NAME-io-0`, ...
    pub name: String,
    /// Number of threads; 0 counts as 1.
    pub workers: usize,
}

/// How the connections of one listener are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Whose connections these are, for the log: `clients`, `peers`.
    pub name: String,
    /// Most connections at a time; more are closed at once.
    pub max_connections: usize,
    /// What they are told before they are closed.
    pub farewell: Vec<u8>,
    /// Most bytes queued for one connection; more break it.
    pub max_output_bytes: usize,
    /// A connection that has been silent for so long is probed now and then, so that one whose other side vanished without
    /// a word is noticed.
    pub keepalive: Duration,
}

/// Makes the session of an accepted connection.
pub(super) type SessionFactory = Arc<dyn Fn(&Arc<Connection>) -> Box<dyn Session> + Send + Sync>;
/// Makes the session of one connection, in its worker.
pub(super) type MakeSession = Box<dyn FnOnce(&Arc<Connection>) -> Box<dyn Session> + Send>;

/// The pool of threads. Dropping it closes every connection and waits for the threads.
pub struct Controller {
    handle: ControllerHandle,
    threads: Vec<JoinHandle<()>>,
}

/// The way into a [`Controller`], for those who have sockets to serve.
#[derive(Clone)]
pub struct ControllerHandle {
    shared: Arc<Shared>,
}

impl Controller {
    /// Starts the threads.
    pub fn start(options: ControllerOptions) -> io::Result<Controller> {
        let (mut pools, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in 0..options.workers.max(1) {
            let (pool, mailbox) = Mailbox::new()?;
            pools.push(pool);
            mailboxes.push(mailbox);
        }
        let shared = Arc::new(Shared {
            mailboxes,
            turn: AtomicUsize::new(0),
            ids: AtomicU64::new(WAKER.0 as u64 + 1),
            stopping: AtomicBool::new(false),
            log_limit: LogLimit::default(),
        });
        let mut controller = Controller { handle: ControllerHandle { shared: shared.clone() }, threads: Vec::new() };
        for (number, (poll, jobs)) in pools.into_iter().enumerate() {
            let worker = Worker::new(shared.clone(), poll, jobs);
            let name = format!("{}-io-{number}", options.name);
            // If this fails, dropping the controller stops those that are running.
            controller.threads.push(std::thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        Ok(controller)
    }

    /// A way in that can be given away.
    pub fn handle(&self) -> ControllerHandle {
        self.handle.clone()
    }

    /// Closes every connection and listener and waits for the threads. What is queued is not waited for.
    pub fn stop(self) {}
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.handle.shared.stop();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl ControllerHandle {
    /// Serves the connections of a listener. `session` is called for each, in the worker that will own it.
    pub fn listen(
        &self,
        listener: std::net::TcpListener,
        options: ListenOptions,
        session: impl Fn(&Arc<Connection>) -> Box<dyn Session> + Send + Sync + 'static,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let (mailbox, token) = (self.shared.next_mailbox(), Token(self.shared.next_id() as usize));
        mailbox.registry.register(&mut listener, token, Interest::READABLE)?;
        let (open, session) = (Arc::new(AtomicUsize::new(0)), Arc::new(session));
        mailbox.put(Job::Listen(Listener { token, listener, options, session, open, failing: false }));
        Ok(())
    }

    /// Serves a connection that is already up. `session` is called in the worker that will own it; a controller that has
    /// stopped drops it uncalled.
    pub fn adopt(
        &self,
        stream: std::net::TcpStream,
        max_output_bytes: usize,
        session: impl FnOnce(&Arc<Connection>) -> Box<dyn Session> + Send + 'static,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        let (stream, session) = (TcpStream::from_std(stream), Box::new(session));
        let id = self.shared.next_id();
        self.shared.place(Newcomer { id, stream, peer, max_output_bytes, session, seat: None });
        Ok(())
    }
}

/// What all workers share.
pub(super) struct Shared {
    mailboxes: Vec<Mailbox>,
    turn: AtomicUsize,
    ids: AtomicU64,
    stopping: AtomicBool,
    /// For lines that the other side of a connection can cause.
    pub(super) log_limit: LogLimit,
}

impl Shared {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Workers take turns.
    fn next_mailbox(&self) -> &Mailbox {
        &self.mailboxes[self.turn.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len()]
    }

    fn place(&self, newcomer: Newcomer) {
        self.next_mailbox().put(Job::Adopt(newcomer));
    }
}

/// The way to one worker.
struct Mailbox {
    jobs: Sender<Job>,
    waker: Waker,
    registry: Registry,
}

impl Mailbox {
    fn new() -> io::Result<((Poll, Receiver<Job>), Mailbox)> {
        let poll = Poll::new()?;
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let mailbox =
            Mailbox { jobs, waker: Waker::new(poll.registry(), WAKER)?, registry: poll.registry().try_clone()? };
        Ok(((poll, inbox), mailbox))
    }

    /// A worker that has ended needs no more jobs: they are dropped.
    fn put(&self, job: Job) {
        if self.jobs.send(job).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            warn!("cannot wake a worker: {error}");
        }
    }
}

/// Something new for a worker.
pub(super) enum Job {
    /// A connection.
    Adopt(Newcomer),
    /// A listener, already registered.
    Listen(Listener),
}

/// A connection on its way to its worker.
pub(super) struct Newcomer {
    pub(super) id: u64,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) max_output_bytes: usize,
    pub(super) session: MakeSession,
    pub(super) seat: Option<Seat>,
}

/// Counts a listener's open connections: one less when dropped.
pub(super) struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Seat> {
        let seat = Seat(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < limit).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listening socket in its worker.
pub(super) struct Listener {
    pub(super) token: Token,
    listener: TcpListener,
    options: ListenOptions,
    session: SessionFactory,
    open: Arc<AtomicUsize>,
    /// The system refused the last time.
    failing: bool,
}

impl Listener {
    /// Accepts one connection and gives it to a worker. `false`: none is waiting. An error: the system refuses, and will
    /// for a while.
    pub(super) fn accept(&mut self, shared: &Shared) -> Result<bool, ()> {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                if std::mem::take(&mut self.failing) {
                    warn!("connections of {} are accepted again", self.options.name);
                }
                self.welcome(stream, peer, shared);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if is_the_others_fault(&error) => Ok(true),
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("cannot accept connections of {} for now: {error}", self.options.name);
                }
                Err(())
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, shared: &Shared) {
        let Some(seat) = Seat::take(&self.open, self.options.max_connections) else {
            return self.turn_away(stream, peer, shared);
        };
        let keepalive = TcpKeepalive::new().with_time(self.options.keepalive).with_interval(self.options.keepalive);
        let prepared = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        if prepared.is_err() {
            // Closed by the other side already.
            return;
        }
        let (id, factory, max_output_bytes) = (shared.next_id(), self.session.clone(), self.options.max_output_bytes);
        let session = Box::new(move |connection: &Arc<Connection>| factory(connection));
        shared.place(Newcomer { id, stream, peer, max_output_bytes, session, seat: Some(seat) });
    }

    fn turn_away(&self, stream: TcpStream, peer: SocketAddr, shared: &Shared) {
        // The farewell is a courtesy: what the socket does not take at once is lost. Reading what the other side has said
        // already keeps the kernel from resetting the connection under it.
        let _ = io::Write::write(&mut &stream, &self.options.farewell);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = io::Read::read(&mut &stream, &mut [0; 4096]);
        if let Some(suppressed) = shared.log_limit.admit() {
            let ListenOptions { name, max_connections, .. } = &self.options;
            warn!("turned {peer} away: there are {max_connections} connections of {name} already{suppressed}");
        }
    }
}

/// Errors of `accept` that concern the one connection, not the listener.
fn is_the_others_fault(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Listens on a port. `what` tells where the port was configured; the error is for people.
pub fn bind(host: &str, port: u16, what: &str) -> io::Result<std::net::TcpListener> {
    let hint = |error: &io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ": is another node already running?",
        io::ErrorKind::AddrNotAvailable => ": the address does not belong to this machine",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need special rights",
        _ => "",
    };
    let addresses = (host, port).to_socket_addrs();
    addresses
        .and_then(|mut addresses| addresses.next().ok_or(io::ErrorKind::AddrNotAvailable.into()))
        .and_then(bind_address)
        .map_err(|error| {
            let text = format!("cannot listen on {host}:{port} ({what}): {error}{}", hint(&error));
            io::Error::new(error.kind(), text)
        })
}

fn bind_address(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
