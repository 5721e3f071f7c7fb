//! What must hold in every state, and what some state must show, or the exploration would show nothing. The numbers are those
//! of the project's catalogue (`docs/ARCHITECTURE.md`).
//!
//! Checked while a step is made: what compares a state with the one before, and what an effect must not do. The first that is
//! broken is written into the state, where its property finds it.

use std::sync::Arc;

use raft::consensus::{
    Effect, EntryHeader, EntryKind, Event, HardState, Index, Message, MessageBody, NodeId, PeerProgress, Role, Server,
    Term, Violation,
};
use stateright::Property;

use crate::bounds::Bounds;
use crate::model::RaftModel;
use crate::state::{Disk, History, Node, State, Write, place};

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Broken {
    pub invariant: Invariant,
    pub details: String,
}

macro_rules! invariants {
    ($($(#[doc = $doc:literal])* $name:ident = $title:literal,)*) => {
        /// What must never be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Invariant {
            $($(#[doc = $doc])* $name,)*
        }

        fn invariants() -> Vec<Property<RaftModel>> {
            vec![$(Property::always($title, |_, state: &State| {
                state.broken.as_ref().is_none_or(|broken| broken.invariant != Invariant::$name)
            })),*]
        }
    };
}

invariants! {
    /// One leader in a term, one vote of each node in a term, across restarts.
    I1 = "I1 election safety (Raft paper, figure 3)",
    /// Votes only for logs that are at least as up to date; leaders only with durable votes of a majority.
    I2 = "I2 vote correctness (Raft paper 5.4.1)",
    I3 = "I3 a leader only appends (Raft paper, figure 3)",
    /// What is committed is the same everywhere, for good.
    I4 = "I4 log safety (Raft paper, figure 3: state machine safety)",
    /// By counting, only an entry of the leader's own term commits, durable on a majority.
    I5 = "I5 commit rule (Raft paper 5.4.2)",
    /// Entries go only where a leader's entry conflicts, and never what is committed.
    I6 = "I6 durable acknowledgements never shrink (Raft paper 5.3)",
    /// A follower commits no more than a request of its leader verified.
    I7 = "I7 commit clamp (Raft paper, figure 2)",
    I8 = "I8 term, commit and applied index never go down (Raft paper, figure 2)",
    /// Match indexes never go down, and what they claim is durable there.
    I9 = "I9 a leader's book-keeping (Raft paper, figure 2)",
    /// Nobody vouches for what a crash could take back.
    I10 = "I10 durable before said (Raft paper, figure 2)",
    I12 = "I12 only what is committed is applied, in order (Raft paper 5.3)",
    I13 = "I13 log matching (Raft paper, figure 3)",
    I14 = "I14 leader completeness (Raft paper, figure 3)",
    /// Nobody speaks as of a term that is not its own.
    I15 = "I15 terms of messages (Raft paper 5.1)",
    /// What a server finds broken by itself after an event.
    Watched = "what a server watches by itself (src/consensus/invariants.rs)",
    /// Every message here is honest.
    Refused = "honest messages are understood",
}

/// Every property of the model within its bounds.
pub fn all(bounds: &Bounds) -> Vec<Property<RaftModel>> {
    let mut all = invariants();
    all.push(Property::sometimes("a leader leads the last term", |model: &RaftModel, state: &State| {
        state.history.leaders[model.bounds.terms as usize - 1].is_some()
    }));
    all.push(Property::sometimes("every command is committed", |model: &RaftModel, state: &State| {
        let commands = state.history.committed.iter().filter(|(entry, _)| entry.kind == EntryKind::Command);
        commands.count() == model.bounds.entries as usize
    }));
    if bounds.terms > 1 {
        all.push(Property::sometimes("two nodes lead at once", |_, state: &State| {
            state.nodes.iter().filter(|node| node.server.role() == Role::Leader).count() > 1
        }));
        all.push(Property::sometimes("an earlier term's entry is committed in a later one", |_, state: &State| {
            state.history.committed.iter().any(|(entry, term)| entry.term < *term)
        }));
        all.push(Property::sometimes("logs conflict", |_, state: &State| {
            let differ = |a: &Node, b: &Node| a.log.iter().zip(&b.log).any(|(a, b)| a.term != b.term);
            state.nodes.iter().any(|a| state.nodes.iter().any(|b| differ(a, b)))
        }));
    }
    all
}

/// Looks after one step of one node.
pub struct Checks<'a> {
    state: &'a State,
    id: NodeId,
    before: Before,
    /// The history after the step, once it differs.
    history: Option<History>,
    /// Up to here, a request found the log equal to its leader's during the step.
    verified: Index,
    broken: Option<Broken>,
}

/// A server just before an event.
#[derive(Default)]
struct Before {
    term: Term,
    vote: Option<NodeId>,
    last: (Term, Index),
    commit: Index,
    applied: Index,
    peers: Vec<PeerProgress>,
    message: Option<Message>,
}

macro_rules! hold {
    ($checks:ident, $invariant:ident, $condition:expr, $($details:tt)+) => {
        if !$condition && $checks.broken.is_none() {
            $checks.broken = Some(Broken { invariant: Invariant::$invariant, details: format!($($details)+) });
        }
    };
}

impl<'a> Checks<'a> {
    pub fn new(state: &'a State, id: NodeId) -> Self {
        Checks { state, id, before: Before::default(), history: None, verified: Index(0), broken: None }
    }

    /// The history after the step, if it differs, and the first that was broken.
    pub fn end(self) -> (Option<History>, Option<Broken>) {
        (self.history, self.broken)
    }

    fn history(&self) -> &History {
        self.history.as_ref().unwrap_or(&self.state.history)
    }

    fn history_mut(&mut self) -> &mut History {
        self.history.get_or_insert_with(|| History::clone(&self.state.history))
    }

    // Around an event.

    pub fn before(&mut self, server: &Server, log: &[EntryHeader], event: &Event) {
        let status = server.status();
        let message = match event {
            Event::Receive { message, .. } => Some(message.clone()),
            _ => None,
        };
        if let Some(Message { term, body: MessageBody::AppendEntries(append) }) = &message
            && *term >= status.term
            && agree(log, append.prev_index, append.prev_term)
        {
            self.verified = self.verified.max(Index(append.prev_index.0 + append.entries.len() as u64));
        }
        self.before = Before {
            term: status.term,
            vote: status.vote,
            last: last(log),
            commit: status.commit,
            applied: status.applied,
            peers: if status.role == Role::Leader { status.peers } else { Vec::new() },
            message,
        };
    }

    /// After an event, once its effects were carried out.
    pub fn after(&mut self, node: &Node) {
        let status = node.server.status();
        let Before { term, vote, last: own, commit, applied, .. } = self.before;
        hold!(self, I8, status.term >= term, "its term falls from {term} to {}", status.term);
        hold!(self, I8, status.commit >= commit, "its commit index falls from {commit} to {}", status.commit);
        hold!(self, I8, status.applied >= applied, "its applied index falls from {applied} to {}", status.applied);
        hold!(self, I12, status.applied <= status.commit, "it applied {} of {}", status.applied, status.commit);
        hold!(self, I10, status.durable <= status.last, "it has durably {} of {}", status.durable, status.last);
        let same_vote = status.term > term || vote.is_none() || status.vote == vote;
        hold!(self, I1, same_vote, "it changes its vote in term {term} from {vote:?} to {:?}", status.vote);
        if let Some(Message { body: MessageBody::RequestVote { last_index, last_term, .. }, .. }) = self.before.message
            && status.vote.is_some()
            && (status.term, status.vote) != (term, vote)
        {
            let theirs = (last_term, last_index);
            hold!(self, I2, theirs >= own, "it votes for a log that ends at {theirs:?}, its own at {own:?}");
        }
        if let Some(Message { body: MessageBody::AppendEntries(_), .. }) = self.before.message {
            let limit = self.verified.max(commit);
            hold!(self, I7, status.commit <= limit, "it commits {} but verified {}", status.commit, self.verified);
        }
        let equal = status.last.0 == node.log.len() as u64
            && node.log.iter().all(|entry| node.server.term_at(entry.index) == Some(entry.term));
        hold!(self, I13, equal, "the server and its driver disagree about the log");
        if status.role == Role::Leader && status.term == term {
            for (before, after) in std::mem::take(&mut self.before.peers).iter().zip(&status.peers) {
                let (from, to) = (before.matched, after.matched);
                hold!(self, I9, from <= to, "the match index of n{} falls from {from} to {to}", after.id);
            }
        }
    }

    // Elections.

    pub fn elected(&mut self, node: &Node, term: Term) {
        let id = self.id;
        let place_of_term = term.0 as usize - 1;
        let first = self.history().leaders[place_of_term];
        hold!(self, I1, first.is_none_or(|first| first == id), "n{first:?} and n{id} both lead term {term}");
        let durable = node.disk.hard_state;
        let own = HardState { term, vote: Some(id) };
        hold!(self, I10, durable == own, "n{id} leads term {term} with {durable:?} on disk");
        let granted = |message: &Message| {
            message.term == term && message.body == MessageBody::RequestVoteResponse { pre: false, granted: true }
        };
        let mailbox = &self.state.mailboxes[place(id)];
        let others = self.state.nodes.iter().filter(|voter| mailbox.has(voter.id(), granted)).count();
        hold!(self, I2, self.is_majority(1 + others), "n{id} leads term {term} with {} votes", 1 + others);
        // What a later leader has committed meanwhile, one whose votes arrived so late need not have.
        let has =
            |(entry, by): &(EntryHeader, Term)| *by > term || node.log.get(place_in_log(entry.index)) == Some(entry);
        let lacks = self.history().committed.iter().position(|committed| !has(committed));
        hold!(
            self,
            I14,
            lacks.is_none(),
            "n{id} leads term {term} without the committed entry {}",
            lacks.unwrap_or(0) + 1
        );
        if first.is_none() {
            self.history_mut().leaders[place_of_term] = Some(id);
        }
    }

    fn is_majority(&self, count: usize) -> bool {
        2 * count > self.state.nodes.len()
    }

    // The log.

    pub fn appended(&mut self, node: &Node, entries: &[EntryHeader]) {
        let mut end = last(&node.log);
        let leads = node.server.role() == Role::Leader;
        for entry in entries {
            hold!(self, I13, entry.index == end.1.next(), "entry {} comes after {}", entry.index, end.1);
            hold!(self, I13, entry.term >= end.0, "an entry of term {} follows one of {}", entry.term, end.0);
            end = (entry.term, entry.index);
            if leads {
                let made = self.state.nodes.iter().any(|other| agree(&other.log, entry.index, entry.term));
                hold!(self, I3, !made, "the leader makes entry {} of term {} twice", entry.index, entry.term);
            }
        }
    }

    pub fn truncated(&mut self, node: &Node, from: Index) {
        let term = node.server.term();
        hold!(self, I3, node.server.role() != Role::Leader, "it leads, and removes entries from {from} on");
        hold!(self, I7, from > node.server.commit(), "it removes {from}, which it has committed");
        let conflict = match &self.before.message {
            Some(Message { body: MessageBody::AppendEntries(append), .. }) => {
                let new = append.entries.iter().find(|entry| entry.index == from);
                new.is_some_and(|new| !agree(&node.log, from, new.term))
            }
            _ => false,
        };
        hold!(self, I6, conflict, "it removes {from}, with which nothing conflicts");
        self.keeps_committed(&node.log, from, term);
    }

    /// A node in this term removes the entries from `from` on: what a leader up to this term has committed must stay. What a
    /// later one has committed without this node, a leader of this term may still remove here.
    fn keeps_committed(&mut self, log: &[EntryHeader], from: Index, term: Term) {
        let committed = &self.history().committed;
        let removed = log.iter().zip(committed).skip(place_in_log(from));
        let lost = removed.filter(|(entry, (committed, by))| *entry == committed && *by <= term).count();
        hold!(self, I6, lost == 0, "{lost} committed entries are removed from {from} on");
    }

    /// A write reaches the disk.
    pub fn written(&mut self, disk: &Disk, write: &Write) {
        let now = write.hard_state.unwrap_or(disk.hard_state);
        let HardState { term, vote } = disk.hard_state;
        hold!(self, I8, now.term >= term, "its durable term falls from {term} to {}", now.term);
        let same_vote = now.term > term || vote.is_none() || now.vote == vote;
        hold!(self, I1, same_vote, "its durable vote in term {term} changes from {vote:?} to {:?}", now.vote);
        if let Some(from) = write.truncate_from {
            self.keeps_committed(&disk.log, from, now.term);
        }
    }

    pub fn committed(&mut self, node: &Node, upto: Index) {
        let Some(entry) = node.log.get(place_in_log(upto)).cloned() else {
            hold!(self, I7, false, "it commits {upto}, which it does not have");
            return;
        };
        let (term, leads) = (node.server.term(), node.server.role() == Role::Leader);
        if upto > self.history().last_committed() {
            hold!(self, I5, leads, "it commits {upto} before any leader did");
            hold!(self, I5, entry.term == term, "it commits {upto} of term {} by counting, in term {term}", entry.term);
            let has = |disk: &Disk| disk.log.get(place_in_log(upto)) == Some(&entry);
            let others = self.state.nodes.iter().filter(|other| other.id() != self.id && has(&other.disk)).count();
            let count = others + usize::from(has(&node.disk));
            hold!(self, I5, self.is_majority(count), "it commits {upto}, durable on {count} nodes");
        }
        let durable = Index(node.disk.log.len() as u64);
        hold!(self, I10, leads || upto <= durable, "it commits {upto} but has durably {durable}");
        for own in node.log.iter().take(upto.0 as usize) {
            match self.history().committed.get(place_in_log(own.index)) {
                Some((committed, _)) => {
                    let (theirs, ours) = (committed.term, own.term);
                    let same = committed == own;
                    hold!(self, I4, same, "it commits {} of term {ours}, others of term {theirs}", own.index);
                }
                None => self.history_mut().committed.push((own.clone(), term)),
            }
        }
    }

    // Messages.

    pub fn sent(&mut self, node: &Node, message: &Message) {
        let (id, term, durable) = (self.id, node.server.term(), node.disk.hard_state);
        let of_next_term = matches!(
            message.body,
            MessageBody::RequestVote { pre: true, .. } | MessageBody::RequestVoteResponse { pre: true, granted: true }
        );
        hold!(self, I15, message.term == term || of_next_term, "in term {term}, it speaks as of {}", message.term);
        match &message.body {
            MessageBody::RequestVote { pre: false, .. } => {
                let own = HardState { term, vote: Some(id) };
                hold!(self, I10, durable == own, "it campaigns in term {term} with {durable:?} on disk");
            }
            MessageBody::RequestVoteResponse { pre: false, granted: true } => {
                let voted = durable.term == term && durable.vote.is_some();
                hold!(self, I10, voted, "it grants a vote in term {term} with {durable:?} on disk");
            }
            MessageBody::AppendEntries(append) => {
                hold!(self, I10, durable.term == term, "it leads term {term} with {durable:?} on disk");
                let is_past = append.entries.iter().all(|entry| entry.term <= term);
                hold!(self, I15, is_past, "it sends an entry of a later term than {term}");
            }
            MessageBody::AppendAccepted { matched, .. } => {
                hold!(self, I10, durable.term == term, "it accepts in term {term} with {durable:?} on disk");
                let upto = matched.0 as usize;
                let has = node.disk.log.len() >= upto
                    && node.log.get(..upto).is_some_and(|log| node.disk.log.starts_with(log));
                hold!(self, I10, has, "it vouches for {matched}, which is not durable");
            }
            _ => {}
        }
    }

    pub fn refused(&mut self, from: NodeId, reason: &str) {
        hold!(self, Refused, false, "it refuses a message: n{from} {reason}");
    }

    pub fn failed(&mut self, violation: &Violation) {
        hold!(self, Watched, false, "{violation}");
    }

    pub fn unasked(&mut self, effect: &Effect) {
        hold!(self, Refused, false, "nobody asked for {effect:?}");
    }

    // After the step.

    pub fn between_nodes(&mut self, nodes: &[Arc<Node>]) {
        let node = &nodes[place(self.id)];
        for other in nodes {
            let logs = [&other.log, &other.disk.log];
            let match_mine = |log: &&Vec<EntryHeader>| logs_match(log, &node.log) && logs_match(log, &node.disk.log);
            hold!(self, I13, logs.iter().all(match_mine), "the logs of n{} and n{} do not match", self.id, other.id());
            if other.server.role() == Role::Leader {
                self.book_keeping(other, nodes);
            }
        }
    }

    /// What a leader thinks of its peers, as far as they have not moved on to a later term.
    fn book_keeping(&mut self, leader: &Node, nodes: &[Arc<Node>]) {
        let (id, term) = (leader.id(), leader.server.term());
        for PeerProgress { id: peer, matched, next, .. } in leader.server.status().peers {
            hold!(self, I9, next > matched, "n{id} has matched {matched} of n{peer}, and next {next}");
            let disk = &nodes[place(peer)].disk;
            let upto = matched.0 as usize;
            let has = leader.log.get(..upto).is_some_and(|log| disk.log.starts_with(log));
            hold!(self, I9, has || disk.hard_state.term > term, "n{id} thinks that n{peer} has {matched} durably");
        }
    }
}

fn place_in_log(index: Index) -> usize {
    (index.0 as usize).wrapping_sub(1)
}

fn last(log: &[EntryHeader]) -> (Term, Index) {
    log.last().map_or_else(Default::default, |last| (last.term, last.index))
}

/// Whether the log has an entry of this term at this index; at index 0 all begin alike.
fn agree(log: &[EntryHeader], index: Index, term: Term) -> bool {
    index.0 == 0 || log.get(place_in_log(index)).is_some_and(|entry| entry.term == term)
}

/// Where two logs have an entry of the same index and term, they are the same up to there.
fn logs_match(a: &[EntryHeader], b: &[EntryHeader]) -> bool {
    let common = a.iter().zip(b).rposition(|(a, b)| a.term == b.term);
    common.is_none_or(|last| a[..=last] == b[..=last])
}
