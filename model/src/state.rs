//! A state of the model: for each node its server, its log, its disk and the writes that are not done; every message that was
//! ever sent; and what the invariants need of the past.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use raft::consensus::{
    AppendEntries, EntryHeader, HardState, Index, Membership, Message, MessageBody, NodeId, Remembered, Role, Server,
    ServerConfig, Term,
};

use crate::bounds::{Bounds, ELECTION_TIMEOUT, HEARTBEAT_INTERVAL, NOW};
use crate::projection::{Prints, Renaming, Renamings, mixed, print};
use crate::properties::Broken;

/// A node that runs.
#[derive(Clone)]
pub struct Node {
    /// What is shipped, in its normal form.
    pub server: Server,
    /// The log with all of its headers, as the driver keeps it.
    pub log: Vec<EntryHeader>,
    pub disk: Disk,
    /// Asked of the disk and not done, in order, with their tokens, which count from 1.
    pub writes: VecDeque<(u64, Write)>,
    prints: Prints,
}

/// What survives a crash.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub hard_state: HardState,
    pub log: Vec<EntryHeader>,
}

/// What one [`Persist`](raft::consensus::Persist) asks for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Write {
    pub hard_state: Option<HardState>,
    pub truncate_from: Option<Index>,
    pub entries: Vec<EntryHeader>,
}

/// A message, whoever may receive it, any number of times or never.
pub struct Letter {
    pub from: NodeId,
    pub message: Message,
    /// By who may have sent it.
    prints: Prints,
}

/// The messages to one node, without those that can never change anything there again.
pub struct Mailbox {
    pub letters: Vec<Arc<Letter>>,
    prints: Prints,
}

/// What the invariants need of the past.
#[derive(Clone)]
pub struct History {
    /// Who led each term, from term 1 on.
    pub leaders: Vec<Option<NodeId>>,
    /// Every entry that any node has committed, from index 1 on, and the term in which it was.
    pub committed: Vec<(EntryHeader, Term)>,
    prints: Prints,
}

#[derive(Clone)]
pub struct State {
    /// Node n has place n − 1.
    pub nodes: Vec<Arc<Node>>,
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub history: Arc<History>,
    pub proposals: u32,
    pub crashes: u32,
    pub heartbeats: u32,
    pub broken: Option<Arc<Broken>>,
    print: u64,
}

/// Node ids begin at 1.
pub fn place(id: NodeId) -> usize {
    id.0 as usize - 1
}

impl Disk {
    pub fn write(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.log.truncate(from.prev().0 as usize);
        }
        self.log.extend(write.entries);
    }
}

impl Node {
    /// A node that starts with what its disk holds.
    pub fn start(id: NodeId, disk: Disk, bounds: &Bounds) -> Self {
        let mut config = ServerConfig::new(id, ELECTION_TIMEOUT, HEARTBEAT_INTERVAL);
        (config.pre_vote, config.check_quorum) = (bounds.pre_vote, bounds.check_quorum);
        let membership = Membership::of_voters(bounds.ids());
        let mut remembered = Remembered { hard_state: disk.hard_state, membership, ..Remembered::default() };
        disk.log.iter().for_each(|entry| remembered.append(entry));
        let server = Server::new(config, remembered, 0, NOW);
        Node { server, log: disk.log.clone(), disk, writes: VecDeque::new(), prints: Prints::default() }
    }

    /// Brings the server into its normal form.
    pub fn normalize(&mut self) {
        self.server = self.server.normal_form(&|id| id);
        self.writes.iter_mut().zip(1..).for_each(|((token, _), number)| *token = number);
    }

    /// Takes the prints of a node in normal form.
    pub fn settled(mut self, renamings: &Renamings) -> Self {
        self.prints = renamings.prints(|renaming| self.print_under(renaming));
        self
    }

    /// Its number when nodes are renamed.
    pub fn print_under(&self, renaming: &Renaming) -> u64 {
        let server = self.server.normal_form(&|id| renaming.name(id));
        let on_disk = (renaming.hard_state(self.disk.hard_state), &self.disk.log);
        let writes = self.writes.iter().map(|(_, write)| {
            (write.hard_state.map(|hard_state| renaming.hard_state(hard_state)), write.truncate_from, &write.entries)
        });
        print((server, &self.log, on_disk, writes.collect::<Vec<_>>()))
    }

    pub fn id(&self) -> NodeId {
        self.server.id()
    }

    /// What tells this node from others.
    pub fn print(&self) -> u64 {
        self.prints[0]
    }

    /// Whether all that a request of its leader says is in its log, durably, and committed as far as that is.
    pub fn has_taken(&self, leader: NodeId, append: &AppendEntries) -> bool {
        let status = self.server.status();
        let first = append.prev_index.0 as usize;
        let upto = Index(append.prev_index.0 + append.entries.len() as u64);
        let agrees = first == 0 || self.disk.log.get(first - 1).is_some_and(|entry| entry.term == append.prev_term);
        status.leader == Some(leader)
            && self.writes.is_empty()
            && agrees
            && self.disk.log.get(first..upto.0 as usize).is_some_and(|log| log == append.entries)
            && append.commit.min(upto) <= status.commit
    }

    /// Whether a message to this node can never change anything again, whatever happens: an answer of a term that is over,
    /// durably, or one that nobody waits for who leads or campaigns no more.
    pub fn is_deaf_to(&self, message: &Message, ignores_denials: bool) -> bool {
        let is_answer = !matches!(message.body, MessageBody::RequestVote { .. } | MessageBody::AppendEntries(_));
        let durable = self.disk.hard_state.term;
        // A crash takes the node back to its durable term, but never to a role in it.
        let now = (self.server.term() == durable).then(|| self.server.role());
        let waits = |roles: &[Role]| message.term > durable || now.is_some_and(|role| roles.contains(&role));
        is_answer && message.term < durable
            || match &message.body {
                // Granted, it is of the next term. Denied, it is not counted: the node could ask again.
                MessageBody::RequestVoteResponse { pre: true, .. } => ignores_denials && message.term == durable,
                MessageBody::RequestVoteResponse { pre: false, .. } => !waits(&[Role::Candidate]),
                MessageBody::AppendAccepted { .. } | MessageBody::AppendRejected { .. } => {
                    !waits(&[Role::Candidate, Role::Leader])
                }
                _ => false,
            }
    }
}

impl Letter {
    pub fn new(from: NodeId, message: Message, nodes: u64) -> Self {
        let text = print(&message);
        Letter { from, message, prints: (1..=nodes).map(|from| print((from, text))).collect() }
    }

    /// What tells this letter from others.
    pub fn key(&self) -> u64 {
        self.print_from(self.from)
    }

    /// Its number if that node had sent it.
    fn print_from(&self, from: NodeId) -> u64 {
        self.prints[place(from)]
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Letter {}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Letter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Mailbox {
    /// These letters, in order, to that node.
    pub fn of(to: NodeId, letters: Vec<Arc<Letter>>, renamings: &Renamings) -> Self {
        let prints = renamings.prints(|renaming| {
            let prints = letters.iter().map(|letter| letter.print_from(renaming.name(letter.from)));
            mixed(prints.fold(0, u64::wrapping_add), renaming.name(to).0)
        });
        Mailbox { letters, prints }
    }

    /// Whether a letter that says this came from that node.
    pub fn has(&self, from: NodeId, says: impl Fn(&Message) -> bool) -> bool {
        self.letters.iter().any(|letter| letter.from == from && says(&letter.message))
    }
}

impl History {
    pub fn blank(bounds: &Bounds, renamings: &Renamings) -> Self {
        let leaders = vec![None; bounds.terms as usize];
        History { leaders, committed: Vec::new(), prints: Prints::default() }.settled(renamings)
    }

    /// After something changed.
    pub fn settled(mut self, renamings: &Renamings) -> Self {
        self.prints = renamings.prints(|renaming| {
            let leaders = self.leaders.iter().map(|leader| leader.map(|leader| renaming.name(leader)));
            print((leaders.collect::<Vec<_>>(), &self.committed))
        });
        self
    }

    pub fn last_committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }
}

impl State {
    /// Nodes that have never run.
    pub fn blank(bounds: &Bounds, renamings: &Renamings) -> Self {
        let start = |id| {
            let mut node = Node::start(id, Disk::default(), bounds);
            node.normalize();
            Arc::new(node.settled(renamings))
        };
        State {
            nodes: bounds.ids().map(start).collect(),
            mailboxes: bounds.ids().map(|id| Arc::new(Mailbox::of(id, Vec::new(), renamings))).collect(),
            history: Arc::new(History::blank(bounds, renamings)),
            proposals: 0,
            crashes: 0,
            heartbeats: 0,
            broken: None,
            print: 0,
        }
        .settled(renamings)
    }

    /// After something changed.
    pub fn settled(mut self, renamings: &Renamings) -> Self {
        let broken = self.broken.as_ref().map(|broken| broken.invariant);
        let spent = [self.proposals, self.crashes, self.heartbeats].map(u64::from).into_iter();
        let rest = spent.fold(broken.map_or(0, |broken| broken as u64 + 1), mixed);
        let smallest = renamings.smallest(|at| {
            let nodes = self.nodes.iter().map(|node| node.prints[at]);
            let mailboxes = self.mailboxes.iter().map(|mailbox| mailbox.prints[at]);
            nodes.chain(mailboxes).fold(self.history.prints[at], u64::wrapping_add)
        });
        self.print = mixed(smallest, rest);
        self
    }
}

impl State {
    /// Whether what happened was nothing but that a bound came nearer.
    pub fn behaves_as(&self, before: &State) -> bool {
        let same_nodes = self.nodes.iter().zip(&before.nodes).all(|(node, other)| Arc::ptr_eq(node, other));
        let same_mail = self.mailboxes.iter().zip(&before.mailboxes).all(|(mail, other)| Arc::ptr_eq(mail, other));
        same_nodes && same_mail && self.broken.is_none() && Arc::ptr_eq(&self.history, &before.history)
    }
}

#[cfg(test)]
impl State {
    pub fn print(&self) -> u64 {
        self.print
    }

    /// A number for everything but the letters.
    pub fn face(&self, renamings: &Renamings) -> u64 {
        let nothing = Arc::new(Mailbox { letters: Vec::new(), prints: renamings.prints(|_| 0) });
        let mailboxes = vec![nothing; self.nodes.len()];
        State { mailboxes, ..self.clone() }.settled(renamings).print
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.print);
    }
}
