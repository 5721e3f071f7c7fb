//! Snapshots over the shared streams: in parts as lines, one outstanding at a time, between the messages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::wire::{CHUNK_BYTES, Chunk};
use super::{Output, Wire};
use crate::consensus::{Index, NodeId, SnapshotMeta, Term};
use crate::runtime::spawn_guarded;
use crate::runtime::{Input, NodeHandle};
use crate::storage::snapshot::SnapshotStore;
use crate::transport::Undelivered;
use crate::transport::transfer::{Link, Offer, Pace, Progress, Receiving, Sending};

/// One part at a time, as fast as it is acknowledged.
const PACE: Pace = Pace { chunk_bytes: CHUNK_BYTES, window: 1, rate_bytes: u64::MAX, patience: Duration::from_secs(5) };

type Answer = (Index, Result<Progress, String>);

/// What a node has to do with snapshots of its peers, and with its own on their way to them.
pub struct Snapshots {
    wire: Arc<Wire>,
    output: Arc<Output>,
    /// Apart from the rest: whoever takes a part in may have to wait for the node, and the node must not wait for that.
    receiving: Mutex<Option<Receiving>>,
    kept: Mutex<Option<Kept>>,
}

/// Known once the node runs.
struct Kept {
    node: NodeHandle,
    store: Arc<dyn SnapshotStore>,
    /// Where the answers of those go that are being sent something, and the mark that it is not wanted any more.
    sending: BTreeMap<NodeId, (Sender<Answer>, Arc<AtomicBool>)>,
}

impl Snapshots {
    /// Nothing, until the node runs.
    pub fn new(wire: Arc<Wire>, output: Arc<Output>) -> Arc<Self> {
        Arc::new(Snapshots { wire, output, receiving: Mutex::default(), kept: Mutex::default() })
    }

    /// The node runs, and has its snapshots here.
    pub(super) fn begin(&self, node: NodeHandle, store: Arc<dyn SnapshotStore>) {
        *lock(&self.receiving) = Some(Receiving::new(store.clone(), node.clone()));
        *lock(&self.kept) = Some(Kept { node, store, sending: BTreeMap::new() });
    }

    /// The node has ended.
    pub(super) fn end(&self) {
        self.abandon();
        *lock(&self.kept) = None;
        if let Ok(mut receiving) = self.receiving.try_lock() {
            *receiving = None;
        }
    }

    /// A part has arrived: answers it.
    pub fn receive(&self, from: NodeId, chunk: Chunk) {
        let Chunk { offer, offset, bytes } = chunk;
        let index = offer.snapshot.index;
        let answer = match &mut *lock(&self.receiving) {
            None => Err("this node does not run".into()),
            Some(receiving) if bytes.is_empty() => receiving.offer(from, offer),
            Some(receiving) => receiving.chunk(from, offset, &bytes),
        };
        if let Err(reason) = &answer {
            log::warn!("cannot take a snapshot from node {from}: {reason}");
        }
        let mut line = Vec::new();
        match self.wire.encode_chunk_answer(from, index, answer, &mut line) {
            Ok(()) => self.say(&line),
            Err(why) => log::error!("an answer for node {from} was dropped: {why}"),
        }
    }

    /// The receiver of a part has answered.
    pub fn answered(&self, from: NodeId, index: Index, answer: Result<Progress, String>) {
        if let Some((sending, _)) = lock(&self.kept).as_ref().and_then(|kept| kept.sending.get(&from)) {
            // One answer is awaited, and room for one: more were not asked for.
            let _ = sending.try_send((index, answer));
        }
    }

    pub(super) fn send(self: &Arc<Self>, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        let (answer, answers) = crossbeam_channel::bounded(1);
        let abandoned = Arc::<AtomicBool>::default();
        let mut kept = lock(&self.kept);
        let kept = kept.as_mut().ok_or(Undelivered)?;
        if let Some((_, before)) = kept.sending.insert(to, (answer, abandoned.clone())) {
            before.store(true, Ordering::Release);
        }
        let (node, failed) = (kept.node.clone(), kept.node.clone());
        let sending = Sending { node, store: kept.store.clone(), to, term, snapshot, pace: PACE, abandoned };
        let link = StdioLink { shared: self.clone(), to, offer: None, answers };
        let name = format!("snapshot-{to}");
        let started = spawn_guarded(
            name,
            move || sending.run(|| Ok(link)),
            move |reason| {
                failed.deliver(Input::Failed { reason });
            },
        );
        started.map(drop).map_err(|_| Undelivered)
    }

    pub(super) fn abandon(&self) {
        let sending = lock(&self.kept).as_mut().map(|kept| std::mem::take(&mut kept.sending));
        for (_, abandoned) in sending.unwrap_or_default().into_values() {
            abandoned.store(true, Ordering::Release);
        }
    }

    fn say(&self, line: &[u8]) {
        self.output.lines(line);
        self.output.flush();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct StdioLink {
    shared: Arc<Snapshots>,
    to: NodeId,
    offer: Option<Offer>,
    answers: Receiver<Answer>,
}

impl StdioLink {
    fn say(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let offer = self.offer.clone().ok_or("nothing was offered")?;
        let mut line = Vec::new();
        let chunk = Chunk { offer, offset, bytes: bytes.to_vec() };
        self.shared.wire.encode_chunk(self.to, &chunk, &mut line)?;
        if !self.shared.output.has_room() {
            return Err("nobody reads the output".into());
        }
        self.shared.say(&line);
        Ok(())
    }
}

impl Link for StdioLink {
    fn offer(&mut self, offer: &Offer) -> Result<(), String> {
        self.offer = Some(offer.clone());
        self.say(0, &[])
    }

    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.say(offset, bytes)
    }

    fn progress(&mut self, patience: Duration) -> Result<Progress, String> {
        let wanted = self.offer.as_ref().map(|offer| offer.snapshot.index);
        loop {
            match self.answers.recv_timeout(patience) {
                Ok((index, answer)) if Some(index) == wanted => return answer,
                Ok(_) => {}
                Err(_) => return Err(format!("no answer within {} ms", patience.as_millis())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::OnceLock;

    use super::*;
    use crate::consensus::{LogTime, Membership};
    use crate::runtime::Life;
    use crate::storage::snapshot::FileSnapshots;
    use crate::transport::stdio::{Names, Said};

    /// Carries the lines of one node to the other.
    struct Carrier {
        from: NodeId,
        wire: Arc<Wire>,
        to: Arc<OnceLock<Arc<Snapshots>>>,
    }

    impl Write for Carrier {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: serde_json::Value = serde_json::from_slice(line)?;
                let body = serde_json::value::to_raw_value(&line["body"])?;
                let to = self.to.wait();
                match self.wire.decode(self.from, &body).unwrap().unwrap().said {
                    Said::Chunk(chunk) => to.receive(self.from, chunk),
                    Said::ChunkAnswer(index, answer) => to.answered(self.from, index, answer),
                    Said::Message(_) => panic!("nothing but a snapshot is sent"),
                }
            }
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_snapshot_gets_from_one_node_to_another() {
        let wire = |me: &str| {
            let wire = Wire::new(Names::new(me, vec!["n1".into(), "n2".into()]).unwrap());
            wire.begin_life(Life { incarnation: 1, boot: 1 });
            Arc::new(wire)
        };
        let (one, two) = (wire("n1"), wire("n2"));
        let (far_one, far_two) = <(Arc<OnceLock<_>>, Arc<OnceLock<_>>)>::default();
        let carrier = |from, wire: &Arc<Wire>, to: &Arc<OnceLock<Arc<Snapshots>>>| {
            let carrier = Carrier { from, wire: wire.clone(), to: to.clone() };
            Output::start(carrier, |error| panic!("{error}")).unwrap()
        };
        let sender = Snapshots::new(one.clone(), carrier(NodeId(1), &two, &far_two));
        let receiver = Snapshots::new(two, carrier(NodeId(2), &one, &far_one));
        assert!(far_two.set(receiver.clone()).is_ok() && far_one.set(sender.clone()).is_ok());

        let (from, to) = (Arc::new(FileSnapshots::in_memory()), Arc::new(FileSnapshots::in_memory()));
        let membership = Membership::of_voters([NodeId(1), NodeId(2)]);
        let snapshot = SnapshotMeta { index: Index(5), term: Term(2), time: LogTime(3), membership };
        let mut writer = from.create(&snapshot).unwrap();
        writer.write_all(&vec![7; 200_000]).unwrap();
        writer.finish().unwrap();
        let ((node, sent), (other, received)) = (NodeHandle::new(), NodeHandle::new());
        sender.begin(node, from);
        receiver.begin(other, to.clone());
        sender.send(NodeId(2), Term(4), snapshot.clone()).unwrap();
        let patience = Duration::from_secs(20);
        assert!(matches!(sent.internal.recv_timeout(patience), Ok(Input::SnapshotSent { outcome: Ok(()), .. })));
        let arrived = received.internal.recv_timeout(patience);
        assert!(
            matches!(arrived, Ok(Input::SnapshotReceived { from: NodeId(1), snapshot: found, .. }) if found == snapshot)
        );
        assert!(to.verify(&snapshot).is_ok());
        sender.end();
        assert!(sender.send(NodeId(2), Term(4), snapshot).is_err(), "the node has ended");
    }
}
