//! Applies committed entries to the state machine in order, runs reads at their positions between them, and answers
//! clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, TryRecvError};

use super::{Asker, Sinks, Stage, Step};
use crate::consensus::{Entry, EntryKind, Index, Payload};
use crate::machine::{Applied, Machine};
use crate::runtime::{Input, LogLine, NodeHandle, PeerReply, Response};
use crate::storage::LogReader;
use crate::transport::Failure;

/// Bytes of payload read back from the log at once, when committed entries are no longer in memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// Everything that one turn of the event handler has for the state machine.
#[derive(Default)]
pub struct ApplyJob {
    /// Reads whose leadership is confirmed. They are taken in before `commit`, so that none can miss its position.
    pub reads: Vec<PositionedRead>,
    /// What is committed now.
    pub commit: Option<Commit>,
    /// Looks at this node alone.
    pub looks: Vec<Look>,
}

impl ApplyJob {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.commit.is_none() && self.looks.is_empty()
    }
}

/// A read that must see every entry up to a position, and is run before the next one is applied if it comes in time.
pub struct PositionedRead {
    /// The position.
    pub position: Index,
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
    jobs: Receiver<ApplyJob>,
    node: NodeHandle,
    applied: Index,
    committed: Index,
    waiting: BTreeMap<Index, Vec<PositionedRead>>,
    sinks: Sinks,
    replies: Vec<PeerReply>,
}

impl ApplyStage {
    /// A stage for a machine whose state covers everything up to `applied`.
    pub fn new(
        machine: Box<dyn Machine>,
        applied: Index,
        reader: Arc<dyn LogReader>,
        jobs: Receiver<ApplyJob>,
        node: NodeHandle,
    ) -> Self {
        ApplyStage {
            machine,
            reader,
            jobs,
            node,
            applied,
            committed: applied,
            waiting: BTreeMap::new(),
            sinks: Sinks::default(),
            replies: Vec::new(),
        }
    }

    fn take(&mut self, job: ApplyJob) -> Result<(), String> {
        for read in job.reads {
            if read.position <= self.applied {
                self.run(read);
            } else {
                self.waiting.entry(read.position).or_default().push(read);
            }
        }
        if let Some(commit) = job.commit {
            self.commit(commit)?;
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
            let first = self.applied.next();
            let entries =
                self.reader.read(first, in_memory.prev(), CHUNK_BYTES).map_err(|error| format!("apply: {error}"))?;
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
        for entry in entries {
            let index = entry.header.index;
            if index != self.applied.next() {
                let applied = self.applied;
                return Err(format!(
                    "apply: entry {index} came after entry {applied}; every entry is applied once, in order"
                ));
            }
            let answer = self.apply(entry);
            self.applied = index;
            if let Some((_, asker)) = askers.next_if(|(waiting_for, _)| *waiting_for == index) {
                self.replies.extend(asker.answer(Ok(Response::Answer(answer)), &mut self.sinks));
            }
            while let Some(reads) = self.waiting.first_entry().filter(|first| *first.key() <= index) {
                reads.remove().into_iter().for_each(|read| self.run(read));
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> bytes::Bytes {
        match entry.header.kind {
            EntryKind::Command => self.machine.apply(Applied {
                index: entry.header.index,
                time: entry.header.time,
                session: entry.header.session,
                command: &entry.payload.0,
            }),
            EntryKind::Noop | EntryKind::Membership(_) | EntryKind::Tick => bytes::Bytes::new(),
        }
    }

    fn run(&mut self, read: PositionedRead) {
        let answer = Response::Answer(self.machine.query(&read.query));
        self.replies.extend(read.asker.answer(Ok(answer), &mut self.sinks));
    }

    fn look(&mut self, look: Look) -> Result<(), String> {
        let (asker, outcome) = match look {
            Look::LocalRead { query, asker } => (asker, Ok(Response::Answer(self.machine.query(&query)))),
            Look::Log { from, count, last, asker } => {
                let from = from.unwrap_or(Index(last.0.saturating_sub(count.saturating_sub(1)))).max(Index(1));
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
        self.node.deliver(Input::Applied { index: self.applied });
    }
}

impl Stage for ApplyStage {
    type Job = ApplyJob;

    fn jobs(&self) -> &Receiver<ApplyJob> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        let mut job = match self.jobs.try_recv() {
            Ok(job) => Some(job),
            Err(TryRecvError::Empty) => return Step::Idle,
            Err(TryRecvError::Disconnected) => return Step::Ended,
        };
        // What is queued now, and no more: under a steady stream the answers must still go out.
        let mut more = self.jobs.len();
        while let Some(next) = job.take() {
            if let Err(reason) = self.take(next) {
                self.report();
                self.node.deliver(Input::Failed { reason });
                return Step::Ended;
            }
            if more > 0 {
                more -= 1;
                job = self.jobs.try_recv().ok();
            }
        }
        self.report();
        Step::Worked
    }
}
