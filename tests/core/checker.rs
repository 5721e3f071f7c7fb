//! The invariants that hold between nodes and across crashes, checked after every event. Their numbers are those of the
//! project's catalogue; what a server can check by itself, it does (`src/consensus/invariants.rs`).

use std::collections::BTreeMap;

use raft::consensus::{
    EntryHeader, EntryKind, Event, HardState, Index, LogTime, Membership, Message, MessageBody, NodeId, Persist, Role,
    Server, SnapshotMeta, Term, Ticket,
};

use crate::cluster::{Disk, Node};
use crate::shelf::Shelf;

/// What has been true so far, whatever any node may have forgotten since.
pub struct Checker {
    membership: Membership,
    /// Who led each term.
    leaders: BTreeMap<Term, NodeId>,
    /// Votes that became durable.
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// Every entry that a leader made, and the term of the entry before it.
    made: BTreeMap<(Index, Term), (Term, EntryHeader)>,
    names: BTreeMap<(Index, Term), String>,
    /// Every entry that any node has committed, from index 1 on.
    committed: Vec<EntryHeader>,
    /// The terms in which they were committed.
    committed_in: Vec<Term>,
    /// The highest index committed when each read began.
    reads: BTreeMap<Ticket, Index>,
    nodes: BTreeMap<NodeId, Seen>,
    /// What nodes whose disks were wiped had vouched for last, while they do not count.
    wiped: BTreeMap<NodeId, (Term, Index)>,
    before: Before,
    /// How many messages were refused.
    pub refusals: u64,
}

/// What was seen of one node.
#[derive(Default)]
struct Seen {
    term: Term,
    commit: Index,
    applied: Index,
    /// Equal to the log of some leader up to here.
    verified: Index,
    /// The last thing that it vouched for: this index, in this term.
    vouched: (Term, Index),
    /// A leader's match indexes, in its term.
    matched: BTreeMap<NodeId, (Index, bool)>,
    leads: Option<Term>,
}

/// A server just before an event.
#[derive(Default)]
struct Before {
    term: Term,
    vote: Option<NodeId>,
    last: (Term, Index),
}

macro_rules! hold {
    ($invariant:literal, $condition:expr, $($details:tt)+) => {
        assert!($condition, "invariant {} is broken: {}", $invariant, format_args!($($details)+))
    };
}

impl Checker {
    pub fn new(membership: Membership) -> Self {
        Checker {
            membership,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            made: BTreeMap::new(),
            names: BTreeMap::new(),
            committed: Vec::new(),
            committed_in: Vec::new(),
            reads: BTreeMap::new(),
            nodes: BTreeMap::new(),
            wiped: BTreeMap::new(),
            before: Before::default(),
            refusals: 0,
        }
    }

    /// There was a leader with a log of these terms, before the story or elsewhere, and it has committed so much of it.
    pub fn imagine(&mut self, terms: &[u64], committed: Index) -> Vec<EntryHeader> {
        let mut prev = Term(0);
        let mut entries = Vec::new();
        for (index, term) in (1..).map(Index).zip(terms.iter().copied().map(Term)) {
            let (kind, time, session, size) = (EntryKind::Command, LogTime(0), None, 10);
            let entry = EntryHeader { index, term, kind, time, session, size };
            let (_, made) = self.made.entry((index, term)).or_insert((prev, entry.clone()));
            hold!("I13", made == &entry, "{entry:?} was made as {made:?}");
            self.names.entry((index, term)).or_insert(format!("old{index}@{term}"));
            if index <= committed && index > self.last_committed() {
                self.committed.push(entry.clone());
                self.committed_in.push(term);
            }
            entries.push(entry);
            prev = term;
        }
        entries
    }

    /// A story begins with a node that remembers this.
    pub fn remember(&mut self, id: NodeId, hard_state: HardState) {
        if let Some(vote) = hard_state.vote {
            self.votes.insert((hard_state.term, id), vote);
        }
        self.nodes.insert(id, Seen::default());
    }

    /// A node's disk is wiped: it need not keep what it had vouched for. Its votes stay cast.
    pub fn wiped(&mut self, id: NodeId) {
        let seen = self.nodes.insert(id, Seen::default()).unwrap_or_default();
        self.wiped.entry(id).or_insert(seen.vouched);
    }

    /// A node that was wiped counts again: it must have what a leader may still count on from its earlier life.
    pub fn recalled(&mut self, id: NodeId, nodes: &BTreeMap<NodeId, Node>) {
        self.wiped.remove(&id);
        let (term, last) = nodes.get(&id).map_or_else(Default::default, |node| {
            (node.server.as_ref().map(Server::term).unwrap_or_default(), node.disk.log.last())
        });
        for server in nodes.values().filter_map(|node| node.server.as_ref()).filter(|server| server.id() != id) {
            let counted = server.status().peers.into_iter().find(|peer| peer.id == id && !peer.abstains);
            if let Some(counted) = counted.filter(|_| server.term() == term) {
                hold!("I6", counted.matched <= last, "{id} has {last}, and its leader counts on {}", counted.matched);
            }
        }
    }

    fn seen(&mut self, id: NodeId) -> &mut Seen {
        self.nodes.entry(id).or_default()
    }

    /// The last index that any node has committed.
    pub fn last_committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    fn committed_at(&self, index: Index) -> Option<&EntryHeader> {
        self.committed.get(index.0.checked_sub(1)? as usize)
    }

    /// The name of an entry's command.
    pub fn name_of(&self, entry: &EntryHeader) -> Option<&str> {
        self.names.get(&(entry.index, entry.term)).map(String::as_str)
    }

    /// The commands committed up to this index.
    pub fn names(&self, upto: Index) -> Vec<String> {
        let entries = self.committed.iter().take_while(|entry| entry.index <= upto);
        entries.filter_map(|entry| self.name_of(entry)).map(str::to_owned).collect()
    }

    pub fn named(&mut self, entry: &EntryHeader, name: &str) {
        self.names.insert((entry.index, entry.term), name.to_owned());
    }

    // The life of a node.

    pub fn restarted(&mut self, id: NodeId, disk: &Disk) {
        let seen = self.seen(id);
        hold!("I8", disk.hard_state.term >= seen.vouched.0, "{id} forgot its term");
        hold!("I6", disk.log.last() >= seen.vouched.1, "{id} forgot an entry that it vouched for");
        let vouched = seen.vouched;
        let covered = disk.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        *seen = Seen { vouched, verified: covered, ..Seen::default() };
    }

    pub fn before(&mut self, server: &Server, log: &Shelf) {
        let vote = server.status().vote;
        self.before = Before { term: server.term(), vote, last: (log.last_term(), log.last()) };
    }

    /// After an event, once its effects were carried out.
    pub fn after(&mut self, id: NodeId, event: &Event, nodes: &BTreeMap<NodeId, Node>) {
        let Some(node) = nodes.get(&id) else { return };
        let Some(server) = &node.server else { return };
        let status = server.status();
        self.check_vote(id, event, status.term, status.vote);
        self.check_verified(id, event, server, &node.log);
        let last = node.log.last();
        hold!("I13", status.last == last, "{id} and its driver disagree about its log");
        hold!("I10", status.durable <= last, "{id}: durable {} of {last}", status.durable);

        let seen = self.seen(id);
        hold!("I8", status.term >= seen.term, "{id}'s term fell from {} to {}", seen.term, status.term);
        hold!("I8", status.commit >= seen.commit, "{id}'s commit fell from {} to {}", seen.commit, status.commit);
        hold!("I8", status.applied >= seen.applied, "{id}'s applied fell from {} to {}", seen.applied, status.applied);
        hold!("I12", status.applied <= status.commit, "{id} applied {} of {}", status.applied, status.commit);
        (seen.term, seen.commit, seen.applied) = (status.term, status.commit, status.applied);

        if status.role != Role::Leader {
            seen.leads = None;
            return;
        }
        if seen.leads != Some(status.term) {
            (seen.leads, seen.matched) = (Some(status.term), BTreeMap::new());
            seen.verified = last;
            self.elected(id, status.term, &node.log);
        }
        let seen = self.seen(id);
        seen.verified = last;
        for peer in &status.peers {
            let known = seen.matched.insert(peer.id, (peer.matched, peer.abstains));
            // With one that abstains, or did so before, everything may begin anew.
            let (before, abstained) = known.unwrap_or_default();
            let may_fall = abstained || peer.abstains;
            hold!("I9", peer.matched >= before || may_fall, "{id} thinks {}'s match fell from {before}", peer.id);
            hold!("I9", peer.next > peer.matched, "{id}: {} has next {}, match {}", peer.id, peer.next, peer.matched);
            if peer.matched > before {
                let theirs = nodes.get(&peer.id).map(|node| &node.disk.log);
                let has = theirs.is_some_and(|log| {
                    log.last() >= peer.matched && log.agrees(peer.matched, node.log.term_at(peer.matched))
                });
                hold!("I9", has, "{id} thinks that {} has {} durably", peer.id, peer.matched);
            }
        }
    }

    // Elections.

    fn check_vote(&mut self, id: NodeId, event: &Event, term: Term, vote: Option<NodeId>) {
        let before = &self.before;
        if term == before.term && before.vote.is_some() {
            hold!("I1", vote == before.vote, "{id} changed its vote in term {term}");
        }
        let is_new = (term, vote) != (before.term, before.vote) && vote.is_some_and(|vote| vote != id);
        if let Event::Receive { message: Message { body, .. }, .. } = event
            && let MessageBody::RequestVote { last_index, last_term, .. } = body
            && is_new
        {
            let theirs = (*last_term, *last_index);
            hold!("I2", theirs >= before.last, "{id} voted for a log that ends at {theirs:?}, own {:?}", before.last);
        }
    }

    fn elected(&mut self, id: NodeId, term: Term, log: &Shelf) {
        let first = *self.leaders.entry(term).or_insert(id);
        hold!("I1", first == id, "{first} and {id} both lead term {term}");
        let votes = |voter: &&NodeId| self.votes.get(&(term, **voter)) == Some(&id);
        let count = self.membership.voters.iter().filter(votes).count();
        hold!("I2", 2 * count > self.membership.voters.len(), "{id} leads term {term} with {count} durable votes");
        // With log matching, having the last committed entry is having them all.
        if let Some(entry) = self.committed.last() {
            let has = log.last() >= entry.index && log.agrees(entry.index, Some(entry.term));
            hold!("I14", has, "{id} leads term {term} without the committed entry {}", entry.index);
        }
    }

    // The log.

    /// Which part of the log was found equal to a leader's.
    fn check_verified(&mut self, id: NodeId, event: &Event, server: &Server, log: &Shelf) {
        let Event::Receive { message: Message { term, body }, .. } = event else { return };
        let (prev, last) = match body {
            MessageBody::AppendEntries(append) => {
                let prev = (append.prev_index, append.prev_term);
                (prev, append.entries.last().map_or(prev, |last| (last.index, last.term)))
            }
            MessageBody::InstallSnapshot { snapshot } => {
                ((snapshot.index, snapshot.term), (snapshot.index, snapshot.term))
            }
            _ => return,
        };
        let equal = log.agrees(prev.0, Some(prev.1)) && log.agrees(last.0, Some(last.1));
        if *term == server.term() && server.role() == Role::Follower && equal && last.0 <= log.last() {
            let seen = self.seen(id);
            seen.verified = seen.verified.max(last.0);
        }
        let verified = self.seen(id).verified;
        let commit = server.commit();
        hold!("I7", commit <= verified, "{id} commits {commit} but verified only {verified}");
    }

    pub fn appended(&mut self, entries: &[EntryHeader], leads: bool, log: &Shelf) {
        for entry in entries {
            let prev = log.term_at(entry.index.prev()).unwrap_or_default();
            hold!("I13", prev <= entry.term, "entry {} of term {} follows term {prev}", entry.index, entry.term);
            let earlier = log.get(entry.index.prev()).map_or(LogTime(0), |prev| prev.time);
            assert!(earlier <= entry.time, "log time falls from {earlier} to {} at {}", entry.time, entry.index);
            match self.made.get(&(entry.index, entry.term)) {
                Some((made_prev, made)) => {
                    hold!("I3", !leads, "a leader made entry {} of term {} twice", entry.index, entry.term);
                    hold!("I13", (made_prev, made) == (&prev, entry), "{entry:?} after {prev}, made as {made:?}");
                }
                None => {
                    hold!("I13", leads, "nobody made {entry:?}");
                    self.made.insert((entry.index, entry.term), (prev, entry.clone()));
                }
            }
        }
    }

    pub fn truncated(&mut self, id: NodeId, from: Index, node: &Node) {
        let (role, term) =
            node.server.as_ref().map(|server| (server.role(), server.term())).unwrap_or((Role::Follower, Term(0)));
        hold!("I3", role != Role::Leader, "{id} leads, and removes entries from {from} on");
        for entry in node.log.from(from) {
            // What a later leader has committed without this node, a leader of an earlier term may still remove here.
            let is_known =
                self.committed_in.get(entry.index.0 as usize - 1).is_some_and(|&committed| committed <= term);
            let is_committed = is_known && self.committed_at(entry.index) == Some(entry);
            hold!("I6", !is_committed, "{id} removes the committed entry {}", entry.index);
        }
        let seen = self.seen(id);
        hold!("I7", from > seen.commit, "{id} removes {from}, which it has committed");
        let (vouched_term, vouched) = seen.vouched;
        if from <= vouched {
            hold!("I6", term > vouched_term, "{id} removes {from} in term {term}, in which it vouched for it");
            seen.vouched.1 = from.prev();
        }
        seen.verified = seen.verified.min(from.prev());
    }

    pub fn installed(&mut self, id: NodeId, snapshot: &SnapshotMeta, node: &Node) {
        let committed = self.committed_at(snapshot.index).map(|entry| entry.term);
        hold!(
            "I4",
            committed == Some(snapshot.term),
            "{id} installs a snapshot of {:?}",
            (snapshot.index, snapshot.term)
        );
        hold!("I8", snapshot.index >= node.applied, "{id} installs the past over {}", node.applied);
        let seen = self.seen(id);
        seen.verified = snapshot.index;
        seen.vouched.1 = seen.vouched.1.min(snapshot.index);
    }

    /// A write is durable: takes it over into the node's disk.
    pub fn written(&mut self, id: NodeId, node: &mut Node, persist: &Persist, entries: &[EntryHeader]) {
        let disk = &mut node.disk;
        if let Some(hard_state) = persist.hard_state {
            hold!("I8", hard_state.term >= disk.hard_state.term, "{id}'s durable term falls to {}", hard_state.term);
            disk.hard_state = hard_state;
            if let Some(vote) = hard_state.vote {
                let first = *self.votes.entry((hard_state.term, id)).or_insert(vote);
                hold!("I1", first == vote, "{id} voted for {first} and {vote} in term {}", hard_state.term);
            }
        }
        if let Some(snapshot) = &persist.snapshot {
            disk.log = Shelf::after(snapshot);
            disk.snapshot = Some(snapshot.clone());
        }
        if let Some(from) = persist.truncate_from {
            let vouched = self.nodes.get(&id).map_or(Index(0), |seen| seen.vouched.1);
            hold!("I6", from > vouched, "{id}'s disk removes {from}, and it has vouched for {vouched}");
            disk.log.truncate(from);
        }
        disk.log.append(entries);
    }

    /// A node says that it has committed up to here.
    pub fn committed(&mut self, id: NodeId, upto: Index, nodes: &BTreeMap<NodeId, Node>) {
        let Some(node) = nodes.get(&id) else { return };
        let Some(server) = &node.server else { return };
        let is_new = upto > self.last_committed();
        if is_new {
            let (role, term) = (server.role(), server.term());
            hold!("I5", role == Role::Leader, "{id} commits {upto} before any leader did");
            hold!("I5", node.log.term_at(upto) == Some(term), "{id} commits {upto} by counting, in term {term}");
            // What a node that abstains has now does not count; what it had before its disk was wiped may have been counted.
            let has = |voter: &&NodeId| match self.wiped.get(voter) {
                Some(&(vouched_term, vouched)) => vouched_term == term && vouched >= upto,
                None => nodes.get(voter).is_some_and(|node| node.disk.log.term_at(upto) == Some(term)),
            };
            let count = self.membership.voters.iter().filter(has).count();
            hold!("I5", 2 * count > self.membership.voters.len(), "{id} commits {upto}, durable on {count} nodes");
        }
        if server.role() != Role::Leader {
            let durable = node.disk.log.last();
            hold!("I10", upto <= durable, "{id} commits {upto} but has durably {durable}");
        }
        let first = self.seen(id).commit.next();
        for entry in node.log.from(first.max(node.log.base().next())) {
            if entry.index > upto {
                break;
            }
            match self.committed_at(entry.index) {
                Some(committed) => hold!("I4", committed == entry, "{id} commits {entry:?}, others {committed:?}"),
                None => {
                    hold!(
                        "I4",
                        entry.index == self.last_committed().next(),
                        "{id} commits with a gap before {}",
                        entry.index
                    );
                    self.committed.push(entry.clone());
                    self.committed_in.push(server.term());
                }
            }
        }
        hold!("I4", upto <= self.last_committed(), "{id} commits {upto} without having it");
    }

    // Messages: nobody vouches for what could be forgotten.

    pub fn sent(&mut self, id: NodeId, node: &Node, message: &Message) {
        let term = node.server.as_ref().map(Server::term).unwrap_or_default();
        let durable = node.disk.hard_state;
        let asks_or_grants_pre_vote = matches!(
            message.body,
            MessageBody::RequestVote { pre: true, .. } | MessageBody::RequestVoteResponse { pre: true, granted: true }
        );
        hold!(
            "I15",
            message.term == term || asks_or_grants_pre_vote,
            "{id}, in term {term}, speaks as of {}",
            message.term
        );
        match &message.body {
            MessageBody::RequestVote { pre: false, .. } => {
                let own = HardState { term, vote: Some(id) };
                hold!("I10", durable == own, "{id} campaigns in term {term} with {durable:?} on disk");
            }
            MessageBody::RequestVoteResponse { pre: false, granted: true } => {
                let voted = durable.term == term && durable.vote.is_some();
                hold!("I10", voted, "{id} grants a vote in term {term} with {durable:?} on disk");
            }
            MessageBody::AppendEntries(append) => {
                hold!("I10", durable.term == term, "{id} leads term {term} with {durable:?} on disk");
                let newest = append.entries.iter().map(|entry| entry.term).max();
                hold!("I15", newest <= Some(term), "{id} sends an entry of a later term than {term}");
            }
            MessageBody::AppendRejected { prev_index, hint_index, hint_term, .. } => {
                let is_possible = hint_index <= prev_index && *hint_term <= message.term;
                hold!("form", is_possible, "{id} refuses {prev_index} with the hint {hint_index}@{hint_term}");
            }
            MessageBody::AppendAccepted { matched, .. } | MessageBody::SnapshotInstalled { matched, .. } => {
                hold!("I10", durable.term == term, "{id} accepts in term {term} with {durable:?} on disk");
                let has =
                    node.disk.log.last() >= *matched && node.disk.log.agrees(*matched, node.log.term_at(*matched));
                hold!("I10", has, "{id} vouches for {matched}, which is not durable");
                let seen = self.seen(id);
                let index = if seen.vouched.0 == term { seen.vouched.1.max(*matched) } else { *matched };
                seen.vouched = (term, index);
            }
            _ => {}
        }
    }

    // Clients.

    pub fn read_begins(&mut self, ticket: Ticket) {
        self.reads.insert(ticket, self.last_committed());
    }

    pub fn read_confirmed(&mut self, ticket: Ticket, index: Index) {
        let begun = self.reads.remove(&ticket).expect("a read is confirmed once");
        hold!("I18", index >= begun, "a read sees {index}, but {begun} was committed before it began");
    }

    pub fn acknowledged(&self, index: Index, name: &str) {
        let committed = self.committed_at(index).and_then(|entry| self.name_of(entry));
        hold!("I16", committed == Some(name), "{name} is acknowledged, but {index} holds {committed:?}");
    }
}
