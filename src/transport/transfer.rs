//! How a snapshot gets from one node to another, whatever carries it.
//!
//! The sender offers it, the receiver says how much of it it has, and gets the rest in chunks, each of which it
//! acknowledges. It says that all is complete once every byte was checked and is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::marks::{Mark, mark};
use crate::runtime::{Input, NodeHandle};
use crate::storage::StorageError;
use crate::storage::snapshot::{SnapshotReader, SnapshotReceiver, SnapshotStore};

/// A receiver checks at least so many bytes in a second: that is how long it may take to say what it has, or to complete it.
const CHECKED_BYTES_PER_SECOND: u64 = 16 << 20;

/// A sender that must not be too fast looks so often whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A snapshot to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The leader's term.
    pub term: Term,
    /// What it covers.
    pub snapshot: SnapshotMeta,
    /// Size of its file in bytes.
    pub bytes: u64,
}

/// How much of it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes from its beginning: the offset to go on from.
    pub received: u64,
    /// All of it is there, checked and durable.
    pub complete: bool,
}

/// What a sender has of its way to a receiver. The errors are for people.
pub trait Link {
    /// Says what is to be sent.
    fn offer(&mut self, offer: &Offer) -> Result<(), String>;
    /// Sends the bytes at this offset.
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String>;
    /// Waits for the next word of the receiver, for no longer than this.
    fn progress(&mut self, patience: Duration) -> Result<Progress, String>;
}

/// How fast, and in what pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Size of a chunk.
    pub chunk_bytes: usize,
    /// Most chunks that are not acknowledged.
    pub window: u64,
    /// Most bytes in a second.
    pub rate_bytes: u64,
    /// Without an acknowledgement for so long, the snapshot is given up.
    pub patience: Duration,
}

/// The shortest time without progress after which a snapshot is given up.
pub fn patience(election_timeout: Duration) -> Duration {
    (4 * election_timeout).max(Duration::from_secs(2))
}

/// One snapshot on its way out.
pub struct Sending {
    /// The node that sends it.
    pub node: NodeHandle,
    /// Where it is.
    pub store: Arc<dyn SnapshotStore>,
    /// To whom it goes.
    pub to: NodeId,
    /// In which term.
    pub term: Term,
    /// What it is.
    pub snapshot: SnapshotMeta,
    /// How fast.
    pub pace: Pace,
    /// Set when nobody wants it any more.
    pub abandoned: Arc<AtomicBool>,
}

impl Sending {
    /// Checks all of the snapshot, then sends it over the link that `connect` makes, and tells the node how that went.
    pub fn run<L: Link>(self, connect: impl FnOnce() -> Result<L, String>) {
        let outcome = self.check().and_then(|()| self.send(&mut connect()?));
        let Sending { node, to, term, snapshot, .. } = self;
        node.deliver(Input::SnapshotSent { to, term, index: snapshot.index, outcome });
    }

    /// Checks all of the snapshot: one that is damaged is never sent. A disk that fails stops the node.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.store.verify(&self.snapshot).map_err(|error| cannot(&self.node, &error))
    }

    fn send(&self, link: &mut impl Link) -> Result<(), String> {
        let (mut outgoing, offer) = Outgoing::begin(self)?;
        link.offer(&offer)?;
        let start = Instant::now();
        loop {
            match outgoing.next(start.elapsed())? {
                Next::Chunk(offset, bytes) => link.chunk(offset, bytes)?,
                Next::Rest(wait) => thread::sleep(wait),
                Next::Await(patience) => {
                    let progress = link.progress(patience)?;
                    outgoing.acknowledged(progress, start.elapsed())?;
                }
                Next::Complete => return Ok(()),
            }
        }
    }
}

/// A snapshot that was offered, in steps: what to send, and what to wait for. It neither waits nor has a clock.
pub struct Outgoing {
    node: NodeHandle,
    /// Stays readable, even if a newer one takes its place.
    reader: Box<dyn SnapshotReader>,
    bytes: u64,
    pace: Pace,
    abandoned: Arc<AtomicBool>,
    /// What the receiver has said last; nothing yet to the offer.
    progress: Option<Progress>,
    /// What was sent, and will be sent next.
    offset: u64,
    /// When the receiver answered the offer, and from where on it gets the rest.
    began: (Duration, u64),
    /// Since when the receiver's word is awaited; saying the same again is no news.
    awaiting: Option<Duration>,
    buffer: Vec<u8>,
}

/// What a sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Send the bytes at this offset.
    Chunk(u64, &'a [u8]),
    /// It would be too fast: ask again after this time.
    Rest(Duration),
    /// Wait for the receiver's word, for no longer than this.
    Await(Duration),
    /// The receiver has everything.
    Complete,
}

impl Outgoing {
    /// The steps, and the offer that is to be made first.
    pub fn begin(sending: &Sending) -> Result<(Outgoing, Offer), String> {
        let Sending { node, store, term, snapshot, pace, abandoned, .. } = sending;
        let reader = store.open(snapshot).map_err(|error| cannot(node, &error))?;
        let bytes = reader.info().bytes;
        let outgoing = Outgoing {
            node: node.clone(),
            reader,
            bytes,
            pace: *pace,
            abandoned: abandoned.clone(),
            progress: None,
            offset: 0,
            began: (Duration::ZERO, 0),
            awaiting: None,
            buffer: vec![0; pace.chunk_bytes],
        };
        Ok((outgoing, Offer { term: *term, snapshot: snapshot.clone(), bytes }))
    }

    /// The receiver's word. `now` is the time on any clock that [`next`](Outgoing::next) is told, too.
    pub fn acknowledged(&mut self, progress: Progress, now: Duration) -> Result<(), String> {
        if progress.received > self.bytes {
            let bytes = self.bytes;
            return Err(format!("{} bytes are acknowledged of a snapshot of {bytes}", progress.received));
        }
        if self.progress.is_none() {
            (self.offset, self.began) = (progress.received, (now, progress.received));
        }
        if progress.received > self.offset && !progress.complete {
            return Err(format!("{} bytes are acknowledged, {} were sent", progress.received, self.offset));
        }
        if self.progress.is_none_or(|before| progress.received > before.received) {
            self.awaiting = None;
        }
        self.progress = Some(progress);
        Ok(())
    }

    /// What to do at this time.
    ///
    /// # Errors
    /// It is no longer wanted, or cannot be read: then the node stops. For people.
    pub fn next(&mut self, now: Duration) -> Result<Next<'_>, String> {
        let Pace { chunk_bytes, window, rate_bytes, patience } = self.pace;
        // The receiver checks what it has, or all of it.
        let to_check = patience + Duration::from_secs(self.bytes / CHECKED_BYTES_PER_SECOND);
        let Some(progress) = self.progress else { return Ok(Next::Await(to_check)) };
        if progress.complete {
            return Ok(Next::Complete);
        }
        if self.abandoned.load(Ordering::Acquire) {
            return Err("it is no longer wanted".into());
        }
        let (began, first) = self.began;
        let due = began + Duration::from_secs_f64((self.offset - first) as f64 / rate_bytes.max(1) as f64);
        let early = due.saturating_sub(now);
        if !early.is_zero() {
            return Ok(Next::Rest(early.min(LOOK_UP)));
        }
        if self.offset >= self.bytes || self.offset - progress.received >= window * chunk_bytes as u64 {
            let is_last = progress.received + chunk_bytes as u64 >= self.bytes;
            let limit = if is_last { to_check } else { patience };
            let left = (*self.awaiting.get_or_insert(now) + limit).saturating_sub(now);
            if left.is_zero() {
                return Err(format!("no progress within {} ms", limit.as_millis()));
            }
            return Ok(Next::Await(left));
        }
        let offset = self.offset;
        let count = self.reader.read_at(offset, &mut self.buffer).map_err(|error| cannot(&self.node, &error))?;
        let chunk = self.buffer.get(..count).filter(|chunk| !chunk.is_empty());
        self.offset += count as u64;
        Ok(Next::Chunk(offset, chunk.ok_or("its file has become shorter")?))
    }
}

/// Takes one snapshot at a time in.
pub struct Receiving {
    store: Arc<dyn SnapshotStore>,
    node: NodeHandle,
    current: Option<(NodeId, Offer, Box<dyn SnapshotReceiver>)>,
}

impl Receiving {
    /// Takes snapshots into this store, and tells this node.
    pub fn new(store: Arc<dyn SnapshotStore>, node: NodeHandle) -> Self {
        Receiving { store, node, current: None }
    }

    /// A node offers a snapshot: what there was of another one is left as it is.
    pub fn offer(&mut self, from: NodeId, offer: Offer) -> Result<Progress, String> {
        self.current = None;
        if let Some(latest) = self.store.latest().filter(|latest| latest.meta.index >= offer.snapshot.index) {
            // The node has not gone on from it, or it would not have been offered: its leader was lost, say.
            mark(Mark::OfferedAlready);
            self.tell(from, offer.term, latest.meta);
            return Ok(Progress { received: offer.bytes, complete: true });
        }
        let receiver = self.store.receive(&offer.snapshot, offer.bytes).map_err(|error| cannot(&self.node, &error))?;
        self.current = Some((from, offer, receiver));
        self.progress()
    }

    /// The bytes at an offset of what this node has offered.
    pub fn chunk(&mut self, from: NodeId, offset: u64, bytes: &[u8]) -> Result<Progress, String> {
        let current = self.current.as_mut().filter(|(sender, ..)| *sender == from);
        let (_, _, receiver) = current.ok_or("a part of a snapshot that was not offered")?;
        let written = receiver.write(offset, bytes);
        written.map_err(|error| cannot(&self.node, &error))?;
        self.progress()
    }

    /// The sender is gone. What has arrived stays, for the next time.
    pub fn end(&mut self) {
        self.current = None;
    }

    fn progress(&mut self) -> Result<Progress, String> {
        let is_whole =
            |current: &mut (NodeId, Offer, Box<dyn SnapshotReceiver>)| current.2.received() == current.1.bytes;
        match self.current.take_if(is_whole) {
            Some((from, offer, receiver)) => {
                receiver.finish().map_err(|error| cannot(&self.node, &error))?;
                self.tell(from, offer.term, offer.snapshot);
                Ok(Progress { received: offer.bytes, complete: true })
            }
            None => {
                let received = self.current.as_ref().map_or(0, |(_, _, receiver)| receiver.received());
                Ok(Progress { received, complete: false })
            }
        }
    }

    fn tell(&self, from: NodeId, term: Term, snapshot: SnapshotMeta) {
        self.node.deliver(Input::SnapshotReceived { from, term, snapshot });
    }
}

/// Why a snapshot cannot be sent or received, for people. When the disk failed the node stops; when it is only full, what
/// has arrived is gone, and may come again.
fn cannot(node: &NodeHandle, error: &StorageError) -> String {
    if let StorageError::Io(reason) = error {
        node.deliver(Input::Failed { reason: format!("snapshot: {reason}") });
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::rc::Rc;

    use super::*;
    use crate::consensus::{Index, LogTime, Membership};
    use crate::runtime::Inboxes;
    use crate::storage::snapshot::{FileSnapshots, SnapshotInfo, SnapshotWriter};

    const PACE: Pace = Pace { chunk_bytes: 1000, window: 3, rate_bytes: u64::MAX, patience: Duration::from_millis(20) };

    fn meta(index: u64) -> SnapshotMeta {
        let membership = Membership::of_voters([NodeId(1), NodeId(2)]);
        SnapshotMeta { index: Index(index), term: Term(2), time: LogTime(3), membership }
    }

    fn take(store: &FileSnapshots, index: u64) {
        let mut writer = store.create(&meta(index)).unwrap();
        writer.write_all(&(0..200_000u64).map(|at| (at * index) as u8).collect::<Vec<u8>>()).unwrap();
        writer.finish().unwrap();
    }

    /// What happens to the chunk of this number.
    #[derive(Clone, Copy, PartialEq)]
    enum Trouble {
        Lost,
        Flipped,
        SenderStops,
    }

    struct Bench {
        from: Arc<FileSnapshots>,
        to: Arc<FileSnapshots>,
        receiving: Rc<RefCell<Receiving>>,
        inboxes: Inboxes,
        /// Offsets of the chunks of the latest attempt.
        offsets: Rc<RefCell<Vec<u64>>>,
    }

    struct TestLink {
        receiving: Rc<RefCell<Receiving>>,
        offsets: Rc<RefCell<Vec<u64>>>,
        said: std::collections::VecDeque<Result<Progress, String>>,
        trouble: Option<(usize, Trouble)>,
        abandoned: Arc<AtomicBool>,
    }

    impl Link for TestLink {
        fn offer(&mut self, offer: &Offer) -> Result<(), String> {
            self.said.push_back(self.receiving.borrow_mut().offer(NodeId(1), offer.clone()));
            Ok(())
        }

        fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
            self.offsets.borrow_mut().push(offset);
            let mut bytes = bytes.to_vec();
            if let Some((number, trouble)) = self.trouble
                && self.offsets.borrow().len() == number
            {
                match trouble {
                    Trouble::Lost => return Ok(()),
                    Trouble::Flipped => bytes[7] ^= 1,
                    Trouble::SenderStops => self.abandoned.store(true, Ordering::Release),
                }
            }
            self.said.push_back(self.receiving.borrow_mut().chunk(NodeId(1), offset, &bytes));
            Ok(())
        }

        fn progress(&mut self, patience: Duration) -> Result<Progress, String> {
            self.said.pop_front().unwrap_or_else(|| Err(format!("nothing within {patience:?}")))
        }
    }

    impl Bench {
        fn new() -> Self {
            let (node, inboxes) = NodeHandle::new();
            let (from, to) = (Arc::new(FileSnapshots::in_memory()), Arc::new(FileSnapshots::in_memory()));
            let receiving = Rc::new(RefCell::new(Receiving::new(to.clone(), node)));
            Bench { from, to, receiving, inboxes, offsets: Rc::default() }
        }

        fn send(&self, index: u64, trouble: Option<(usize, Trouble)>) -> Result<(), String> {
            self.send_at(index, trouble, u64::MAX)
        }

        fn send_at(&self, index: u64, trouble: Option<(usize, Trouble)>, rate_bytes: u64) -> Result<(), String> {
            let pace = Pace { rate_bytes, ..PACE };
            let abandoned = Arc::<AtomicBool>::default();
            let (to, term, snapshot) = (NodeId(2), Term(9), meta(index));
            let (node, outcome) = NodeHandle::new();
            let store = self.from.clone();
            let sending = Sending { node, store, to, term, snapshot, pace, abandoned: abandoned.clone() };
            self.offsets.borrow_mut().clear();
            let (receiving, offsets) = (self.receiving.clone(), self.offsets.clone());
            let link = TestLink { receiving, offsets, said: Default::default(), trouble, abandoned };
            sending.run(|| Ok(link));
            match outcome.internal.try_recv() {
                Ok(Input::SnapshotSent { to: NodeId(2), term: Term(9), index: sent, outcome }) if sent.0 == index => {
                    outcome
                }
                _ => panic!("the outcome is told, and nothing else"),
            }
        }

        fn received(&self) -> Vec<u64> {
            let index = |input| match input {
                Input::SnapshotReceived { from: NodeId(1), term: Term(9), snapshot } => snapshot.index.0,
                _ => panic!("nothing else is told"),
            };
            self.inboxes.internal.try_iter().map(index).collect()
        }

        fn state(&self, index: u64) -> Vec<u8> {
            let mut state = Vec::new();
            std::io::Read::read_to_end(&mut *self.to.open(&meta(index)).unwrap(), &mut state).unwrap();
            state
        }
    }

    #[test]
    fn a_snapshot_arrives_as_it_was() {
        let bench = Bench::new();
        take(&bench.from, 5);
        assert_eq!(bench.send(5, None), Ok(()));
        assert_eq!(bench.received(), [5]);
        assert_eq!(bench.state(5), (0..200_000u64).map(|at| (at * 5) as u8).collect::<Vec<u8>>());
        assert_eq!(bench.send(5, None), Ok(()), "it is there already");
        assert_eq!((bench.received(), bench.offsets.borrow().len()), (vec![5], 0), "and the node hears of it again");
    }

    #[test]
    fn an_interrupted_one_goes_on_where_it_was_and_a_lost_part_ends_the_attempt() {
        let bench = Bench::new();
        take(&bench.from, 5);
        assert_eq!(bench.send(5, Some((150, Trouble::SenderStops))), Err("it is no longer wanted".into()));
        let lost = bench.send(5, Some((10, Trouble::Lost))).unwrap_err();
        assert!(lost.contains("expected those at"), "a gap is refused: {lost}");
        let first = bench.offsets.borrow()[0];
        assert!(first >= 64 << 10, "went on at {first}: whole blocks are kept");
        assert_eq!(bench.received(), [0u64; 0]);
        assert_eq!(bench.send(5, None), Ok(()));
        assert_eq!(bench.received(), [5]);
    }

    #[test]
    fn what_changed_on_the_way_is_never_taken() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let flipped = bench.send(5, Some((100, Trouble::Flipped))).unwrap_err();
        assert!(flipped.contains("is damaged at offset"), "{flipped}");
        assert_eq!((bench.received(), bench.to.list().len()), (vec![], 0));
        assert_eq!(bench.send(5, None), Ok(()), "all of it is sent anew");
        assert_eq!(bench.offsets.borrow()[0], 0);
    }

    #[test]
    fn one_that_stalls_is_given_up() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let stalled = bench.send(5, Some((201, Trouble::Lost))).unwrap_err();
        assert!(stalled.starts_with("nothing within"), "{stalled}");
    }

    /// Takes everything, and says again and again that nothing has arrived.
    struct Stuck;

    impl Link for Stuck {
        fn offer(&mut self, _: &Offer) -> Result<(), String> {
            Ok(())
        }

        fn chunk(&mut self, _: u64, _: &[u8]) -> Result<(), String> {
            Ok(())
        }

        fn progress(&mut self, patience: Duration) -> Result<Progress, String> {
            assert!(patience <= PACE.patience);
            thread::sleep(PACE.patience / 10);
            Ok(Progress { received: 0, complete: false })
        }
    }

    /// Says that it has more than there is.
    struct Boaster(u64);

    impl Link for Boaster {
        fn offer(&mut self, _: &Offer) -> Result<(), String> {
            Ok(())
        }

        fn chunk(&mut self, offset: u64, _: &[u8]) -> Result<(), String> {
            panic!("there is nothing at {offset}");
        }

        fn progress(&mut self, _: Duration) -> Result<Progress, String> {
            Ok(Progress { received: self.0, complete: false })
        }
    }

    fn sending(store: Arc<dyn SnapshotStore>) -> (Sending, Inboxes) {
        let (node, inboxes) = NodeHandle::new();
        let (to, term, snapshot, abandoned) = (NodeId(2), Term(9), meta(5), Arc::default());
        (Sending { node, store, to, term, snapshot, pace: PACE, abandoned }, inboxes)
    }

    /// The disk below fails from this read of a snapshot's file on; the check before is not one of them.
    struct FailingDisk {
        store: Arc<FileSnapshots>,
        good_reads: usize,
    }

    struct FailingReader {
        reader: Box<dyn SnapshotReader>,
        good_reads: std::cell::Cell<usize>,
    }

    impl std::io::Read for FailingReader {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.reader.read(buffer)
        }
    }

    impl SnapshotReader for FailingReader {
        fn info(&self) -> &SnapshotInfo {
            self.reader.info()
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
            match self.good_reads.get().checked_sub(1) {
                None => Err(StorageError::Io("cannot read: the disk is broken".into())),
                Some(left) => {
                    self.good_reads.set(left);
                    self.reader.read_at(offset, buffer)
                }
            }
        }
    }

    impl SnapshotStore for FailingDisk {
        fn list(&self) -> Vec<SnapshotInfo> {
            self.store.list()
        }

        fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
            self.store.create(meta)
        }

        fn verify(&self, meta: &SnapshotMeta) -> Result<(), StorageError> {
            self.store.verify(meta)
        }

        fn receive(&self, meta: &SnapshotMeta, bytes: u64) -> Result<Box<dyn SnapshotReceiver>, StorageError> {
            self.store.receive(meta, bytes)
        }

        fn remove_older(&self, than: &SnapshotMeta) -> Result<(), StorageError> {
            self.store.remove_older(than)
        }

        fn open(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotReader>, StorageError> {
            let good_reads = self.good_reads.into();
            Ok(Box::new(FailingReader { reader: self.store.open(meta)?, good_reads }))
        }
    }

    #[test]
    fn a_disk_that_fails_while_a_snapshot_is_read_to_be_sent_stops_the_node() {
        for good_reads in 0..3 {
            let bench = Bench::new();
            take(&bench.from, 5);
            let (sending, inboxes) = sending(Arc::new(FailingDisk { store: bench.from.clone(), good_reads }));
            let (receiving, offsets) = (bench.receiving.clone(), bench.offsets.clone());
            let abandoned = sending.abandoned.clone();
            sending.run(|| Ok(TestLink { receiving, offsets, said: Default::default(), trouble: None, abandoned }));
            assert_eq!(bench.offsets.borrow().len(), good_reads, "it failed when it was to fail");
            let told: Vec<Input> = inboxes.internal.try_iter().collect();
            assert!(
                matches!(&told[..], [Input::Failed { reason }, Input::SnapshotSent { outcome: Err(why), .. }]
                    if reason.contains("the disk is broken") && why.contains("the disk is broken")),
                "the node is told to stop, and then that nothing was sent"
            );
            assert!(bench.received().is_empty());
        }
    }

    #[test]
    fn whoever_repeats_himself_makes_no_progress() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let (sending, _inboxes) = sending(bench.from);
        let stuck = sending.send(&mut Stuck).unwrap_err();
        assert_eq!(stuck, format!("no progress within {} ms", PACE.patience.as_millis()));
    }

    #[test]
    fn whoever_has_more_than_there_is_gets_nothing() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let bytes = bench.from.latest().unwrap().bytes;
        let (sending, _inboxes) = sending(bench.from);
        for received in [bytes + 1, u64::MAX] {
            let refused = sending.send(&mut Boaster(received)).unwrap_err();
            assert_eq!(refused, format!("{received} bytes are acknowledged of a snapshot of {bytes}"));
        }
    }

    #[test]
    fn a_stale_one_is_not_taken_in_place_of_a_newer() {
        let bench = Bench::new();
        take(&bench.from, 5);
        take(&bench.to, 9);
        assert_eq!(bench.send(5, None), Ok(()));
        assert_eq!((bench.received(), bench.offsets.borrow().len()), (vec![9], 0), "the newer one does as well");
        assert_eq!(
            bench.receiving.borrow_mut().chunk(NodeId(1), 0, &[1]).unwrap_err(),
            "a part of a snapshot that was not offered"
        );
    }

    #[test]
    fn a_newer_one_may_be_made_while_an_older_is_on_its_way() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let reader = bench.from.open(&meta(5)).unwrap();
        take(&bench.from, 6);
        bench.from.remove_older(&meta(6)).unwrap();
        let mut bytes = vec![0; reader.info().bytes as usize];
        assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
        let offer = Offer { term: Term(9), snapshot: meta(5), bytes: bytes.len() as u64 };
        bench.receiving.borrow_mut().offer(NodeId(1), offer).unwrap();
        let progress = bench.receiving.borrow_mut().chunk(NodeId(1), 0, &bytes);
        assert_eq!(progress, Ok(Progress { received: bytes.len() as u64, complete: true }));
        assert!(bench.send(5, None).is_err(), "it is gone by now");
        assert_eq!(bench.send(6, None), Ok(()));
        assert_eq!(bench.received(), [5, 6]);
    }

    #[test]
    fn the_rate_is_kept() {
        let bench = Bench::new();
        take(&bench.from, 5);
        let start = Instant::now();
        assert_eq!(bench.send_at(5, None, 1_000_000), Ok(()));
        assert!(start.elapsed() >= Duration::from_millis(190), "200 kB came within {:?}", start.elapsed());
    }
}
