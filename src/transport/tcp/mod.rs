//! Nodes over TCP.
//!
//! Every node dials every other one. A connection carries messages one way only, from the node that dialed it: so there
//! are two per pair, each made anew by the one that wants to send. The accepting side takes a sender's newest connection
//! and ignores what still arrives on older ones.

mod connect;
mod dialer;
mod inbound;
mod snapshots;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::error;

use self::dialer::{Dialer, Signal, SignalSender};
use self::inbound::{Inbound, InboundSession, Lobby};
use self::snapshots::{Arrived, Inbox};
use super::lives::{NotAdmitted, PeerLives};
use super::{PeerMessage, Transport, Undelivered};
use crate::codec::frame::HEADER_BYTES;
use crate::codec::peer;
use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::session::Output;
use crate::runtime::sockets::{Connection, ListenOptions, Seats, SessionFactory, Sockets};
use crate::runtime::{Input, Life, LogLimit, LogRepeats, NodeHandle};
use crate::storage::snapshot::SnapshotStore;
use crate::storage::{Lineage, PeerMemory};

/// How long to wait for threads that are about to end.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// What a node must know to talk to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// This node.
    pub me: NodeId,
    /// Its present start, and those before it.
    pub lineage: Lineage,
    /// It neither votes nor counts.
    pub abstains: bool,
    /// Its cluster: nodes of others are refused.
    pub cluster_id: u64,
    /// The other nodes of the cluster. This node itself may be among them.
    pub peers: Vec<TcpPeer>,
    /// The shortest election timeout: what is slower than a few of these counts as lost.
    pub election_timeout: Duration,
    /// Longest body of a frame, in bytes, to be sent or received.
    pub max_frame_bytes: usize,
    /// Most bytes of a snapshot to be sent to a peer in a second.
    pub snapshot_rate_bytes: u64,
    /// Messages for a peer that has so many bytes queued are dropped. The last one queued may exceed it.
    pub outbox_bytes: usize,
}

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpPeer {
    /// The node.
    pub id: NodeId,
    /// A name or an address; looked up anew for every connection.
    pub host: String,
    /// Its port for peers.
    pub port: u16,
}

/// Carries messages to peers over TCP. Dropping it hangs up.
pub struct TcpTransport {
    shared: Arc<Shared>,
    /// Connections with something to flush.
    unflushed: Vec<Arc<Connection>>,
    store: Option<Arc<dyn SnapshotStore>>,
    /// Disconnected once all dialers have ended, and the thread that takes snapshots in.
    ended: Receiver<()>,
    /// For the latter.
    running: Option<Sender<()>>,
}

/// What the transport's threads and sessions share.
struct Shared {
    options: TcpOptions,
    handle: NodeHandle,
    peers: BTreeMap<NodeId, Peer>,
    lives: Mutex<PeerLives>,
    lobby: Lobby,
    /// Snapshots that arrive.
    snapshots: Inbox,
    /// Those on their way to peers; set when they are not wanted any more.
    sending: Mutex<BTreeMap<NodeId, Arc<AtomicBool>>>,
    refusals: LogRepeats,
    log_limit: LogLimit,
    stopping: AtomicBool,
    /// This node neither votes nor counts; or did not, when it forgot, until it had caught up.
    abstains: AtomicBool,
}

/// What is known of one peer.
struct Peer {
    address: TcpPeer,
    /// The connection to it.
    outbound: Mutex<Option<Outbound>>,
    /// The connection from it.
    inbound: Mutex<Inbound>,
    dialer: SignalSender,
}

/// A connection that a peer has welcomed.
struct Outbound {
    connection: Arc<Connection>,
    /// The life of the peer that did.
    life: Life,
}

impl TcpTransport {
    /// Accepts peers on `listener`, dials all of them, and goes on doing so. What they say goes to `handle`. Whoever is known
    /// from `memory` to have forgotten something is refused.
    pub fn start(
        options: TcpOptions,
        memory: PeerMemory,
        handle: NodeHandle,
        sockets: Arc<dyn Sockets>,
        listener: TcpListener,
    ) -> io::Result<TcpTransport> {
        let (mut peers, mut signals) = (BTreeMap::new(), Vec::new());
        for address in options.peers.iter().filter(|peer| peer.id != options.me) {
            let (dialer, inbox) = dialer::signals();
            let (outbound, inbound) = Default::default();
            peers.insert(address.id, Peer { address: address.clone(), outbound, inbound, dialer });
            signals.push((address.id, inbox));
        }
        let shared = Arc::new(Shared {
            abstains: AtomicBool::new(options.abstains),
            options,
            handle,
            peers,
            lives: Mutex::new(PeerLives::new(memory)),
            lobby: Lobby::default(),
            snapshots: Inbox::default(),
            sending: Mutex::default(),
            refusals: LogRepeats::default(),
            log_limit: LogLimit::default(),
            stopping: AtomicBool::new(false),
        });
        let (running, ended) = crossbeam_channel::bounded(0);
        let transport = TcpTransport {
            shared: shared.clone(),
            unflushed: Vec::new(),
            store: None,
            ended,
            running: Some(running.clone()),
        };
        shared.listen(&*sockets, listener)?;
        for (id, inbox) in signals {
            Dialer::start(shared.clone(), id, inbox, sockets.clone(), running.clone())?;
        }
        Ok(transport)
    }
}

impl Transport for TcpTransport {
    fn life(&self) -> Life {
        self.shared.options.life()
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        let Shared { peers, options, .. } = &*self.shared;
        let connection = peers.get(&to).and_then(Peer::connection).ok_or(Undelivered)?;
        if connection.queued() >= options.outbox_bytes {
            return Err(Undelivered);
        }
        let encoded = connection.append(|out| peer::encode(&message, options.max_frame_bytes, out));
        encoded.ok_or(Undelivered)?.map_err(|error| {
            error!("a message for node {to} cannot be sent: {error}");
            Undelivered
        })?;
        if !self.unflushed.iter().any(|known| Arc::ptr_eq(known, &connection)) {
            self.unflushed.push(connection);
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.unflushed.drain(..).for_each(|connection| connection.flush());
    }

    fn keep_snapshots_in(&mut self, store: Arc<dyn SnapshotStore>) {
        let Some(running) = self.running.take() else { return };
        if let Err(error) = snapshots::receive(&self.shared, store.clone(), running) {
            let reason = format!("cannot start the thread that receives snapshots: {error}");
            self.shared.handle.deliver(Input::Failed { reason });
        }
        self.store = Some(store);
    }

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        let store = self.store.clone().ok_or(Undelivered)?;
        let abandoned = self.shared.replace_snapshot(to);
        snapshots::send(&self.shared, store, to, term, snapshot, abandoned).map_err(|error| {
            error!("cannot start a thread to send a snapshot to node {to}: {error}");
            Undelivered
        })
    }

    fn abstain(&mut self) {
        self.shared.abstains.store(true, Ordering::Release);
    }

    fn abandon_snapshots(&mut self) {
        self.shared.abandon_snapshots();
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.stop();
        self.running = None;
        // A dialer may hang in a name look-up: nothing waits for that, it ends by itself.
        let _ = self.ended.recv_timeout(STOP_PATIENCE);
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, sockets: &dyn Sockets, listener: TcpListener) -> io::Result<()> {
        let options = ListenOptions {
            name: "peers".into(),
            seats: Seats::new(inbound::MAX_CONNECTIONS),
            farewell: Vec::new(),
            max_output_bytes: inbound::MAX_OUTPUT_BYTES,
            max_total_output_bytes: inbound::MAX_CONNECTIONS * inbound::MAX_OUTPUT_BYTES,
            keepalive: self.options.silence(),
        };
        let shared = self.clone();
        let session: SessionFactory =
            Arc::new(move |connection| Box::new(InboundSession::new(shared.clone(), connection)));
        sockets.listen(listener, options, session)
    }

    fn abstains(&self) -> bool {
        self.abstains.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.abandon_snapshots();
        // If there is no room, the thread is awake, and sees for itself.
        let _ = self.snapshots.sender.try_send(Arrived::Stop);
        for peer in self.peers.values() {
            peer.dialer.send(Signal::Stop);
            if let Some(connection) = peer.connection() {
                connection.close();
            }
            lock(&peer.inbound).hang_up();
        }
    }

    /// This node runs on an older copy of its data folder: it must not start on it again.
    fn disown(&self) -> Result<(), NotAdmitted> {
        lock(&self.lives).disown(self.options.me, self.options.lineage.start)
    }

    /// Whether this life of a peer may talk to us; from now on, no older one may.
    fn admit(&self, peer: NodeId, lineage: &Lineage, abstains: bool) -> Result<(), NotAdmitted> {
        let admitted = lock(&self.lives).admit(peer, lineage, abstains);
        // On a disk that is full it can be remembered later: the peer tries again.
        if let Err(refusal @ NotAdmitted::NotRemembered { error, .. }) = &admitted
            && !error.is_full()
        {
            self.handle.deliver(Input::Failed { reason: refusal.to_string() });
        }
        admitted
    }
}

impl Peer {
    fn connection(&self) -> Option<Arc<Connection>> {
        lock(&self.outbound).as_ref().map(|outbound| outbound.connection.clone())
    }
}

impl TcpOptions {
    fn life(&self) -> Life {
        self.lineage.start.life
    }

    /// After so much silence a link is given up: twice the longest election timeout, and at least a second.
    fn silence(&self) -> Duration {
        (4 * self.election_timeout).max(Duration::from_secs(1))
    }

    /// Most bytes that [`TcpTransport::send`] lets queue up, with room to spare.
    fn max_queued_bytes(&self) -> usize {
        self.outbox_bytes.saturating_add(self.max_frame_bytes).saturating_add(2 * HEADER_BYTES)
    }
}

/// What panicked while holding the lock has said so; the data is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
