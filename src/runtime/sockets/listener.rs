//! Listening: binds ports, and decides which connections may stay.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::warn;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::connection::{OutputLimits, SharedLimit};
use super::{MakeSession, SessionFactory, is_the_others_fault};
use crate::runtime::LogLimit;

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

/// Who gets in through one listener, whatever accepts the connections.
pub(in crate::runtime) struct Door {
    options: ListenOptions,
    session: SessionFactory,
    limits: OutputLimits,
    /// The system refused the last time.
    failing: bool,
}

impl Door {
    pub fn new(options: ListenOptions, session: SessionFactory) -> Self {
        let shared = SharedLimit { limit_bytes: options.max_total_output_bytes, queued_bytes: AtomicUsize::new(0) };
        let limits = OutputLimits { own_bytes: options.max_output_bytes, shared: Some(Arc::new(shared)) };
        Door { options, session, limits, failing: false }
    }

    /// Whether the connection that was accepted, if one was, may stay. An error: the system refuses, and will for a while.
    pub fn admit<S: AsFd>(
        &mut self,
        accepted: io::Result<(S, SocketAddr)>,
        log_limit: &LogLimit,
    ) -> Result<Option<(S, SocketAddr, Seat)>, ()> {
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut self.failing) {
                    warn!("connections of {} are accepted again", self.options.name);
                }
                let seat = self.welcome(&SockRef::from(&stream), peer, log_limit);
                Ok(seat.map(|seat| (stream, peer, seat)))
            }
            Err(error) if is_the_others_fault(&error) => Ok(None),
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("cannot accept connections of {} for now: {error}", self.options.name);
                }
                Err(())
            }
        }
    }

    /// What the connections may queue, and how the session of one is made.
    pub fn terms(&self) -> (OutputLimits, MakeSession) {
        let factory = Arc::clone(&self.session);
        (self.limits.clone(), Box::new(move |connection| factory(connection)))
    }

    fn welcome(&self, socket: &Socket, peer: SocketAddr, log_limit: &LogLimit) -> Option<Seat> {
        let Some(seat) = self.options.seats.take() else {
            self.turn_away(socket, peer, log_limit);
            return None;
        };
        let silence = self.options.keepalive.max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence);
        // If that fails, the other side has closed it already.
        socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive)).ok()?;
        Some(seat)
    }

    fn turn_away(&self, mut socket: &Socket, peer: SocketAddr, log_limit: &LogLimit) {
        // The farewell is a courtesy: what the socket does not take at once is lost. Reading what the other side has said
        // already keeps the kernel from resetting the connection under it.
        let _ = socket.send(&self.options.farewell);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read(&mut [0; 4096]);
        if let Some(suppressed) = log_limit.admit() {
            let (name, limit) = (&self.options.name, self.options.seats.limit());
            warn!("turned {peer} away: there are {limit} connections of {name} already{suppressed}");
        }
    }
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
