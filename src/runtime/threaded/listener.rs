//! Listening: binds ports, accepts connections and deals them out to the workers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::warn;
use mio::Token;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::connection::{Connection, OutputLimits, SharedLimit};
use super::controller::{Newcomer, Shared};
use crate::runtime::session::Session;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How the connections of one listener are treated.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Whose connections these are, for the log: `clients`, `peers`.
    pub name: String,
    /// How many connections there may be; more are closed at once.
    pub seats: Seats,
    /// What they are told before they are closed.
    pub farewell: Vec<u8>,
    /// Most bytes queued for one connection; more break it.
    pub max_output_bytes: usize,
    /// Most bytes queued for all of them; beyond that, those break that have most of it.
    pub max_total_output_bytes: usize,
    /// A connection that has been silent for so long (whole seconds, at least one) is probed now and then, so that one
    /// whose other side vanished without a word is noticed.
    pub keepalive: Duration,
}

/// Makes the session of an accepted connection.
pub(super) type SessionFactory = Arc<dyn Fn(&Arc<Connection>) -> Box<dyn Session> + Send + Sync>;

/// How many connections there may be at a time, through all doors that share them.
#[derive(Clone, Debug)]
pub struct Seats {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// The place of one open connection, given back when it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Seats {
    /// So many.
    pub fn new(limit: usize) -> Self {
        Seats { taken: Arc::default(), limit }
    }

    /// One of them, if one is left.
    pub fn take(&self) -> Option<Seat> {
        let seat = Seat(Arc::clone(&self.taken));
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.limit).then_some(seat)
    }

    /// How many may be taken.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
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
    limits: OutputLimits,
    /// The system refused the last time.
    failing: bool,
}

impl Listener {
    pub(super) fn new(token: Token, listener: TcpListener, options: ListenOptions, session: SessionFactory) -> Self {
        let shared = SharedLimit { limit_bytes: options.max_total_output_bytes, queued_bytes: AtomicUsize::new(0) };
        let limits = OutputLimits { own_bytes: options.max_output_bytes, shared: Some(Arc::new(shared)) };
        Listener { token, listener, options, session, limits, failing: false }
    }

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
        let Some(seat) = self.options.seats.take() else {
            return self.turn_away(stream, peer, shared);
        };
        let silence = self.options.keepalive.max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence);
        let prepared = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        if prepared.is_err() {
            // Closed by the other side already.
            return;
        }
        let (id, factory, limits) = (shared.next_id(), self.session.clone(), self.limits.clone());
        let session = Box::new(move |connection: &Arc<Connection>| factory(connection));
        shared.place(Newcomer { id, stream, peer, limits, session, seat: Some(seat) });
    }

    fn turn_away(&self, stream: TcpStream, peer: SocketAddr, shared: &Shared) {
        // The farewell is a courtesy: what the socket does not take at once is lost. Reading what the other side has said
        // already keeps the kernel from resetting the connection under it.
        let _ = (&stream).write(&self.options.farewell);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = (&stream).read(&mut [0; 4096]);
        if let Some(suppressed) = shared.log_limit.admit() {
            let (name, limit) = (&self.options.name, self.options.seats.limit());
            warn!("turned {peer} away: there are {limit} connections of {name} already{suppressed}");
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
