//! Connections to peers: one dialer per peer dials, introduces this node, hands the socket over and sleeps until it is
//! lost. So a peer whose name look-up or connection hangs delays nobody else.
//!
//! Where the sockets are served by tasks, so are the dialers, and only dialing itself takes a thread. Elsewhere each has a thread
//! of its own, on which it waits instead of awaiting.

use std::net::TcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
#[cfg(feature = "async")]
use crossbeam_channel::TryRecvError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{debug, info, warn};
#[cfg(feature = "async")]
use tokio::{task::spawn_blocking, time::timeout_at};

use super::{Outbound, Peer, Shared, lock};
use crate::codec::handshake::Purpose;
use crate::consensus::NodeId;
#[cfg(feature = "async")]
use crate::runtime::asynchronous::spawn_guarded_task;
use crate::runtime::session::{Close, Flow, Session};
use crate::runtime::sockets::{MakeSession, Sockets};
use crate::runtime::{Bell, Input, Life, LogRepeats, spawn_guarded};

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

/// The way to a dialer.
#[derive(Clone)]
pub(super) struct SignalSender(Sender<Signal>, Arc<Bell>);

/// What a dialer is told.
pub(super) struct Signals {
    queue: Receiver<Signal>,
    /// For a dialer that is a task: a thread waits at the queue itself.
    #[cfg(feature = "async")]
    bell: Arc<Bell>,
}

/// The way to a dialer, and what comes along it.
pub(super) fn signals() -> (SignalSender, Signals) {
    let ((sender, queue), bell) = (unbounded(), Arc::<Bell>::default());
    let signals = Signals {
        queue,
        #[cfg(feature = "async")]
        bell: Arc::clone(&bell),
    };
    (SignalSender(sender, bell), signals)
}

impl SignalSender {
    /// A dialer that has ended needs no signal.
    pub(super) fn send(&self, signal: Signal) {
        let _ = self.0.send(signal);
        self.1.ring();
    }
}

/// Keeps up the connection to one peer.
pub(super) struct Dialer {
    shared: Arc<Shared>,
    id: NodeId,
    signals: Signals,
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
    /// Starts it. It drops `running` when it ends.
    pub(super) fn start(
        shared: Arc<Shared>,
        id: NodeId,
        signals: Signals,
        sockets: Arc<dyn Sockets>,
        running: Sender<()>,
    ) -> std::io::Result<()> {
        let pause = Pause::new(shared.options.election_timeout);
        let (name, handle) = (format!("dial-{}-{id}", shared.options.me), shared.handle.clone());
        let alone_since = Instant::now();
        let dialer = Dialer { shared, id, signals, sockets, dial: 0, pause, alone_since, failures: None };
        let failed = move |reason| handle.deliver(Input::Failed { reason });
        #[cfg(feature = "async")]
        if let Some(tasks) = dialer.sockets.tasks() {
            let run = async move {
                dialer.run().await;
                drop(running);
            };
            spawn_guarded_task(&tasks, name, run, failed);
            return Ok(());
        }
        let run = move || {
            // Nothing that it awaits is ever pending.
            let _ = pin!(dialer.run()).poll(&mut Context::from_waker(Waker::noop()));
            drop(running);
        };
        spawn_guarded(name, run, failed).map(drop)
    }

    async fn run(mut self) {
        while !self.shared.is_stopping() {
            match self.dial().await {
                Ok((stream, life)) => self.hold(stream, life).await,
                Err(reason) => self.log_failure(&reason),
            }
            self.rest().await;
        }
    }

    /// Waits before the next attempt, unless there is a reason not to.
    async fn rest(&mut self) {
        let deadline = Instant::now() + self.pause.next();
        while !self.shared.is_stopping() {
            match self.signal(Some(deadline)).await {
                Some(Signal::Lost(_)) => {}
                Some(Signal::Dial | Signal::Stop) | None => return,
            }
        }
    }

    /// The next signal, unless the time comes before.
    async fn signal(&self, deadline: Option<Instant>) -> Option<Signal> {
        let Signals { queue, .. } = &self.signals;
        #[cfg(feature = "async")]
        if self.sockets.tasks().is_some() {
            let next = async {
                loop {
                    match queue.try_recv() {
                        Err(TryRecvError::Empty) => self.signals.bell.heard().await,
                        received => return received.ok(),
                    }
                }
            };
            return match deadline {
                Some(deadline) => timeout_at(deadline.into(), next).await.ok().flatten(),
                None => next.await,
            };
        }
        match deadline {
            Some(deadline) => queue.recv_deadline(deadline).ok(),
            None => queue.recv().ok(),
        }
    }

    fn peer(&self) -> Option<&Peer> {
        self.shared.peers.get(&self.id)
    }

    /// One attempt: every address that the name stands for now, then the handshake.
    async fn dial(&mut self) -> Result<(TcpStream, Life), String> {
        self.dial += 1;
        let (shared, id, purpose) = (Arc::clone(&self.shared), self.id, Purpose::Messages { dial: self.dial });
        let connect = move || shared.connect(id, purpose);
        #[cfg(feature = "async")]
        if self.sockets.tasks().is_some() {
            return spawn_blocking(connect).await.unwrap_or_else(|error| Err(error.to_string()));
        }
        connect()
    }

    /// Hands the connection over and sleeps until it is lost.
    async fn hold(&mut self, stream: TcpStream, life: Life) {
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
        self.wait_until_lost().await;
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

    async fn wait_until_lost(&self) {
        let over = [Signal::Lost(self.dial), Signal::Stop];
        while self.signal(None).await.is_some_and(|signal| !over.contains(&signal)) {}
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
    dialer: SignalSender,
    dial: u64,
}

impl Session for OutboundSession {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        if input.is_empty() { Ok(Flow::Continue) } else { Err(Close::Broken("a peer may not answer here".into())) }
    }
}

impl Drop for OutboundSession {
    fn drop(&mut self) {
        self.dialer.send(Signal::Lost(self.dial));
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
