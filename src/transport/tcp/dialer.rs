//! Connections to peers: one thread per peer dials, introduces this node, hands the socket over and sleeps until it is
//! lost. So a peer whose name look-up or connection hangs delays nobody else.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender};
use log::{debug, info, warn};

use super::{Outbound, Peer, Shared, lock};
use crate::codec::handshake::Purpose;
use crate::consensus::NodeId;
use crate::runtime::session::{Close, Flow, Session};
use crate::runtime::sockets::{MakeSession, Sockets};
use crate::runtime::{Input, Life, LogRepeats, spawn_guarded};

/// The first pause between two attempts; the longest is the election timeout.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A peer that cannot be reached for so long is worth a line in the log. Until then it may just be starting, or stopping
/// as this node does.
const NEWS_AFTER: Duration = Duration::from_millis(500);

/// Something for a dialer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The peer was heard: dial now rather than later.
    Dial,
    /// The connection with this number is over.
    Lost(u64),
    /// End.
    Stop,
}

/// The thread that keeps up the connection to one peer.
pub(super) struct Dialer {
    shared: Arc<Shared>,
    id: NodeId,
    signals: Receiver<Signal>,
    sockets: Arc<dyn Sockets>,
    /// Number of the latest attempt.
    dial: u64,
    pause: Pause,
    /// Since when there has been no connection.
    alone_since: Instant,
    /// What the log was told of that.
    failures: Option<LogRepeats>,
}

impl Dialer {
    /// Starts the thread. It drops `running` when it ends.
    pub(super) fn start(
        shared: Arc<Shared>,
        id: NodeId,
        signals: Receiver<Signal>,
        sockets: Arc<dyn Sockets>,
        running: Sender<()>,
    ) -> std::io::Result<()> {
        let pause = Pause::new(shared.options.election_timeout);
        let (name, handle) = (format!("dial-{}-{id}", shared.options.me), shared.handle.clone());
        let alone_since = Instant::now();
        let dialer = Dialer { shared, id, signals, sockets, dial: 0, pause, alone_since, failures: None };
        let run = move || {
            dialer.run();
            drop(running);
        };
        spawn_guarded(name, run, move |reason| handle.deliver(Input::Failed { reason })).map(drop)
    }

    fn run(mut self) {
        while !self.shared.is_stopping() {
            match self.dial() {
                Ok((stream, life)) => self.hold(stream, life),
                Err(reason) => self.log_failure(&reason),
            }
            self.rest();
        }
    }

    /// Waits before the next attempt, unless there is a reason not to.
    fn rest(&mut self) {
        let deadline = Instant::now() + self.pause.next();
        while !self.shared.is_stopping() {
            match self.signals.recv_deadline(deadline) {
                Ok(Signal::Lost(_)) => {}
                Ok(Signal::Dial | Signal::Stop) | Err(_) => return,
            }
        }
    }

    fn peer(&self) -> Option<&Peer> {
        self.shared.peers.get(&self.id)
    }

    /// One attempt: every address that the name stands for now, then the handshake.
    fn dial(&mut self) -> Result<(TcpStream, Life), String> {
        self.dial += 1;
        self.shared.connect(self.id, Purpose::Messages { dial: self.dial })
    }

    /// Hands the connection over and sleeps until it is lost.
    fn hold(&mut self, stream: TcpStream, life: Life) {
        let Some(peer) = self.peer() else { return };
        let (shared, id, began) = (self.shared.clone(), self.id, Instant::now());
        let session = OutboundSession { dialer: peer.dialer.clone(), dial: self.dial };
        let was_missed = self.failures.is_some();
        let max_bytes = shared.options.max_queued_bytes();
        let serve: MakeSession = Box::new(move |connection| {
            if let Some(peer) = shared.peers.get(&id) {
                *lock(&peer.outbound) = Some(Outbound { connection: connection.clone(), life });
            }
            if shared.is_stopping() {
                connection.close();
            }
            match was_missed {
                true => info!("connected to node {id} at {}", connection.peer()),
                false => debug!("connected to node {id} at {}", connection.peer()),
            }
            shared.handle.deliver(Input::Link { peer: id, up: true });
            Box::new(session)
        });
        if let Err(error) = self.sockets.adopt(stream, max_bytes, serve) {
            return self.log_failure(&format!("cannot serve the connection: {error}"));
        }
        self.failures = None;
        self.wait_until_lost();
        self.alone_since = Instant::now();
        let Some(peer) = self.peer() else { return };
        if lock(&peer.outbound).take().is_some() {
            debug!("lost the connection to node {id}");
            self.shared.handle.deliver(Input::Link { peer: id, up: false });
        }
        if began.elapsed() >= self.shared.options.silence() {
            self.pause.reset();
        }
    }

    /// Stopping closes the connection, so the wait ends then, too.
    fn wait_until_lost(&self) {
        let lost = Signal::Lost(self.dial);
        while self.signals.recv().is_ok_and(|signal| signal != lost) {}
    }

    fn log_failure(&mut self, reason: &str) {
        if self.alone_since.elapsed() >= NEWS_AFTER && self.failures.get_or_insert_default().is_news(reason) {
            warn!("no connection to node {}: {reason}", self.id);
        }
    }
}

/// The session of a connection to a peer, which has nothing to say on it. Its end tells the dialer that the connection is
/// over.
struct OutboundSession {
    dialer: Sender<Signal>,
    dial: u64,
}

impl Session for OutboundSession {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        if input.is_empty() { Ok(Flow::Continue) } else { Err(Close::Broken("a peer may not answer here".into())) }
    }
}

impl Drop for OutboundSession {
    fn drop(&mut self) {
        // A dialer that has ended needs no signal.
        let _ = self.dialer.send(Signal::Lost(self.dial));
    }
}

/// The growing, jittered pause between two attempts.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new(longest: Duration) -> Self {
        Pause { next: FIRST_PAUSE.min(longest), longest }
    }

    fn reset(&mut self) {
        self.next = FIRST_PAUSE.min(self.longest);
    }

    /// Between half of the current pause and all of it; the one after is twice as long.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        let jitter = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        pause.mul_f64(0.5 + jitter / 2.0)
    }
}
