//! One socket with its session, as whoever serves it sees it: reads fairly, pauses, and ends without losing answers.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use log::info;

use super::connection::{Connection, OutputLimits};
use super::listener::Seat;
use super::{MakeSession, Stream};
use crate::runtime::LogLimit;
use crate::runtime::session::{Close, Flow, Output, Session};

/// Most bytes read from one socket before the others get their turn.
const TURN_BYTES: usize = 256 << 10;
/// Bounds of the time between two attempts to go on with what had to wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));
/// How long a connection that receives no more may wait for its last answers, and for the other side to take them.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait for the other side to close after us. Closing at once could destroy answers on their way: input
/// that nobody has read makes the kernel reset the connection.
const LINGER: Duration = Duration::from_secs(1);

/// One socket with its session.
pub(in crate::runtime) struct Socket {
    stream: Arc<dyn Stream>,
    connection: Arc<Connection>,
    session: Box<dyn Session>,
    /// Received, but not yet taken by the session. Without memory while empty.
    input: BytesMut,
    state: State,
    /// There may be something to read. Events come once, so this remembers.
    readable: bool,
    /// The other side sends no more; its end is still to be read.
    ended: bool,
    /// The other side does not even receive any more.
    gone: bool,
    /// When the session wants to be called, though nothing has arrived.
    call_at: Option<Instant>,
    retry: Duration,
    /// Held for the count of open connections.
    _seat: Option<Seat>,
}

#[derive(Clone, Copy)]
enum State {
    /// Reading.
    Open,
    /// Not reading: the session had no room for what is in `input`.
    Paused,
    /// Done with reading; the last answers are still to be given or taken.
    Draining { until: Instant },
    /// Everything is said; the other side may not have read it yet.
    Lingering { until: Instant },
}

/// What an event says of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::runtime) struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to send.
    pub writable: bool,
    /// The other side sends no more.
    pub ended: bool,
    /// It does not even receive any more.
    pub gone: bool,
}

/// Which events matter to a socket now.
#[cfg(feature = "async")]
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Wanted {
    /// Something has arrived.
    pub input: bool,
    /// There is room to send. If not: until something has no room.
    pub room: bool,
    /// The other side receives no more.
    pub end: bool,
}

/// What to do with a socket after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Next {
    /// Nothing until its next event.
    Wait,
    /// Another turn as soon as the others had theirs.
    Again,
    /// Another turn at this time, or with its next event.
    At(Instant),
    /// Drop it: the connection is over.
    Over,
}

impl Socket {
    /// A socket whose session is to be made. `seat` is held as long as it lives.
    pub fn new(
        stream: Arc<dyn Stream>,
        (id, peer): (u64, SocketAddr),
        limits: OutputLimits,
        session: MakeSession,
        seat: Option<Seat>,
    ) -> Self {
        let connection = Arc::new(Connection::new(id, peer, limits, Arc::clone(&stream)));
        Socket {
            session: session(&connection),
            stream,
            connection,
            input: BytesMut::new(),
            state: State::Open,
            readable: true,
            ended: false,
            gone: false,
            call_at: None,
            retry: RETRY.0,
            _seat: seat,
        }
    }

    /// Remembers what an event says, and sends what had been waiting for room.
    pub fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.ended |= readiness.ended;
        self.gone |= readiness.gone;
        if self.ended {
            self.session.client_ended();
        }
        if readiness.writable {
            self.connection.flush();
        }
    }

    /// What to wait for before the next turn, where not every event comes by itself.
    #[cfg(feature = "async")]
    pub fn wanted(&self) -> Wanted {
        // A paused socket leaves what arrives where it is.
        let input = matches!(self.state, State::Open | State::Lingering { .. });
        Wanted { input, room: self.connection.queued() > 0, end: !self.gone }
    }

    /// Does what can be done now, up to a fair share. `scratch` is where the bytes are read to first: sockets without
    /// input hold no memory for it.
    pub fn turn(&mut self, scratch: &mut [u8], now: Instant, log: &LogLimit) -> Next {
        if !self.connection.is_open() {
            return Next::Over;
        }
        match self.state {
            State::Open if self.call_at.is_some_and(|at| at <= now) => self.go_on(scratch, now, log),
            State::Open => self.read(scratch, now, log),
            State::Paused => self.go_on(scratch, now, log),
            State::Draining { until } => self.settle(until, now),
            State::Lingering { until } => self.discard(scratch, until, now),
        }
    }

    /// Calls the session before anything new is read.
    fn go_on(&mut self, scratch: &mut [u8], now: Instant, log: &LogLimit) -> Next {
        match self.offer(log) {
            Offered::Taken => self.read(scratch, now, log),
            Offered::Full => self.pause(now),
            Offered::Closed => self.drain(now),
        }
    }

    fn read(&mut self, scratch: &mut [u8], now: Instant, log: &LogLimit) -> Next {
        let mut budget = TURN_BYTES;
        self.state = State::Open;
        while self.readable {
            if budget == 0 {
                return Next::Again;
            }
            match self.stream.receive(scratch) {
                Ok(0) => return self.drain(now),
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    self.consumed(count, scratch.len());
                    self.input.extend_from_slice(&scratch[..count]);
                    let offered = self.offer(log);
                    if self.session.wants_acknowledgement() {
                        self.stream.acknowledge();
                    }
                    match offered {
                        Offered::Taken => {}
                        Offered::Full => return self.pause(now),
                        Offered::Closed => return self.drain(now),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Next::Over,
            }
        }
        self.call_at.map_or(Next::Wait, Next::At)
    }

    /// Less than asked for means that the socket is empty: more bytes, or the end, come with a new event, unless an event
    /// has already told the end. That saves a system call per request.
    fn consumed(&mut self, count: usize, room: usize) {
        self.readable = count == room || self.ended;
    }

    fn offer(&mut self, log: &LogLimit) -> Offered {
        let before = self.input.len();
        let received = self.session.receive(&mut self.input);
        self.call_at = if let Ok(Flow::Until(at)) = received { Some(at) } else { None };
        if self.input.len() < before {
            // There is room now and then: a long pipeline must not wait longer and longer for it.
            self.retry = RETRY.0;
        }
        match received {
            Ok(Flow::Continue | Flow::Until(_)) => {
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                self.retry = RETRY.0;
                Offered::Taken
            }
            Ok(Flow::Pause) => Offered::Full,
            Err(Close::Requested) => Offered::Closed,
            Err(Close::Broken(reason)) => {
                if let Some(suppressed) = log.admit() {
                    let (id, peer) = (self.connection.id(), self.connection.peer());
                    info!("closing connection {id} from {peer}: {reason}{suppressed}");
                }
                Offered::Closed
            }
        }
    }

    fn pause(&mut self, now: Instant) -> Next {
        self.state = State::Paused;
        Next::At(now + self.next_retry())
    }

    fn next_retry(&mut self) -> Duration {
        let retry = self.retry;
        self.retry = (retry * 2).min(RETRY.1);
        retry
    }

    /// Nothing more is taken in: what remains is to give the last answers.
    fn drain(&mut self, now: Instant) -> Next {
        self.input = BytesMut::new();
        self.retry = RETRY.0;
        let until = now + DRAIN;
        self.state = State::Draining { until };
        self.settle(until, now)
    }

    fn settle(&mut self, until: Instant, now: Instant) -> Next {
        self.connection.flush();
        if self.gone || now >= until {
            return Next::Over;
        }
        if !self.session.finished() || self.connection.queued() > 0 {
            return Next::At(until.min(now + self.next_retry()));
        }
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Next::Over;
        }
        let until = now + LINGER;
        self.state = State::Lingering { until };
        self.readable = true;
        Next::Again
    }

    fn discard(&mut self, scratch: &mut [u8], until: Instant, now: Instant) -> Next {
        if self.gone || now >= until {
            return Next::Over;
        }
        let mut budget = TURN_BYTES;
        while budget > 0 {
            match self.stream.receive(scratch) {
                Ok(0) => return Next::Over,
                Ok(count) => budget = budget.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::At(until),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Next::Over,
            }
        }
        Next::Again
    }
}

impl Drop for Socket {
    /// Others may still hold the connection: their writes are swallowed from now on, and the descriptor is closed.
    fn drop(&mut self) {
        self.connection.close();
    }
}

enum Offered {
    Taken,
    Full,
    Closed,
}
