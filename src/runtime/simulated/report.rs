//! What a simulation did, in numbers and in words.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::log_lines::Listening;
use crate::consensus::{MessageBody, NodeId, Role, Term};
use crate::marks::Counts;
use crate::transport::PeerMessage;

/// Numbers of a simulation, or the sum of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Virtual time.
    pub simulated: Duration,
    /// Inputs and requests that drivers handled.
    pub events: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Nodes that started.
    pub starts: u64,
    /// Nodes that ended, however.
    pub ends: u64,
    /// Processes that were killed.
    pub crashes: u64,
    /// Machines that lost power.
    pub power_cuts: u64,
    /// Nodes that stopped because their disk had failed.
    pub disk_failures: u64,
    /// Nodes that refused to start, or were refused, for what they had forgotten.
    pub refused: u64,
    /// Snapshots that were taken.
    pub snapshots: u64,
    /// Snapshots that were sent.
    pub transfers: u64,
    /// Snapshots that arrived.
    pub received: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Messages that arrived twice.
    pub doubled: u64,
    /// Entries that were committed.
    pub committed: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused: nothing happened.
    pub refusals: u64,
    /// Requests whose outcome is unknown.
    pub unknown: u64,
    /// Requests whose client waited no longer.
    pub given_up: u64,
    /// Requests and answers that were lost or held up between clients and nodes.
    pub unheard: u64,
    /// How long clients waited for answers.
    pub waits: Waits,
    /// Answers that were compared with the order of the log.
    pub operations: u64,
    /// Entries that repeated a command of a session.
    pub repeated: u64,
    /// Faults that were due.
    pub faults: u64,
    /// Those of them that befell nobody: they were impossible then.
    pub skipped: u64,
    /// Nodes that refused to start with what was on their disks: these are among those that refused or were refused.
    pub unreadable: u64,
    /// Writes and syncs that did not return before a hanging disk did.
    pub hung: u64,
    /// Steps of a state machine that took so long because it was busy.
    pub busy: u64,
    /// Operations for which a disk had no room.
    pub full: u64,
    /// Syncs that did nothing and succeeded.
    pub lied: u64,
    /// Bytes that changed on disks.
    pub rotted: u64,
    /// Turns that waited until a process no longer stood still.
    pub paused: u64,
    /// Processes that were refused a folder because another had it.
    pub locked_out: u64,
    /// Machines of state that were replaced by a snapshot's, at a start or later.
    pub restored: u64,
    /// Snapshots that arrived where all they cover had been applied already.
    pub stale_snapshots: u64,
    /// Things that were not as they must be after syncs had lied, which nobody can demand.
    pub excused: u64,
    /// Most bytes of log on one disk at the end.
    pub log_bytes: u64,
    /// Rare paths that were taken.
    pub marks: Counts,
    /// What became of the faults, in order. A sum has none.
    pub befallen: Vec<Befallen>,
    /// A hash of everything that happened, in order: when, every message's bytes, every operation on a disk and its bytes, roles
    /// and terms, what machines applied, and what clients were told.
    pub hash: u64,
}

/// How things stood at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Virtual time.
    pub at: Duration,
    /// The leader of the highest term that had one then.
    pub leader: Option<(Term, NodeId)>,
    /// Entries that were committed.
    pub committed: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// How long their clients had waited.
    pub waits: Waits,
}

/// How long clients waited for answers: how many no longer than each power of two, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits([u64; 32]);

impl Waits {
    pub(super) fn note(&mut self, waited: Duration) {
        let power = waited.as_micros().max(1).next_power_of_two().ilog2() as usize;
        self.0[power.min(self.0.len() - 1)] += 1;
    }

    fn add(&mut self, other: &Waits) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// So many of a hundred of those who were answered since an earlier moment had waited for at most so long, rounded up to a
    /// power of two of a microsecond. `None`: nobody was.
    pub fn percentile(&self, percent: u64, since: &Waits) -> Option<Duration> {
        let counts = self.0.iter().zip(since.0).map(|(now, before)| now - before);
        let all: u64 = counts.clone().sum();
        let up_to = counts.scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let power = up_to.take_while(|sum| sum * 100 < all * percent).count();
        (all > 0).then(|| Duration::from_micros(1 << power))
    }
}

/// A fault, when it came and when it was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Befallen {
    /// Its number in the scenario, from 0.
    pub fault: usize,
    /// Whom it befell.
    pub nodes: Vec<NodeId>,
    /// Just before.
    pub began: Standing,
    /// Once it was over, and at the latest when all faults were.
    pub ended: Option<Standing>,
}

impl Report {
    /// Takes this into the hash of what happened.
    pub(super) fn mix(&mut self, number: u64) {
        self.hash = mixed(self.hash, number);
    }

    /// Likewise, bytes.
    pub(super) fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(XxHash3_64::oneshot(bytes));
    }

    /// Adds another simulation's numbers.
    pub fn add(&mut self, other: &Report) {
        self.simulated += other.simulated;
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.elections, other.elections),
            (&mut self.starts, other.starts),
            (&mut self.ends, other.ends),
            (&mut self.crashes, other.crashes),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.disk_failures, other.disk_failures),
            (&mut self.refused, other.refused),
            (&mut self.snapshots, other.snapshots),
            (&mut self.transfers, other.transfers),
            (&mut self.received, other.received),
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.lost, other.lost),
            (&mut self.doubled, other.doubled),
            (&mut self.committed, other.committed),
            (&mut self.answered, other.answered),
            (&mut self.refusals, other.refusals),
            (&mut self.unknown, other.unknown),
            (&mut self.given_up, other.given_up),
            (&mut self.unheard, other.unheard),
            (&mut self.operations, other.operations),
            (&mut self.repeated, other.repeated),
            (&mut self.faults, other.faults),
            (&mut self.skipped, other.skipped),
            (&mut self.unreadable, other.unreadable),
            (&mut self.hung, other.hung),
            (&mut self.busy, other.busy),
            (&mut self.full, other.full),
            (&mut self.lied, other.lied),
            (&mut self.rotted, other.rotted),
            (&mut self.paused, other.paused),
            (&mut self.locked_out, other.locked_out),
            (&mut self.restored, other.restored),
            (&mut self.stale_snapshots, other.stale_snapshots),
            (&mut self.excused, other.excused),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.waits.add(&other.waits);
        self.marks.add(&other.marks);
        self.log_bytes = self.log_bytes.max(other.log_bytes);
        self.mix(other.hash);
    }
}

/// A hash of all that the first one is of, and of this number.
pub(super) fn mixed(hash: u64, number: u64) -> u64 {
    (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// What happened, in lines that people can read: the last so many.
#[derive(Default)]
pub struct Trace {
    most: usize,
    lines: VecDeque<String>,
    /// Hears what nodes log, while lines are kept.
    listening: Option<Listening>,
    /// Lines that nobody was told yet.
    fresh: usize,
    roles: BTreeMap<NodeId, (Role, Term)>,
}

impl Trace {
    /// Keeps the last so many lines; none if 0.
    pub fn new(most: usize) -> Self {
        Trace { most, listening: (most > 0).then(Listening::begin), ..Trace::default() }
    }

    /// Adds what was logged, by this node if it is known.
    pub fn logged(&mut self, now: Duration, id: impl Into<Option<NodeId>>) {
        let Some(said) = self.listening.as_ref().map(Listening::take).filter(|said| !said.is_empty()) else { return };
        let who = id.into().map_or_else(|| "somebody".into(), |id| format!("node {id}"));
        for said in said {
            self.line(now, || format!("{who} logs {said}"));
        }
    }

    /// Adds a line, if lines are kept at all.
    pub fn line(&mut self, now: Duration, words: impl FnOnce() -> String) {
        if self.most == 0 {
            return;
        }
        self.lines.push_back(format!("{:>14.6} {}", now.as_secs_f64(), words()));
        self.fresh += 1;
        if self.lines.len() > self.most {
            self.lines.pop_front();
            self.fresh = self.fresh.min(self.lines.len());
        }
    }

    /// A node has this role: that is worth a line if it is another one.
    pub fn role(&mut self, now: Duration, id: NodeId, role: Role, term: Term) {
        if self.most > 0 && self.roles.insert(id, (role, term)) != Some((role, term)) {
            self.line(now, || format!("node {id} is {role:?} of term {term}"));
        }
    }

    /// A message has arrived.
    pub fn message(&mut self, now: Duration, from: NodeId, to: NodeId, message: &PeerMessage) {
        self.line(now, || format!("{from} > {to}: {}", words(message)));
    }

    /// The lines that were added since the last time.
    pub fn fresh(&mut self) -> impl Iterator<Item = String> + '_ {
        let fresh = std::mem::take(&mut self.fresh);
        self.lines.iter().skip(self.lines.len() - fresh).cloned()
    }

    /// What was kept.
    pub fn kept(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

fn words(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Raft { message, .. } => {
            let term = message.term;
            match &message.body {
                MessageBody::AppendEntries(append) => {
                    let (count, prev, commit) = (append.entries.len(), append.prev_index, append.commit);
                    let (prev_term, round) = (append.prev_term, append.round);
                    format!(
                        "append, term {term}: {count} entries after {prev}@{prev_term}, commit {commit}, round {round}"
                    )
                }
                body => format!("term {term}: {body:?}"),
            }
        }
        PeerMessage::Forward(forward) => format!("forward {} in term {}", forward.sequence, forward.term),
        PeerMessage::ForwardReply { sequence, outcome, .. } => {
            format!("answer to forward {sequence}: {}", if outcome.is_ok() { "done" } else { "not done" })
        }
    }
}
