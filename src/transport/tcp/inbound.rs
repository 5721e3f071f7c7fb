//! Connections from peers: who is there, and what they say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, TryRecvError};
use log::{debug, warn};

use super::dialer::Signal;
use super::snapshots::{self, Arrived};
use super::{NotAdmitted, Shared, TcpOptions, lock};
use crate::codec::frame::{self, HEADER_BYTES};
use crate::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose, RefusalCode, Refused, Welcome};
use crate::codec::peer;
use crate::consensus::NodeId;
use crate::runtime::session::{Close, Flow, Output, Session};
use crate::runtime::sockets::Connection;
use crate::runtime::{Input, Life, spawn_guarded};
use crate::storage::{Lineage, Start};

/// Most connections at a time, those included that are closed already but not yet cleared away.
pub(super) const MAX_CONNECTIONS: usize = 1024;
/// Most connections that have not said who they are.
const MAX_STRANGERS: usize = 64;
/// How long one may take to say so, when others want in.
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);
/// All that is ever sent on a connection from a peer is the answer to its handshake.
pub(super) const MAX_OUTPUT_BYTES: usize = 2 * (handshake::LIMIT_BYTES + HEADER_BYTES);

/// The newest connection from a peer.
#[derive(Default)]
pub(super) struct Inbound {
    connection: Option<Arc<Connection>>,
    /// The newest of all its connections so far.
    newest: (Life, u64),
}

impl Inbound {
    /// Closes the connection if there is one.
    pub(super) fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    fn is(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|newest| Arc::ptr_eq(newest, connection))
    }

    /// Replaces the connection by a newer one.
    fn replace(&mut self, connection: &Arc<Connection>, life: Life, dial: u64) -> Result<(), String> {
        let (newest, newest_dial) = self.newest;
        // Which of two incarnations is the later was decided when this one was admitted.
        if life.incarnation == newest.incarnation && (life.boot, dial) <= (newest.boot, newest_dial) {
            return Err(format!("connection {dial} is not newer than connection {newest_dial}"));
        }
        self.hang_up();
        (self.connection, self.newest) = (Some(connection.clone()), (life, dial));
        Ok(())
    }
}

/// Connections that have not said who they are, the oldest first. They are bounded without timers: those that wait too
/// long are closed when others come, and the oldest when there are too many.
#[derive(Default)]
pub(super) struct Lobby {
    waiting: Mutex<VecDeque<(Instant, Arc<Connection>)>>,
}

impl Lobby {
    fn enter(&self, connection: &Arc<Connection>) {
        let (mut waiting, now) = (lock(&self.waiting), Instant::now());
        while let Some((since, _)) = waiting.front()
            && (waiting.len() >= MAX_STRANGERS || now.duration_since(*since) >= STRANGER_PATIENCE)
        {
            if let Some((_, connection)) = waiting.pop_front() {
                connection.close();
            }
        }
        waiting.push_back((now, connection.clone()));
    }

    fn leave(&self, connection: &Arc<Connection>) {
        lock(&self.waiting).retain(|(_, waiting)| !Arc::ptr_eq(waiting, connection));
    }
}

/// Why a connection is refused.
struct Refusal {
    code: RefusalCode,
    reason: String,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal { code: RefusalCode::Other, reason }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(error: NotAdmitted) -> Self {
        Refusal { code: error.code(), reason: error.to_string() }
    }
}

/// The session of a connection that somebody opened to us.
pub(super) struct InboundSession {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    sender: Sender,
}

/// Who is at the other end.
enum Sender {
    /// It has not said so yet.
    Unknown,
    /// It has, and a thread finds out whether it may talk to us, which can take as long as the disk does.
    Asked(Hello, Receiver<Result<(), NotAdmitted>>),
    /// It may.
    Known(NodeId, Life, Purpose),
}

impl InboundSession {
    /// The session of a new connection.
    pub(super) fn new(shared: Arc<Shared>, connection: &Arc<Connection>) -> Self {
        shared.lobby.enter(connection);
        InboundSession { shared, connection: connection.clone(), sender: Sender::Unknown }
    }

    /// Takes the first frame, if it is complete.
    fn introduce(&mut self, input: &mut BytesMut) -> Result<(), Close> {
        let frame = frame::decode(input, handshake::LIMIT_BYTES);
        let Some(frame) = frame.map_err(|error| Close::Broken(format!("no peer: {error}")))? else { return Ok(()) };
        let hello = match Handshake::decode(&frame) {
            Ok(Handshake::Hello(hello)) => hello,
            Ok(_) => return Err(Close::Broken(format!("no peer: begins with a {:?} frame", frame.kind))),
            Err(error) => return Err(self.refuse(error.to_string().into())),
        };
        let answer = self.shared.check(&hello).and_then(|()| Shared::ask(&self.shared, &hello));
        self.sender = Sender::Asked(hello, answer.map_err(|reason| self.refuse(reason.into()))?);
        Ok(())
    }

    /// Answers who has introduced itself, as soon as it is known whether it may talk to us.
    fn welcome(&mut self) -> Result<(), Close> {
        let Sender::Asked(hello, answer) = &self.sender else { return Ok(()) };
        let admitted = match answer.try_recv() {
            Err(TryRecvError::Empty) => return Ok(()),
            // The thread has panicked, and said so.
            Err(TryRecvError::Disconnected) => return Err(Close::Requested),
            Ok(admitted) => admitted,
        };
        let &Hello { from, life, purpose, .. } = hello;
        let taken = admitted.map_err(Refusal::from);
        taken.and_then(|()| self.shared.take(hello, &self.connection)).map_err(|refusal| self.refuse(refusal))?;
        self.shared.lobby.leave(&self.connection);
        self.sender = Sender::Known(from, life, purpose);
        debug!("node {from} connected from {}", self.connection.peer());
        self.shared.heard(from, life);
        self.say(Handshake::Welcome(self.shared.myself()));
        Ok(())
    }

    fn refuse(&self, Refusal { code, reason }: Refusal) -> Close {
        self.shared.log_refusal(self.connection.peer(), &reason);
        let TcpOptions { me: from, cluster_id, .. } = self.shared.options;
        self.say(Handshake::Refused(Refused { cluster_id, from, code, reason }));
        Close::Requested
    }

    fn say(&self, handshake: Handshake) {
        self.connection.write(&handshake.encode());
        self.connection.flush();
    }

    /// Delivers what has arrived, as long as the node keeps up, unless a newer connection has taken over. The lock is held
    /// meanwhile, so that nothing is delivered from here after something from there. What has arrived together shares a
    /// turn.
    fn deliver(&self, from: NodeId, life: Life, input: &mut BytesMut) -> Result<Flow, Close> {
        let before = input.len();
        let flow = self.enqueue(from, life, input);
        if input.len() < before {
            self.shared.handle.ring();
        }
        flow
    }

    fn enqueue(&self, from: NodeId, life: Life, input: &mut BytesMut) -> Result<Flow, Close> {
        let peer = self.shared.peers.get(&from).ok_or(Close::Requested)?;
        let inbound = lock(&peer.inbound);
        if !inbound.is(&self.connection) || self.shared.is_stopping() {
            return Err(Close::Requested);
        }
        let limit = self.shared.options.max_frame_bytes;
        let broken = |error: String| Close::Broken(format!("node {from}: {error}"));
        while self.shared.handle.has_room() {
            let frame = frame::decode(input, limit).map_err(|error| broken(error.to_string()))?;
            let Some(frame) = frame else { return Ok(Flow::Continue) };
            let message = peer::decode(frame).map_err(|error| broken(error.to_string()))?;
            self.shared.handle.enqueue_input(Input::Peer { from, life, message });
        }
        Ok(Flow::Pause)
    }
}

impl Shared {
    /// Checks who wants to talk to us, as far as that needs no memory.
    fn check(&self, hello: &Hello) -> Result<(), String> {
        let me = self.options.me;
        let &Hello { cluster_id, from, to, .. } = hello;
        if self.is_stopping() {
            return Err(format!("node {me} is stopping"));
        }
        if to != me {
            return Err(format!("this is node {me}, not node {to}"));
        }
        self.check_identity(cluster_id, from)?;
        let is_known = self.peers.contains_key(&from);
        is_known.then_some(()).ok_or_else(|| format!("node {from} is not in the configuration of node {me}"))
    }

    /// Has a thread find out whether this life of a peer may talk to us: it is remembered durably, and the disk must hold up
    /// no other connection.
    fn ask(shared: &Arc<Self>, hello: &Hello) -> Result<Receiver<Result<(), NotAdmitted>>, String> {
        let (sender, answer) = crossbeam_channel::bounded(1);
        let (from, lineage, abstains) = (hello.from, hello.lineage(), hello.abstains);
        let (name, failed) = (format!("admit-{}-{from}", shared.options.me), shared.handle.clone());
        let shared = Arc::clone(shared);
        // The connection may be gone by then.
        let run = move || drop(sender.send(shared.admit(from, &lineage, abstains)));
        spawn_guarded(name, run, move |reason| failed.deliver(Input::Failed { reason }))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(answer)
    }

    /// Takes the connection of a peer that may talk to us as its newest.
    fn take(&self, hello: &Hello, connection: &Arc<Connection>) -> Result<(), Refusal> {
        if let Purpose::Messages { dial } = hello.purpose
            && let Some(peer) = self.peers.get(&hello.from)
        {
            lock(&peer.inbound).replace(connection, hello.life, dial)?;
        }
        Ok(())
    }

    /// What both sides of a handshake check about the other.
    pub(super) fn check_identity(&self, cluster_id: u64, from: NodeId) -> Result<(), String> {
        let TcpOptions { me, cluster_id: own, .. } = self.options;
        if cluster_id != own {
            return Err(format!("node {from} belongs to cluster {cluster_id:016x}, node {me} to cluster {own:016x}"));
        }
        if from == me {
            return Err(format!("there is another node {me}"));
        }
        Ok(())
    }

    fn log_refusal(&self, peer: SocketAddr, reason: &str) {
        if !self.is_stopping()
            && self.refusals.is_news(reason)
            && let Some(suppressed) = self.log_limit.admit()
        {
            warn!("refused a connection from {peer}: {reason}{suppressed}");
        }
    }

    fn myself(&self) -> Welcome {
        let TcpOptions { me, cluster_id, .. } = self.options;
        let Lineage { start: Start { life, nonce }, earlier } = self.options.lineage.clone();
        let abstains = self.abstains();
        Welcome { protocol: PROTOCOL, cluster_id, from: me, life, nonce, earlier, abstains }
    }

    /// A peer is alive: if it cannot be sent to, or only in an earlier life, it is worth dialing now.
    fn heard(&self, from: NodeId, life: Life) {
        let Some(peer) = self.peers.get(&from) else { return };
        match &*lock(&peer.outbound) {
            Some(outbound) if outbound.life != life => outbound.connection.close(),
            Some(_) => {}
            None => peer.dialer.send(Signal::Dial),
        }
    }
}

impl Session for InboundSession {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        if let Sender::Unknown = self.sender {
            self.introduce(input)?;
        }
        self.welcome()?;
        match self.sender {
            Sender::Unknown => Ok(Flow::Continue),
            Sender::Asked(..) => Ok(Flow::Pause),
            Sender::Known(from, life, Purpose::Messages { .. }) => self.deliver(from, life, input),
            Sender::Known(from, _, Purpose::Snapshot) => {
                snapshots::hand_over(&self.shared, from, &self.connection, input)
            }
        }
    }
}

impl Drop for InboundSession {
    fn drop(&mut self) {
        match self.sender {
            Sender::Unknown | Sender::Asked(..) => self.shared.lobby.leave(&self.connection),
            Sender::Known(from, _, Purpose::Messages { .. }) => {
                let Some(peer) = self.shared.peers.get(&from) else { return };
                let mut inbound = lock(&peer.inbound);
                if inbound.is(&self.connection) {
                    inbound.hang_up();
                }
            }
            // If there is no room, the thread hears of it from the next offer.
            Sender::Known(_, _, Purpose::Snapshot) => {
                drop(self.shared.snapshots.sender.try_send(Arrived::End(self.connection.clone())));
            }
        }
    }
}
