//! Snapshots: when one is due, what becomes of the log then, and those that travel.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::effects::Payloads;
use super::{Driver, DriverConfig, report};
use crate::consensus::{Event, Index, Message, MessageBody, NodeId, SnapshotMeta, Term};
use crate::marks::{Mark, mark, mark_if};
use crate::mutants::{Mutant, mutant};
use crate::runtime::SnapshotView;
use crate::runtime::stage::apply::ApplyJob;
use crate::runtime::stage::snapshot::SnapshotJob;
use crate::runtime::stage::storage::StorageJob;
use crate::storage::snapshot::{SnapshotInfo, SnapshotStore};

/// When a snapshot did not fit on the disk, the next is tried after so long.
const RETRY: Duration = Duration::from_secs(10);
/// When a snapshot did not get to a peer, the next attempt waits so long: twice as long each time, up to [`RETRY`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// So many snapshots may wait for the log to become durable as far as they reach, before which nothing older goes: a log
/// that is slower than its snapshots must not fill the disk with them.
const MAX_WAITING: usize = 2;

/// What the driver knows of snapshots.
pub(super) struct Snapshots {
    pub store: Arc<dyn SnapshotStore>,
    /// A snapshot is due after so many bytes of log, or so many as the last one has, if those are more.
    max_bytes: u64,
    /// It is also due after so many entries, or in proportion more if the last one has more bytes than that.
    max_entries: u64,
    /// And so long after `since`, if ever.
    max_age: Option<Duration>,
    /// Index and size in bytes of the last one.
    last: (Index, u64),
    /// Everything up to here was counted.
    counted: Index,
    /// Bytes of log that were applied since the last one.
    bytes: u64,
    /// When the first entry since the last one was applied, as far as this process knows; `None`: there is none.
    since: Option<Duration>,
    /// The last one is damaged, and a peer needs one.
    lost: bool,
    making: Making,
    /// Those that are durable, and by which token the log is, too: then the older ones go.
    durable_with: VecDeque<(u64, SnapshotMeta)>,
    /// On their way to peers.
    sending: BTreeMap<NodeId, Sending>,
    /// Peers that the last one did not get to.
    failing: BTreeMap<NodeId, Pause>,
}

/// No snapshot is sent to a peer before a time: its disk may be full, and each attempt costs both sides the reading and
/// writing of all that it gets.
struct Pause {
    until: Duration,
    length: Duration,
}

/// At most one at a time is made.
enum Making {
    Nothing,
    /// Waits for the apply stage, or the snapshot stage, which goes on as long as this is there.
    Snapshot(Arc<()>),
    /// Nothing before this time: the disk is full.
    NotBefore(Duration),
    /// The state machine has no snapshots.
    Never,
}

struct Sending {
    term: Term,
    index: Index,
    /// When it was complete at the peer.
    complete: Option<Duration>,
}

impl Snapshots {
    /// The log is as long as it is; `last` is the snapshot that the state machine was restored from.
    pub fn new(store: Arc<dyn SnapshotStore>, last: Index, config: &DriverConfig) -> Self {
        let bytes = store.list().iter().find(|known| known.meta.index == last).map_or(0, |known| known.bytes);
        Snapshots {
            store,
            max_bytes: config.snapshot_bytes,
            max_entries: config.snapshot_entries,
            max_age: config.snapshot_age,
            last: (last, bytes),
            counted: last,
            bytes: 0,
            since: None,
            lost: false,
            making: Making::Nothing,
            durable_with: VecDeque::new(),
            sending: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    /// A snapshot did not get to this peer.
    fn failed(&mut self, to: NodeId, now: Duration) {
        let length = self.failing.get(&to).map_or(FIRST_PAUSE, |pause| RETRY.min(2 * pause.length));
        self.failing.insert(to, Pause { until: now + length, length });
    }

    fn threshold_bytes(&self) -> u64 {
        self.max_bytes.max(self.last.1)
    }

    /// Whether there are that many entries. A large state is not written again and again for a little log of small ones: the
    /// limit grows as that of the bytes does.
    fn has_many_entries(&self) -> bool {
        let entries = self.counted.0 - self.last.0.0;
        u128::from(entries) * u128::from(self.max_bytes)
            >= u128::from(self.max_entries) * u128::from(self.threshold_bytes())
    }

    /// Since when one is due, or from when on it will be if no more is applied; `None`: never.
    fn due_at(&self) -> Option<Duration> {
        if self.lost {
            return Some(Duration::ZERO);
        }
        let since = self.since?;
        let is_due = self.bytes > self.threshold_bytes() || self.has_many_entries();
        if is_due { Some(since) } else { self.max_age.map(|age| since + age) }
    }

    /// When to begin the next one if no more is applied; `None`: never, or one is being made.
    pub fn next_due(&self) -> Option<Duration> {
        match self.making {
            _ if self.durable_with.len() >= MAX_WAITING => None,
            Making::Nothing => self.due_at(),
            Making::NotBefore(at) => self.due_at().map(|due| due.max(at)),
            Making::Snapshot(_) | Making::Never => None,
        }
    }

    /// As soon as the log is durable up to this token, the snapshots before this one may go.
    pub fn will_be_durable(&mut self, token: u64, snapshot: SnapshotMeta) {
        self.durable_with.push_back((token, snapshot));
    }

    /// The last one is of this index and has so many bytes now. Of the log after it so many were applied, since about then.
    fn begin_after(&mut self, last: (Index, u64), applied_bytes: u64, since: Duration) {
        self.last = last;
        self.counted = self.counted.max(last.0);
        self.bytes = applied_bytes;
        self.since = (self.counted > last.0).then_some(since);
        self.lost = false;
    }
}

impl Driver {
    /// Entries were applied: a snapshot may be due.
    pub(super) fn count_applied(&mut self, index: Index) {
        let Snapshots { counted, bytes, since, .. } = &mut self.snapshots;
        if index > *counted {
            *bytes += self.server.log_bytes(counted.next(), index);
            *counted = index;
            since.get_or_insert(self.now);
        }
    }

    /// At the end of a turn: begins a snapshot if one is due.
    pub(super) fn make_snapshot_if_due(&mut self) {
        if self.snapshots.next_due().is_some_and(|at| at <= self.now) {
            self.snapshots.making = Making::Snapshot(Arc::default());
            self.apply_job.snapshot = true;
        }
    }

    /// The state of some entry is there to be written.
    pub(super) fn snapshot_view(&mut self, view: SnapshotView) {
        let SnapshotView { index, term, time, state } = view;
        let Making::Snapshot(wanted) = &self.snapshots.making else { return mark(Mark::ViewStale) };
        let Some(state) = state else {
            log::warn!("the state machine has no snapshots: the log of {} grows", self.me());
            self.snapshots.making = Making::Never;
            return;
        };
        // Meanwhile the state may have been replaced by a newer one.
        if self.server.term_at(index) != Some(term) || index <= self.snapshots.last.0 {
            self.snapshots.making = Making::Nothing;
            return mark(Mark::ViewStale);
        }
        let membership = self.server.membership_at(index).clone();
        let meta = SnapshotMeta { index, term, time, membership };
        let job = SnapshotJob::Take { meta, state, wanted: Arc::downgrade(wanted) };
        // A stage that is gone has said why.
        self.stages.snapshot.send(job);
    }

    /// A snapshot of the own state is durable: the log before it may go, but for a tail.
    pub(super) fn snapshot_taken(&mut self, info: SnapshotInfo) {
        self.snapshots.making = Making::Nothing;
        let SnapshotInfo { meta, bytes } = info;
        if meta.index <= self.snapshots.last.0 {
            return;
        }
        let keep_from = self.keep_from(meta.index);
        log::info!(
            "{} has a snapshot of entry {} ({bytes} bytes), and keeps its log from entry {keep_from}",
            self.me(),
            meta.index
        );
        let applied_bytes = self.server.log_bytes(meta.index.next(), self.snapshots.counted);
        self.snapshots.begin_after((meta.index, bytes), applied_bytes, self.now);
        let token = self.last_token;
        let job = self.storage_job.get_or_insert_with(|| StorageJob { token, ..StorageJob::default() });
        job.keep_from = job.keep_from.max(Some(keep_from));
        let token = job.token;
        self.snapshots.will_be_durable(token, meta.clone());
        self.feed(Event::SnapshotTaken { snapshot: meta, keep_from }, Payloads::None);
    }

    /// Where the log goes on, after a snapshot: with what followers that listen may still need, as far as that is not too
    /// much.
    fn keep_from(&self, index: Index) -> Index {
        let least = self.server.tail_start(index, self.snapshots.max_bytes / 4);
        let most = self.server.tail_start(index, self.snapshots.threshold_bytes());
        let heard_since = self.now.saturating_sub(2 * self.config.election_timeout);
        let listening = self.server.progress().filter(|peer| peer.state == "replicate" && peer.heard >= heard_since);
        let receiving = self.snapshots.sending.values().map(|sending| sending.index);
        let needed = listening.map(|peer| peer.matched).chain(receiving).map(Index::next).min();
        let keep_from = needed.map_or(least, |needed| needed.max(most).min(least));
        mark_if(keep_from < least, Mark::LogKeptForPeer);
        keep_from
    }

    /// No snapshot came of it.
    pub(super) fn snapshot_put_off(&mut self, reason: &str) {
        if let Making::Snapshot(_) = self.snapshots.making {
            mark(Mark::SnapshotPutOff);
            log::error!("no snapshot: {reason}. {} tries again in {} s", self.me(), RETRY.as_secs());
            self.snapshots.making = Making::NotBefore(self.now + RETRY);
        }
    }

    /// The log is durable up to this token: so no snapshot older than those that were durable before is needed.
    pub(super) fn remove_older_snapshots(&mut self, token: u64) {
        let mut newest = None;
        while let Some((_, meta)) = self.snapshots.durable_with.pop_front_if(|(with, _)| *with <= token) {
            newest = Some(meta);
        }
        if let Some(than) = newest {
            self.stages.snapshot.send(SnapshotJob::RemoveOlder { than });
        }
    }

    /// A leader's snapshot has arrived.
    pub(super) fn snapshot_received(&mut self, from: NodeId, term: Term, snapshot: SnapshotMeta) {
        log::info!("{} has received a snapshot of entry {} from {}", self.me(), snapshot.index, self.name(from));
        let message = Message { term, body: MessageBody::InstallSnapshot { snapshot } };
        self.feed(Event::Receive { from, message }, Payloads::None);
    }

    /// The log and the state are replaced. The state machine is told at once, so that it knows before the log is gone.
    pub(super) fn install_snapshot(&mut self, snapshot: SnapshotMeta) {
        log::info!("{} goes on from the snapshot of entry {}", self.me(), snapshot.index);
        let index = snapshot.index;
        let known = self.snapshots.store.list().into_iter().find(|known| known.meta == snapshot);
        self.snapshots.begin_after((index, known.map_or(0, |known| known.bytes)), 0, self.now);
        if let Making::Snapshot(_) = self.snapshots.making {
            self.snapshots.making = Making::Nothing;
        }
        self.tail.install(index);
        self.commit = self.commit.max(index);
        for waiter in self.requests.waiters.covered(index) {
            mark(Mark::ProposalCovered);
            self.settled(waiter.connection);
            self.answer(waiter.asker, Err(report::leadership_lost()));
        }
        let job = ApplyJob { restore: Some(snapshot), ..ApplyJob::default() };
        // A stage that is gone has said why.
        self.stages.apply.send(job);
    }

    /// A peer needs a snapshot.
    pub(super) fn send_snapshot(&mut self, to: NodeId, at_least: Index) {
        let term = self.server.term();
        // Whatever was lost before in this turn, the server knew it when it decided this: should it fail, that is news.
        if !mutant(Mutant::P1) {
            self.lost.remove(&to);
        }
        if self.snapshots.sending.get(&to).is_some_and(|sending| sending.term == term && sending.complete.is_none()) {
            return mark(Mark::SendingAlready);
        }
        if self.snapshots.failing.get(&to).is_some_and(|pause| pause.until > self.now) {
            mark(Mark::SendingPaused);
            return self.unreachable(to);
        }
        let latest = self.snapshots.store.latest().filter(|latest| latest.meta.index >= at_least);
        let Some(SnapshotInfo { meta, bytes }) = latest else {
            // The one that was there is damaged.
            self.snapshots.last = (Index(0), 0);
            self.snapshots.lost = true;
            log::error!(
                "{} needs a snapshot from entry {at_least} on, and there is none: {} makes a new one",
                self.name(to),
                self.me()
            );
            return self.unreachable(to);
        };
        let index = meta.index;
        if self.transport.send_snapshot(to, term, meta).is_err() {
            return self.unreachable(to);
        }
        log::info!("{} sends the snapshot of entry {index} ({bytes} bytes) to {}", self.me(), self.name(to));
        self.snapshots.sending.insert(to, Sending { term, index, complete: None });
    }

    /// A snapshot is complete at a peer, which will say so itself when it goes on from there; or it was given up.
    pub(super) fn snapshot_sent(&mut self, to: NodeId, term: Term, index: Index, outcome: Result<(), String>) {
        let Some(sending) = self.snapshots.sending.get_mut(&to) else { return };
        if (sending.term, sending.index) != (term, index) {
            return;
        }
        match outcome {
            Ok(()) => {
                sending.complete = Some(self.now);
                self.snapshots.failing.remove(&to);
            }
            Err(reason) => {
                mark(Mark::SendingFailed);
                log::warn!("the snapshot of entry {index} did not get to {}: {reason}", self.name(to));
                self.snapshots.sending.remove(&to);
                self.snapshots.failed(to, self.now);
                self.unreachable(to);
                self.feed_caused();
            }
        }
    }

    /// Looks after those that are complete at a peer: it may have ended before it went on from there, or its word of that
    /// was lost.
    pub(super) fn follow_up_snapshots(&mut self) {
        let patience = 2 * self.config.election_timeout;
        let now = self.now;
        let is_over = |sending: &Sending| sending.complete.is_some_and(|at| at + patience <= now);
        let over: Vec<NodeId> =
            self.snapshots.sending.iter().filter(|(_, sending)| is_over(sending)).map(|(&to, _)| to).collect();
        for to in over {
            self.snapshots.sending.remove(&to);
            if self.server.progress().any(|peer| peer.id == to && peer.state == "snapshot") {
                mark(Mark::SendingForgotten);
                self.unreachable(to);
            }
        }
        self.feed_caused();
    }

    /// Leadership changed: nobody wants the snapshots that this node sends.
    pub(super) fn abandon_snapshots(&mut self) {
        if !std::mem::take(&mut self.snapshots.sending).is_empty() {
            mark(Mark::SendingAbandoned);
            self.transport.abandon_snapshots();
        }
    }
}
