//! Snapshots between nodes: each on a connection of its own, with a thread of its own at the sender. All that arrive are
//! taken in by one thread, so that the disk holds up nobody else, and there is never more than one at a time.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::connect::read_frame;
use super::{Shared, lock};
use crate::codec::frame;
use crate::codec::handshake::Purpose;
use crate::codec::snapshot::{self, CHUNK_BYTES, LIMIT_BYTES, Spoken};
use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::session::{Close, Flow, Output};
use crate::runtime::sockets::Connection;
use crate::runtime::{Input, spawn_guarded};
use crate::storage::snapshot::SnapshotStore;
use crate::transport::transfer::{Link, Offer, Pace, Progress, Receiving, Sending, patience};

/// Chunks under way that are not acknowledged.
const WINDOW: u64 = 4;
/// What has arrived and waits for the thread.
const MAX_WAITING: usize = 2 * WINDOW as usize;

/// For the thread that takes snapshots in.
pub(super) enum Arrived {
    Offer(NodeId, Offer, Arc<Connection>),
    Chunk(NodeId, u64, Bytes, Arc<Connection>),
    /// The connection is over.
    End(Arc<Connection>),
    /// The transport ends.
    Stop,
}

/// The two ends of the way to the thread that takes snapshots in; the far one until that thread takes it.
pub(super) struct Inbox {
    pub sender: Sender<Arrived>,
    receiver: Receiver<Arrived>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(MAX_WAITING);
        Inbox { sender, receiver }
    }
}

/// Starts the thread that takes snapshots in. It drops `running` when it ends.
pub(super) fn receive(shared: &Arc<Shared>, store: Arc<dyn SnapshotStore>, running: Sender<()>) -> io::Result<()> {
    let (handle, me) = (shared.handle.clone(), shared.options.me);
    let receiving = Receiving::new(store, handle.clone());
    let shared = shared.clone();
    let run = move || {
        take_in(&shared, receiving);
        drop(running);
    };
    spawn_guarded(format!("snapshots-{me}"), run, move |reason| handle.deliver(Input::Failed { reason })).map(drop)
}

fn take_in(shared: &Shared, mut receiving: Receiving) {
    let mut current: Option<Arc<Connection>> = None;
    let is_current = |current: &Option<Arc<Connection>>, connection: &Arc<Connection>| {
        current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    };
    while let Ok(arrived) = shared.snapshots.receiver.recv() {
        if shared.is_stopping() {
            return;
        }
        let (connection, answer) = match arrived {
            Arrived::Offer(from, offer, connection) => {
                // A newer offer: its sender has more to say than the one before.
                if let Some(before) =
                    current.replace(connection.clone()).filter(|before| !Arc::ptr_eq(before, &connection))
                {
                    before.close();
                }
                (connection, receiving.offer(from, offer))
            }
            Arrived::Chunk(from, offset, bytes, connection) if is_current(&current, &connection) => {
                (connection, receiving.chunk(from, offset, &bytes))
            }
            Arrived::End(connection) if is_current(&current, &connection) => {
                receiving.end();
                current = None;
                continue;
            }
            // Before any offer, or after a newer one.
            Arrived::Chunk(.., connection) => {
                connection.close();
                continue;
            }
            Arrived::End(_) => continue,
            Arrived::Stop => return,
        };
        if let Err(reason) = &answer {
            log::warn!("cannot take a snapshot from {}: {reason}", connection.peer());
            receiving.end();
        }
        connection.write(&snapshot::encode_answer(&answer));
        connection.flush();
    }
}

/// Takes the frames of a connection that carries a snapshot, as long as the thread keeps up.
pub(super) fn hand_over(
    shared: &Shared,
    from: NodeId,
    connection: &Arc<Connection>,
    input: &mut BytesMut,
) -> Result<Flow, Close> {
    let broken = |error: String| Close::Broken(format!("a snapshot from node {from}: {error}"));
    loop {
        if shared.snapshots.sender.is_full() {
            return Ok(Flow::Pause);
        }
        let frame = frame::decode(input, LIMIT_BYTES).map_err(|error| broken(error.to_string()))?;
        let Some(frame) = frame else { return Ok(Flow::Continue) };
        let arrived = match snapshot::decode(frame).map_err(|error| broken(error.to_string()))? {
            Spoken::Offer(offer) => Arrived::Offer(from, offer, connection.clone()),
            Spoken::Chunk(offset, bytes) => Arrived::Chunk(from, offset, bytes, connection.clone()),
            Spoken::Progress(_) | Spoken::Refused(_) => return Err(broken("an answer to nothing".into())),
        };
        // Another connection may have taken the last place: then this one begins again.
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = shared.snapshots.sender.try_send(arrived) {
            return Err(Close::Requested);
        }
    }
}

/// Starts the thread that sends a snapshot.
pub(super) fn send(
    shared: &Arc<Shared>,
    store: Arc<dyn SnapshotStore>,
    to: NodeId,
    term: Term,
    snapshot: SnapshotMeta,
    abandoned: Arc<AtomicBool>,
) -> io::Result<()> {
    let options = &shared.options;
    let pace = Pace {
        chunk_bytes: CHUNK_BYTES,
        window: WINDOW,
        rate_bytes: options.snapshot_rate_bytes,
        patience: patience(options.election_timeout),
    };
    let sending = Sending { node: shared.handle.clone(), store, to, term, snapshot, pace, abandoned };
    let (shared, failed, me) = (shared.clone(), shared.handle.clone(), options.me);
    let run = move || sending.run(|| TcpLink::connect(&shared, to, pace.patience));
    spawn_guarded(format!("snapshot-{me}-{to}"), run, move |reason| failed.deliver(Input::Failed { reason })).map(drop)
}

/// A connection that carries a snapshot, at its sender.
struct TcpLink {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
}

impl TcpLink {
    fn connect(shared: &Shared, to: NodeId, patience: Duration) -> Result<Self, String> {
        let (stream, _) = shared.connect(to, Purpose::Snapshot)?;
        stream.set_write_timeout(Some(patience)).map_err(|error| error.to_string())?;
        Ok(TcpLink { stream, input: BytesMut::new(), output: Vec::new() })
    }

    fn say(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), frame::FrameError>) -> Result<(), String> {
        self.output.clear();
        encode(&mut self.output).map_err(|error| error.to_string())?;
        let written = self.stream.write_all(&self.output);
        // A receiver that refuses says why before it hangs up.
        written.or_else(|error| self.refusal().map_or_else(|| Err(error.to_string()), Err))
    }

    fn refusal(&mut self) -> Option<String> {
        const AT_ONCE: Duration = Duration::from_millis(10);
        let frame = read_frame(&self.stream, &mut self.input, LIMIT_BYTES, AT_ONCE).ok()?;
        match snapshot::decode(frame) {
            Ok(Spoken::Refused(refused)) => Some(refused.reason),
            _ => None,
        }
    }
}

impl Link for TcpLink {
    fn offer(&mut self, offer: &Offer) -> Result<(), String> {
        self.say(|out| snapshot::encode_offer(offer, out))
    }

    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.say(|out| snapshot::encode_chunk(offset, bytes, out))
    }

    fn progress(&mut self, patience: Duration) -> Result<Progress, String> {
        let frame = read_frame(&self.stream, &mut self.input, LIMIT_BYTES, patience)?;
        match snapshot::decode(frame).map_err(|error| error.to_string())? {
            Spoken::Progress(progress) => Ok(progress),
            Spoken::Refused(refused) => Err(format!("refused: {}", refused.reason)),
            Spoken::Offer(_) | Spoken::Chunk(..) => Err("answers with a snapshot of its own".into()),
        }
    }
}

impl Shared {
    /// Marks the snapshot that is on its way to a peer as not wanted any more, and returns the mark for the next one.
    pub(super) fn replace_snapshot(&self, to: NodeId) -> Arc<AtomicBool> {
        let next = Arc::<AtomicBool>::default();
        if let Some(before) = lock(&self.sending).insert(to, next.clone()) {
            before.store(true, std::sync::atomic::Ordering::Release);
        }
        next
    }

    /// Nobody wants the snapshots any more that are on their way from here.
    pub(super) fn abandon_snapshots(&self) {
        for abandoned in std::mem::take(&mut *lock(&self.sending)).into_values() {
            abandoned.store(true, std::sync::atomic::Ordering::Release);
        }
    }
}
