//! Connections to peers: one thread per peer dials, introduces this node, hands the socket over and sleeps until it is
//! lost. So a peer whose name look-up or connection hangs delays nobody else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender};
use log::{debug, info, warn};
use socket2::{SockRef, TcpKeepalive};

use super::{Outbound, Peer, Shared, TcpPeer, lock};
use crate::codec::frame;
use crate::codec::handshake::{self, Handshake, Hello, PROTOCOL, RefusalCode, Refused, Welcome};
use crate::consensus::NodeId;
use crate::runtime::session::{Close, Flow, Session};
use crate::runtime::threaded::{ControllerHandle, LogRepeats, spawn_guarded};
use crate::runtime::{Input, Life};
use crate::storage::Start;

/// The first pause between two attempts; the longest is the election timeout.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Bounds of the time for one connection attempt, and for one handshake.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

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
    controller: ControllerHandle,
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
        controller: ControllerHandle,
        running: Sender<()>,
    ) -> std::io::Result<()> {
        let pause = Pause::new(shared.options.election_timeout);
        let (name, handle) = (format!("dial-{}-{id}", shared.options.me), shared.handle.clone());
        let alone_since = Instant::now();
        let dialer = Dialer { shared, id, signals, controller, dial: 0, pause, alone_since, failures: None };
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
        let Some(peer) = self.peer() else { return Err("no such node".into()) };
        let TcpPeer { host, port, .. } = peer.address.clone();
        self.dial += 1;
        let addresses = (host.as_str(), port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("cannot look up {host}: {error}"))?;
        let stream = self.connect(addresses).map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        let life = self.shake_hands(&stream).map_err(|reason| format!("{host}:{port}: {reason}"))?;
        Ok((stream, life))
    }

    fn patience(&self) -> Duration {
        (2 * self.shared.options.election_timeout).clamp(PATIENCE.0, PATIENCE.1)
    }

    fn connect(&self, addresses: impl Iterator<Item = SocketAddr>) -> std::io::Result<TcpStream> {
        let mut failure = std::io::Error::new(ErrorKind::NotFound, "the name stands for no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.patience()) {
                Ok(stream) => return self.prepare(&stream).map(|()| stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A peer that is gone without a word must be noticed, whether there is something to send or not.
    fn prepare(&self, stream: &TcpStream) -> std::io::Result<()> {
        let silence = self.shared.options.silence();
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence);
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(silence))?;
        stream.set_nodelay(true)
    }

    fn shake_hands(&self, mut stream: &TcpStream) -> Result<Life, String> {
        let options = &self.shared.options;
        let hello = Hello {
            protocol: PROTOCOL,
            cluster_id: options.cluster_id,
            from: options.me,
            to: self.id,
            life: options.life,
            nonce: self.shared.nonce,
            dial: self.dial,
            abstains: options.abstains,
        };
        stream.set_write_timeout(Some(self.patience())).map_err(|error| error.to_string())?;
        stream.write_all(&Handshake::Hello(hello).encode()).map_err(|error| format!("no handshake: {error}"))?;
        match self.read_answer(stream)? {
            Handshake::Welcome(Welcome { cluster_id, from, life, nonce, abstains, .. }) => {
                self.shared.check_identity(cluster_id, from)?;
                if from != self.id {
                    return Err(format!("node {from} answers there"));
                }
                let admitted = self.shared.admit(from, Start { life, nonce }, abstains);
                admitted.map(|()| life).map_err(|error| error.to_string())
            }
            Handshake::Refused(refused) => Err(self.refused(refused)),
            Handshake::Hello(_) => Err("answers a handshake with another".into()),
        }
    }

    /// The peer refuses this node. If that is because of this node's own life, the node stops: it has forgotten what it
    /// promised, which no other attempt mends, and one peer who knows that is enough. Only the node that was dialed, in this
    /// cluster, can say so.
    fn refused(&self, refused: Refused) -> String {
        let options = &self.shared.options;
        let Refused { cluster_id, from, code, reason } = refused;
        if (cluster_id, from) == (options.cluster_id, self.id)
            && let Some(ways_out) = ways_out(code, options.life)
        {
            let mut reason = format!("node {from} refuses node {}: {reason}. {ways_out}", options.me);
            if code == RefusalCode::OlderBoot
                && let Err(error) = self.shared.disown()
            {
                reason = format!("{reason}. Also, {error}");
            }
            self.shared.handle.deliver(Input::Failed { reason });
        }
        format!("refused: {reason}")
    }

    /// Reads one frame, and no more, before the patience ends.
    fn read_answer(&self, mut stream: &TcpStream) -> Result<Handshake, String> {
        let deadline = Instant::now() + self.patience();
        let (mut input, mut buffer) = (BytesMut::new(), [0; 256]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            match stream.read(&mut buffer) {
                Ok(0) => return Err("closed the connection instead of answering".into()),
                Ok(count) => input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(format!("no answer to the handshake within {} ms", self.patience().as_millis()));
                }
                Err(error) => return Err(format!("no handshake: {error}")),
            }
            if let Some(frame) = frame::decode(&mut input, handshake::LIMIT_BYTES).map_err(|error| error.to_string())? {
                return Handshake::decode(&frame).map_err(|error| error.to_string());
            }
            if Instant::now() >= deadline {
                return Err("too slow to answer the handshake".into());
            }
        }
    }

    /// Hands the connection to the controller and sleeps until it is over.
    fn hold(&mut self, stream: TcpStream, life: Life) {
        let Some(peer) = self.peer() else { return };
        let (shared, id, began) = (self.shared.clone(), self.id, Instant::now());
        let session = OutboundSession { dialer: peer.dialer.clone(), dial: self.dial };
        let was_missed = self.failures.is_some();
        let adopted = self.controller.adopt(stream, shared.options.max_queued_bytes(), move |connection| {
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
        if let Err(error) = adopted {
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

/// What a node can do whose life is refused, for people; `None` if it is something else that is refused.
fn ways_out(code: RefusalCode, life: Life) -> Option<&'static str> {
    match code {
        RefusalCode::Other => None,
        _ if life.incarnation == 0 => Some(
            "This node keeps nothing on disk (InMemoryStorage), and the time of its start takes the place of a data folder: \
             correct this machine's clock and start the node again, or give it the StorageClass that it had before",
        ),
        RefusalCode::OlderBoot | RefusalCode::OtherIncarnation => Some(
            "What this node promised since is not in this folder: votes it cast, entries it acknowledged. If the folder it \
             ran with last still exists, put that back (never an older copy). If it is lost, start the node once with \
             --rejoin: it receives everything again, but neither votes nor counts towards a majority any more",
        ),
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
