//! Applies committed entries to the state machine in order, runs reads at their positions between them, and answers
//! clients.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::TryRecvError;

use super::{Asker, Jobs, Sinks, Stage, Step};
use crate::consensus::{Entry, EntryHeader, EntryKind, Index, LogTime, Payload, SnapshotMeta, Term};
use crate::machine::{Applied, Asked, Machine};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};
use crate::runtime::{Input, LogLine, NodeHandle, PeerReply, Response, SnapshotView};
use crate::storage::LogReader;
use crate::storage::snapshot::SnapshotStore;
use crate::transport::Failure;

/// Most entries, and reads, of a job that may be done at once. So many take longer than to wake this stage's thread, but less of
/// the processor, and whoever waits for their answers gains; more than that are better done beside the next turn.
const AT_ONCE: usize = 64;

/// Entries that the machine is shown before the first of them is applied: what a processor's cache has room for, and more than
/// it can wait for at a time.
const AHEAD: usize = 32;

/// Bytes of payload read back from the log at once, when committed entries are no longer in memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// Everything that one turn of the event handler has for the state machine.
#[derive(Default)]
pub struct ApplyJob {
    /// Reads whose leadership is confirmed. They are taken in before `commit`, so that none can miss its position.
    pub reads: Vec<PositionedRead>,
    /// Replace the state by this snapshot, which is in the store, before anything later is applied.
    pub restore: Option<SnapshotMeta>,
    /// What is committed now.
    pub commit: Option<Commit>,
    /// When that is applied: take a view of the state.
    pub snapshot: bool,
    /// Looks at this node alone.
    pub looks: Vec<Look>,
}

impl ApplyJob {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
            && self.restore.is_none()
            && self.commit.is_none()
            && !self.snapshot
            && self.looks.is_empty()
    }
}

/// A read that must see every entry up to a position, and is run before the next one is applied if it comes in time.
pub struct PositionedRead {
    /// The position.
    pub position: Index,
    /// Log time when its leadership was confirmed.
    pub time: LogTime,
    /// The query.
    pub query: Payload,
    /// Who asked.
    pub asker: Asker,
}

/// Everything up to an index is committed.
pub struct Commit {
    /// Last committed index.
    pub last: Index,
    /// The last of the entries to apply, up to `last`; what is missing before them is read back from the log.
    pub entries: Vec<Entry>,
    /// Who proposed which entry, in order of index.
    pub askers: Vec<(Index, Asker)>,
}

/// A question about this node alone.
pub enum Look {
    /// The state machine as it is.
    LocalRead {
        /// The query.
        query: Payload,
        /// Who asked.
        asker: Asker,
    },
    /// Entries of the log, in words.
    Log {
        /// First index to show; `None`: the last `count` of them.
        from: Option<Index>,
        /// How many at most.
        count: u64,
        /// First index that the log still has.
        first: Index,
        /// Last index of the log.
        last: Index,
        /// Who asked.
        asker: Asker,
    },
}

/// Owns the state machine.
pub struct ApplyStage {
    machine: Box<dyn Machine>,
    reader: Arc<dyn LogReader>,
    snapshots: Arc<dyn SnapshotStore>,
    jobs: Jobs<ApplyJob>,
    /// Taken from there already.
    queued: VecDeque<ApplyJob>,
    node: NodeHandle,
    applied: Index,
    /// Term and log time of that entry.
    applied_at: (Term, LogTime),
    committed: Index,
    waiting: BTreeMap<Index, Vec<PositionedRead>>,
    sinks: Sinks,
    replies: Vec<PeerReply>,
}

impl ApplyStage {
    /// A stage for a machine whose state is that of a snapshot, if there is one, and empty otherwise.
    pub fn new(
        machine: Box<dyn Machine>,
        restored: Option<&SnapshotMeta>,
        reader: Arc<dyn LogReader>,
        snapshots: Arc<dyn SnapshotStore>,
        jobs: Jobs<ApplyJob>,
        node: NodeHandle,
    ) -> Self {
        let applied = restored.map_or(Index(0), |snapshot| snapshot.index);
        ApplyStage {
            machine,
            reader,
            snapshots,
            jobs,
            queued: VecDeque::new(),
            node,
            applied,
            applied_at: restored.map_or_else(Default::default, |snapshot| (snapshot.term, snapshot.time)),
            committed: applied,
            waiting: BTreeMap::new(),
            sinks: Sinks::default(),
            replies: Vec::new(),
        }
    }

    /// Does a job on the thread that has it, if that is brief and nothing comes before it; or else gives it back.
    pub fn try_now(&mut self, job: ApplyJob) -> Option<ApplyJob> {
        let is_next = self.queued.is_empty() && self.jobs.is_empty() && self.waiting.is_empty();
        if !is_next || !self.is_brief(&job) {
            return Some(job);
        }
        mark(Mark::ApplyAtOnce);
        if self.work(job) {
            self.report();
        }
        None
    }

    /// Whether it is little, and nothing of it can take long.
    fn is_brief(&self, job: &ApplyJob) -> bool {
        let ApplyJob { reads, restore: None, commit, snapshot: false, looks } = job else { return false };
        let entries = commit.as_ref().map_or(&[][..], |commit| &commit.entries);
        let follows = entries.first().is_some_and(|first| first.header.index == self.applied.next());
        looks.is_empty()
            && reads.len().max(entries.len()) <= AT_ONCE
            && (follows || commit.is_none())
            && reads.iter().all(|read| self.machine.is_brief_query(&read.query))
            && entries
                .iter()
                .all(|entry| entry.header.kind == EntryKind::Command && self.machine.is_brief(applied(entry, false)))
    }

    /// Does this; or tells the node that it failed, and returns false.
    fn work(&mut self, job: ApplyJob) -> bool {
        let done = self.take(job);
        if let Err(reason) = done {
            self.report();
            self.node.deliver(Input::Failed { reason });
            return false;
        }
        true
    }

    fn take(&mut self, job: ApplyJob) -> Result<(), String> {
        for read in job.reads {
            if read.position <= self.applied {
                self.run(read);
            } else {
                self.waiting.entry(read.position).or_default().push(read);
            }
        }
        if let Some(snapshot) = job.restore {
            self.restore(&snapshot)?;
        }
        if let Some(commit) = job.commit {
            self.commit(commit)?;
        }
        if job.snapshot {
            self.view();
        }
        for look in job.looks {
            self.look(look)?;
        }
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), String> {
        self.committed = self.committed.max(commit.last);
        let in_memory = commit.entries.first().map_or(commit.last.next(), |entry| entry.header.index);
        let mut askers = commit.askers.into_iter().peekable();
        while self.applied.next() < in_memory {
            if askers.peek().is_none() && self.is_over() {
                // Nobody waits for the rest: the next start applies it.
                return Ok(());
            }
            let first = self.applied.next();
            let entries =
                self.reader.read(first, in_memory.prev(), CHUNK_BYTES).map_err(|error| format!("apply: {error}"))?;
            if entries.is_empty() && self.will_restore(first) {
                mark(Mark::ApplyLogReplaced);
                let lost = "outcome unknown: a snapshot of the leader has replaced this node's log";
                for (_, asker) in askers {
                    self.replies.extend(asker.answer(Err(Failure::Unknown(lost.into())), &mut self.sinks));
                }
                return Ok(());
            }
            if entries.is_empty() {
                return Err(format!("apply: the log does not have entry {first}, which is committed"));
            }
            self.apply_all(&entries, &mut askers)?;
            self.report();
        }
        self.apply_all(&commit.entries, &mut askers)
    }

    fn apply_all(
        &mut self,
        entries: &[Entry],
        askers: &mut std::iter::Peekable<impl Iterator<Item = (Index, Asker)>>,
    ) -> Result<(), String> {
        for group in entries.chunks(AHEAD) {
            self.look_ahead(group);
            for entry in group {
                self.apply_next(entry, askers)?;
            }
        }
        Ok(())
    }

    fn apply_next(
        &mut self,
        entry: &Entry,
        askers: &mut std::iter::Peekable<impl Iterator<Item = (Index, Asker)>>,
    ) -> Result<(), String> {
        let index = entry.header.index;
        if index != self.applied.next() {
            let applied = self.applied;
            return Err(format!(
                "apply: entry {index} came after entry {applied}; every entry is applied once, in order"
            ));
        }
        let asker = askers.next_if(|(waiting_for, _)| *waiting_for == index);
        let answer = self.apply(entry, asker.is_some());
        self.applied = index;
        self.applied_at = (entry.header.term, entry.header.time);
        if let Some((_, asker)) = asker {
            self.replies.extend(asker.answer(Ok(Response::Answer(answer)), &mut self.sinks));
        }
        self.run_reads();
        Ok(())
    }

    /// Shows the machine what comes next. One command gains nothing from it.
    fn look_ahead(&self, entries: &[Entry]) {
        if entries.len() > 1 {
            let commands = entries.iter().filter(|entry| entry.header.kind == EntryKind::Command);
            self.machine.look_ahead(&mut commands.map(|entry| &entry.payload.0));
        }
    }

    /// Runs the reads whose position is reached.
    fn run_reads(&mut self) {
        while let Some(reads) = self.waiting.first_entry().filter(|first| *first.key() <= self.applied) {
            reads.remove().into_iter().for_each(|read| self.run(read));
        }
    }

    /// Whether the node has ended, so that nothing more will be queued.
    fn is_over(&mut self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.queued.push_back(job),
                Err(error) => return error == TryRecvError::Disconnected,
            }
        }
    }

    /// Whether a snapshot that covers this entry is queued. Before its log is replaced, the job to restore the state is.
    fn will_restore(&mut self, index: Index) -> bool {
        self.queued.extend(self.jobs.try_iter());
        let covers = |snapshot: &SnapshotMeta| snapshot.index >= index;
        self.queued.iter().any(|job| job.restore.as_ref().is_some_and(covers))
    }

    /// Replaces the state, and goes on from there.
    fn restore(&mut self, snapshot: &SnapshotMeta) -> Result<(), String> {
        if snapshot.index <= self.applied {
            return Ok(());
        }
        let mut reader = match self.snapshots.open(snapshot) {
            Ok(reader) => reader,
            // A newer one has taken its place already, and it is gone.
            Err(_) if self.will_restore(snapshot.index.next()) && !mutant(Mutant::P2) => {
                mark(Mark::RestoreSuperseded);
                return Ok(());
            }
            Err(error) => return Err(format!("apply: {error}")),
        };
        self.machine.restore(&mut *reader).map_err(|error| format!("apply: cannot restore a snapshot: {error}"))?;
        log::info!("the state is that of the snapshot of entry {} now", snapshot.index);
        self.applied = snapshot.index;
        self.applied_at = (snapshot.term, snapshot.time);
        self.committed = self.committed.max(snapshot.index);
        self.node.state_replaced();
        self.run_reads();
        Ok(())
    }

    /// Takes a view of the state, and says of when it is.
    fn view(&mut self) {
        let (term, time) = self.applied_at;
        let state = self.machine.snapshot();
        // The driver must know of everything applied before it hears of the view.
        self.report();
        self.node.deliver(Input::SnapshotView(SnapshotView { index: self.applied, term, time, state }));
    }

    fn apply(&mut self, entry: &Entry, is_awaited: bool) -> bytes::Bytes {
        match entry.header.kind {
            EntryKind::Command => self.machine.apply(applied(entry, is_awaited)),
            EntryKind::Noop | EntryKind::Membership(_) | EntryKind::Tick => {
                self.machine.advance(entry.header.index, entry.header.time);
                bytes::Bytes::new()
            }
        }
    }

    fn run(&mut self, read: PositionedRead) {
        let answer = Response::Answer(self.machine.query(Asked { time: read.time, query: &read.query }));
        self.replies.extend(read.asker.answer(Ok(answer), &mut self.sinks));
    }

    fn look(&mut self, look: Look) -> Result<(), String> {
        let (asker, outcome) = match look {
            Look::LocalRead { query, asker } => {
                let asked = Asked { time: self.applied_at.1, query: &query };
                (asker, Ok(Response::Answer(self.machine.query(asked))))
            }
            Look::Log { from, count, first, last, asker } => {
                let from = from.unwrap_or(Index(last.0.saturating_sub(count.saturating_sub(1)))).max(first);
                (asker, self.lines(from, count, last))
            }
        };
        self.replies.extend(asker.answer(outcome, &mut self.sinks));
        Ok(())
    }

    fn lines(&self, from: Index, count: u64, last: Index) -> Result<Response, Failure> {
        let last = last.min(Index(from.0.saturating_add(count).saturating_sub(1)));
        if count == 0 || from > last {
            return Ok(Response::Log(Vec::new()));
        }
        let entries = self.reader.read(from, last, CHUNK_BYTES).map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Response::Log(entries.iter().map(|entry| self.line(entry)).collect()))
    }

    fn line(&self, entry: &Entry) -> LogLine {
        let (kind, text) = match &entry.header.kind {
            EntryKind::Noop => ("noop", String::new()),
            EntryKind::Command => ("command", self.machine.describe(&entry.payload)),
            EntryKind::Membership(membership) => {
                let voters: Vec<String> = membership.voters.iter().map(ToString::to_string).collect();
                ("membership", format!("voters {}", voters.join(", ")))
            }
            EntryKind::Tick => ("tick", String::new()),
        };
        LogLine {
            index: entry.header.index.0,
            term: entry.header.term.0,
            time_ms: entry.header.time.0,
            kind: kind.into(),
            text,
            committed: entry.header.index <= self.committed,
        }
    }

    /// Sends answers out and tells the node how far it got.
    fn report(&mut self) {
        self.sinks.flush();
        if !self.replies.is_empty() {
            self.node.deliver(Input::Replies(std::mem::take(&mut self.replies)));
        }
        self.node.woken(&self.machine.take_woken());
        self.node.progressed(self.applied, self.machine.deadline());
    }
}

fn applied(entry: &Entry, is_awaited: bool) -> Applied<'_> {
    let EntryHeader { index, time, session, .. } = entry.header;
    Applied { index, time, session, command: &entry.payload.0, is_awaited }
}

impl Stage for ApplyStage {
    type Job = ApplyJob;

    fn jobs(&self) -> &Jobs<ApplyJob> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        if self.queued.is_empty() {
            match self.jobs.try_recv() {
                Ok(job) => self.queued.push_back(job),
                Err(TryRecvError::Empty) => return Step::Idle,
                Err(TryRecvError::Disconnected) => return Step::Ended,
            }
        }
        // What is queued now, and no more: under a steady stream the answers must still go out.
        self.queued.extend(self.jobs.try_iter().take(self.jobs.len()));
        for _ in 0..self.queued.len() {
            let Some(next) = self.queued.pop_front() else { break };
            if !self.work(next) {
                return Step::Ended;
            }
        }
        self.report();
        Step::Worked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::super::{JobSender, queue};
    use super::*;
    use crate::consensus::{LogTime, NodeId, Term};
    use crate::runtime::{Inboxes, Life, Outcome};
    use crate::storage::StorageError;
    use crate::storage::snapshot::FileSnapshots;
    use bytes::Bytes;

    /// Remembers every command.
    #[derive(Default)]
    struct Words(String);

    impl Machine for Words {
        fn apply(&mut self, applied: Applied<'_>) -> Bytes {
            self.0.push_str(&String::from_utf8_lossy(applied.command));
            Bytes::from(applied.index.to_string())
        }

        fn query(&self, _: Asked<'_>) -> Bytes {
            Bytes::from(self.0.clone())
        }

        fn is_brief(&self, applied: Applied<'_>) -> bool {
            applied.command.len() == 1
        }

        fn is_brief_query(&self, query: &[u8]) -> bool {
            query.is_empty()
        }

        fn digest(&self) -> u64 {
            0
        }

        fn snapshot(&self) -> Option<Box<dyn crate::machine::MachineSnapshot>> {
            Some(Box::new(View(self.0.clone())))
        }

        fn restore(&mut self, from: &mut dyn std::io::Read) -> Result<(), String> {
            self.0.clear();
            from.read_to_string(&mut self.0).map(drop).map_err(|error| error.to_string())
        }
    }

    struct View(String);

    impl crate::machine::MachineSnapshot for View {
        fn write(self: Box<Self>, to: &mut dyn std::io::Write) -> std::io::Result<()> {
            to.write_all(self.0.as_bytes())
        }
    }

    fn entry(index: u64, kind: EntryKind, text: &str) -> Entry {
        let (term, time, size) = (Term(1), LogTime(0), text.len() as u32);
        let header = EntryHeader { index: Index(index), term, kind, time, session: None, size };
        Entry { header, payload: Payload(Bytes::from(text.to_owned())) }
    }

    fn commands(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let letter = |index: u64| char::from(b'a' + (index % 26) as u8).to_string();
        range.map(|index| entry(index, EntryKind::Command, &letter(index))).collect()
    }

    struct Log(Mutex<Vec<Entry>>);

    impl LogReader for Log {
        /// A few at a time, whatever is asked for.
        fn read(&self, first: Index, last: Index, _: u64) -> Result<Vec<Entry>, StorageError> {
            let log = self.0.lock().unwrap();
            let wanted = log.iter().filter(|entry| (first..=last).contains(&entry.header.index));
            Ok(wanted.take(3).cloned().collect())
        }
    }

    struct Bench {
        stage: ApplyStage,
        jobs: JobSender<ApplyJob>,
        inboxes: Inboxes,
        store: Arc<FileSnapshots>,
    }

    impl Bench {
        fn new(log: Vec<Entry>) -> Self {
            let (jobs, receiver) = queue();
            let (node, inboxes) = NodeHandle::new();
            let reader = Arc::new(Log(Mutex::new(log)));
            let store = Arc::new(FileSnapshots::in_memory());
            let stage = ApplyStage::new(Box::new(Words::default()), None, reader, store.clone(), receiver, node);
            Bench { stage, jobs, inboxes, store }
        }

        fn step(&mut self, job: ApplyJob) -> Step {
            self.jobs.send(job);
            self.stage.step()
        }

        /// Answers to peers by sequence number, and the last applied index that was told.
        fn reported(&mut self) -> (Vec<(u64, String)>, Option<Index>) {
            let mut replies = Vec::new();
            for input in self.inboxes.internal.try_iter() {
                match input {
                    Input::Replies(new) => {
                        replies.extend(new.into_iter().map(|reply| {
                            (reply.sequence, String::from_utf8_lossy(&reply.outcome.unwrap()).into_owned())
                        }))
                    }
                    Input::Failed { reason } => replies.push((0, reason)),
                    _ => {}
                }
            }
            let applied = self.inboxes.take_news().find_map(|input| match input {
                Input::Applied { index } => Some(index),
                _ => None,
            });
            (replies, applied)
        }
    }

    fn peer(sequence: u64) -> Asker {
        Asker::Peer { node: NodeId(2), life: Life::default(), sequence }
    }

    fn read(position: u64, sequence: u64) -> PositionedRead {
        PositionedRead { position: Index(position), time: LogTime(0), query: Payload::EMPTY, asker: peer(sequence) }
    }

    fn commit(entries: Vec<Entry>, askers: &[u64]) -> Option<Commit> {
        let last = entries.last().unwrap().header.index;
        Some(Commit { last, entries, askers: askers.iter().map(|&index| (Index(index), peer(100 + index))).collect() })
    }

    #[test]
    fn reads_run_at_their_positions_between_entries() {
        let mut bench = Bench::new(Vec::new());
        let reads = vec![read(3, 3), read(1, 1), read(2, 2), read(0, 0)];
        let job = ApplyJob { reads, commit: commit(commands(1..=4), &[2, 4]), ..ApplyJob::default() };
        assert_eq!(bench.step(job), Step::Worked);
        let text = |(sequence, text): (u64, &str)| (sequence, text.to_owned());
        let expected = [(0, ""), (1, "b"), (102, "2"), (2, "bc"), (3, "bcd"), (104, "4")].map(text);
        assert_eq!(bench.reported(), (expected.to_vec(), Some(Index(4))));
        let job = ApplyJob { reads: vec![read(2, 9)], ..ApplyJob::default() };
        bench.step(job);
        assert_eq!(bench.reported(), (vec![text((9, "bcde"))], None), "late, but it still sees all before it");
        assert_eq!(bench.stage.step(), Step::Idle);
    }

    #[test]
    fn what_is_brief_and_next_is_done_at_once() {
        let mut bench = Bench::new(commands(1..=8));
        let of = |entries| ApplyJob { commit: commit(entries, &[]), ..ApplyJob::default() };
        let job = ApplyJob { reads: vec![read(2, 7)], commit: commit(commands(1..=2), &[2]), ..ApplyJob::default() };
        assert!(bench.stage.try_now(job).is_none());
        let expected = vec![(102, "2".to_owned()), (7, "bc".to_owned())];
        assert_eq!(bench.reported(), (expected, Some(Index(2))));
        let long_read = PositionedRead { query: Payload(Bytes::from_static(b"long")), ..read(1, 8) };
        let look = Look::LocalRead { query: Payload::EMPTY, asker: peer(9) };
        let refused = [
            of(commands(3..=3 + AT_ONCE as u64)),
            of(vec![entry(3, EntryKind::Command, "long")]),
            of(vec![entry(3, EntryKind::Tick, "")]),
            of(commands(4..=4)),
            ApplyJob {
                commit: Some(Commit { last: Index(3), entries: vec![], askers: vec![] }),
                ..ApplyJob::default()
            },
            ApplyJob { snapshot: true, ..ApplyJob::default() },
            ApplyJob { looks: vec![look], ..ApplyJob::default() },
            ApplyJob { reads: vec![long_read], ..ApplyJob::default() },
            ApplyJob { reads: (0..=AT_ONCE as u64).map(|number| read(1, number)).collect(), ..ApplyJob::default() },
        ];
        for (number, job) in refused.into_iter().enumerate() {
            assert!(bench.stage.try_now(job).is_some(), "{number}");
        }
        assert_eq!(bench.reported(), (Vec::new(), None));
        bench.jobs.send(of(commands(3..=3)));
        assert!(bench.stage.try_now(of(commands(4..=4))).is_some(), "another comes before it");
        bench.stage.step();
        assert!(bench.stage.try_now(ApplyJob { reads: vec![read(5, 10)], ..ApplyJob::default() }).is_none());
        assert!(bench.stage.try_now(of(commands(4..=4))).is_some(), "who knows what waits for it");
        bench.step(of(commands(4..=5)));
        assert!(bench.stage.try_now(of(commands(6..=6))).is_none());
        assert_eq!(bench.reported(), (vec![(10, "bcdef".into())], Some(Index(6))));
    }

    #[test]
    fn what_is_no_longer_in_memory_is_read_back() {
        let mut bench = Bench::new(commands(1..=8));
        let job = ApplyJob { commit: commit(commands(8..=10), &[10]), ..ApplyJob::default() };
        assert_eq!(bench.step(job), Step::Worked);
        assert_eq!(bench.reported(), (vec![(110, "10".into())], Some(Index(10))));
        assert_eq!(bench.stage.machine.query(Asked { time: LogTime(0), query: b"" }), "bcdefghijk");
        let job = ApplyJob {
            commit: Some(Commit { last: Index(12), entries: Vec::new(), askers: Vec::new() }),
            ..ApplyJob::default()
        };
        assert_eq!(bench.step(job), Step::Ended);
        assert!(bench.reported().0[0].1.contains("does not have entry 11"));
    }

    #[test]
    fn a_node_that_has_ended_does_not_read_its_whole_log_back_unless_somebody_waits_for_that() {
        for (asker, applied) in [(None, None), (Some(8), Some(Index(8)))] {
            let bench = Bench::new(commands(1..=20));
            let askers = asker.into_iter().map(|index| (Index(index), peer(100 + index))).collect();
            let first = Commit { last: Index(8), entries: Vec::new(), askers };
            bench.jobs.send(ApplyJob { commit: Some(first), ..ApplyJob::default() });
            let Bench { mut stage, jobs, mut inboxes, store: _ } = bench;
            // What comes later must not look as if it were out of order.
            let entries = commands(19..=20);
            let second = Commit { last: Index(20), entries, askers: Vec::new() };
            jobs.send(ApplyJob { commit: Some(second), ..ApplyJob::default() });
            drop(jobs);
            while stage.step() != Step::Ended {}
            let told = inboxes.take_news().find_map(|input| match input {
                Input::Applied { index } => Some(index),
                _ => None,
            });
            assert_eq!(told, applied);
            let replies = inboxes.internal.try_iter().filter_map(|input| match input {
                Input::Replies(replies) => Some(replies.len()),
                Input::Failed { reason } => panic!("{reason}"),
                _ => None,
            });
            assert_eq!(replies.sum::<usize>(), usize::from(asker.is_some()));
        }
    }

    #[test]
    fn an_entry_out_of_order_stops_the_node() {
        for entries in [commands(1..=2), commands(4..=4).into_iter().chain(commands(3..=3)).collect()] {
            let mut bench = Bench::new(commands(1..=8));
            bench.step(ApplyJob { commit: commit(commands(1..=3), &[]), ..ApplyJob::default() });
            bench.reported();
            assert_eq!(bench.step(ApplyJob { commit: commit(entries, &[]), ..ApplyJob::default() }), Step::Ended);
            assert!(bench.reported().0[0].1.contains("once, in order"));
        }
    }

    #[test]
    fn entries_without_a_command_do_not_reach_the_machine() {
        let mut bench = Bench::new(Vec::new());
        let entries =
            vec![entry(1, EntryKind::Noop, ""), entry(2, EntryKind::Tick, ""), entry(3, EntryKind::Command, "x")];
        bench.step(ApplyJob { commit: commit(entries, &[]), ..ApplyJob::default() });
        assert_eq!(bench.stage.machine.query(Asked { time: LogTime(0), query: b"" }), "x");
    }

    /// Remembers which answers were awaited.
    struct Awaited(Arc<Mutex<Vec<Index>>>);

    impl Machine for Awaited {
        fn apply(&mut self, applied: Applied<'_>) -> Bytes {
            self.0.lock().unwrap().extend(applied.is_awaited.then_some(applied.index));
            Bytes::new()
        }

        fn query(&self, _: Asked<'_>) -> Bytes {
            Bytes::new()
        }

        fn digest(&self) -> u64 {
            0
        }
    }

    #[test]
    fn the_machine_knows_which_answers_are_awaited() {
        let mut bench = Bench::new(Vec::new());
        let awaited = Arc::new(Mutex::new(Vec::new()));
        bench.stage.machine = Box::new(Awaited(awaited.clone()));
        bench.step(ApplyJob { commit: commit(commands(1..=4), &[2, 4]), ..ApplyJob::default() });
        assert_eq!(*awaited.lock().unwrap(), [Index(2), Index(4)]);
    }

    /// Remembers, for every command, how many it had been shown before.
    #[derive(Default)]
    struct Foreseen {
        shown: AtomicUsize,
        before: Arc<Mutex<Vec<usize>>>,
    }

    impl Machine for Foreseen {
        fn look_ahead(&self, commands: &mut dyn Iterator<Item = &Bytes>) {
            self.shown.fetch_add(commands.count(), Relaxed);
        }

        fn apply(&mut self, _: Applied<'_>) -> Bytes {
            self.before.lock().unwrap().push(self.shown.load(Relaxed));
            Bytes::new()
        }

        fn query(&self, _: Asked<'_>) -> Bytes {
            Bytes::new()
        }

        fn digest(&self) -> u64 {
            0
        }
    }

    #[test]
    fn the_machine_is_shown_a_few_commands_before_the_first_of_them() {
        let mut bench = Bench::new(Vec::new());
        let machine = Foreseen::default();
        let before = machine.before.clone();
        bench.stage.machine = Box::new(machine);
        let mut entries = commands(1..=AHEAD as u64 + 2);
        entries[0] = entry(1, EntryKind::Tick, "");
        bench.step(ApplyJob { commit: commit(entries, &[]), ..ApplyJob::default() });
        let expected = [vec![AHEAD - 1; AHEAD - 1], vec![AHEAD + 1; 2]].concat();
        assert_eq!(*before.lock().unwrap(), expected);
        let one = commands(AHEAD as u64 + 3..=AHEAD as u64 + 3);
        bench.step(ApplyJob { commit: commit(one, &[]), ..ApplyJob::default() });
        assert_eq!(before.lock().unwrap().last(), Some(&(AHEAD + 1)), "one is not worth it");
    }

    #[derive(Default)]
    struct Sink(Mutex<Vec<Outcome>>);

    impl crate::runtime::ReplySink for Sink {
        fn reply(&self, _: u64, outcome: Outcome) {
            self.0.lock().unwrap().push(outcome);
        }
    }

    #[test]
    fn the_log_is_shown_in_lines() {
        let mut bench = Bench::new(commands(1..=3));
        bench.step(ApplyJob { commit: commit(commands(1..=2), &[]), ..ApplyJob::default() });
        let sink = Arc::new(Sink::default());
        for (from, count) in
            [(None, 2), (Some(1), 1), (Some(0), 2), (Some(9), 1), (None, 0), (Some(u64::MAX), u64::MAX)]
        {
            let permit = super::super::Load::new(1, 0).admit(0).unwrap();
            let asker = Asker::Client { reply: crate::runtime::Reply::new(sink.clone(), 0), permit };
            let look = Look::Log { from: from.map(Index), count, first: Index(1), last: Index(3), asker };
            bench.step(ApplyJob { looks: vec![look], ..ApplyJob::default() });
        }
        let shown: Vec<Vec<(u64, bool)>> = std::mem::take(&mut *sink.0.lock().unwrap())
            .into_iter()
            .map(|outcome| match outcome {
                Ok(Response::Log(lines)) => lines.into_iter().map(|line| (line.index, line.committed)).collect(),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected =
            [vec![(2, true), (3, false)], vec![(1, true)], vec![(1, true), (2, true)], vec![], vec![], vec![]];
        assert_eq!(shown, expected);
    }

    fn snapshot_of(bench: &Bench, index: u64, text: &str) -> SnapshotMeta {
        let membership = crate::consensus::Membership::of_voters([NodeId(1)]);
        let meta = SnapshotMeta { index: Index(index), term: Term(4), time: LogTime(40), membership };
        let mut writer = bench.store.create(&meta).unwrap();
        std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
        writer.finish().unwrap();
        meta
    }

    #[test]
    fn a_snapshot_replaces_the_state_and_what_waited_for_it_goes_on() {
        let mut bench = Bench::new(Vec::new());
        let meta = snapshot_of(&bench, 9, "state");
        bench.step(ApplyJob { commit: commit(commands(1..=2), &[]), ..ApplyJob::default() });
        bench.reported();
        let reads = vec![read(2, 2), read(9, 9), read(10, 10)];
        bench.step(ApplyJob { reads, restore: Some(meta), ..ApplyJob::default() });
        let (replies, applied) = bench.reported();
        assert_eq!(replies, [(2, "bc".to_owned()), (9, "state".to_owned())]);
        assert_eq!(applied, Some(Index(9)));
        bench.step(ApplyJob { commit: commit(commands(10..=10), &[10]), ..ApplyJob::default() });
        assert_eq!(bench.reported().0, [(110, "10".to_owned()), (10, "statek".to_owned())]);
    }

    #[test]
    fn a_log_that_a_snapshot_has_replaced_is_not_missed() {
        let mut bench = Bench::new(Vec::new());
        let meta = snapshot_of(&bench, 9, "state");
        let commit = Commit { last: Index(5), entries: Vec::new(), askers: Vec::new() };
        bench.jobs.send(ApplyJob { commit: Some(commit), ..ApplyJob::default() });
        bench.step(ApplyJob { restore: Some(meta), ..ApplyJob::default() });
        assert_eq!(bench.reported(), (vec![], Some(Index(9))));
    }

    #[test]
    fn a_snapshot_that_is_gone_is_not_missed_when_a_newer_one_follows() {
        let mut bench = Bench::new(Vec::new());
        let (gone, newer) = (snapshot_of(&bench, 5, "old"), snapshot_of(&bench, 9, "new"));
        bench.store.remove_older(&newer).unwrap();
        let commit = Commit { last: Index(7), entries: commands(6..=7), askers: Vec::new() };
        bench.jobs.send(ApplyJob { restore: Some(gone), commit: Some(commit), ..ApplyJob::default() });
        assert_eq!(bench.step(ApplyJob { restore: Some(newer), ..ApplyJob::default() }), Step::Worked);
        assert_eq!(bench.reported(), (vec![], Some(Index(9))));
    }

    #[test]
    fn a_snapshot_that_cannot_be_read_ends_the_stage() {
        let mut bench = Bench::new(Vec::new());
        let mut meta = snapshot_of(&bench, 9, "state");
        meta.index = Index(8);
        assert_eq!(bench.step(ApplyJob { restore: Some(meta), ..ApplyJob::default() }), Step::Ended);
        assert!(bench.reported().0[0].1.starts_with("apply: there is no snapshot"));
    }

    #[test]
    fn a_view_is_of_exactly_what_was_applied() {
        let mut bench = Bench::new(Vec::new());
        bench.step(ApplyJob { commit: commit(commands(1..=2), &[]), snapshot: true, ..ApplyJob::default() });
        bench.step(ApplyJob { commit: commit(commands(3..=3), &[]), ..ApplyJob::default() });
        let views = bench.inboxes.internal.try_iter().filter_map(|input| match input {
            Input::SnapshotView(view) => Some((view.index, view.term, view.state.is_some())),
            _ => None,
        });
        assert_eq!(views.collect::<Vec<_>>(), [(Index(2), Term(1), true)]);
    }
}
