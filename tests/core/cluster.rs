//! A deterministic cluster: servers, the links between them, a disk and a state machine each, and virtual time. `driver`
//! carries out what the servers want; the [`Checker`] looks after every single event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft::consensus::{
    EntryHeader, Event, HardState, Index, Membership, Message, MessageBody, NodeId, Persist, Proposal, Remembered,
    Role, Server, ServerConfig, SnapshotMeta, Term, Ticket,
};

use crate::checker::Checker;
use crate::shelf::Shelf;
use crate::words;

/// Every node's election timeout: each one is drawn from [T, 2T).
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest election timeout: E of the test catalogue.
pub const MAX_ELECTION_TIMEOUT: Duration = Duration::from_millis(200);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);

/// A node, running or not.
pub struct Node {
    pub config: ServerConfig,
    /// None while it is down.
    pub server: Option<Server>,
    /// The log as its driver keeps it.
    pub log: Shelf,
    pub disk: Disk,
    /// What its state machine has applied: the names of the commands, in order.
    pub machine: Vec<String>,
    pub applied: Index,
    /// It keeps nothing, and has not caught up.
    pub forgetful: bool,
    boots: u64,
    pub waiting: BTreeMap<Index, Vec<Waiter>>,
}

/// What waits for an index to be applied.
pub enum Waiter {
    Write { term: Term, name: String },
    Read { name: String },
}

/// What a node's disk holds, and what it was asked to write but has not written yet.
#[derive(Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub snapshot: Option<SnapshotMeta>,
    pub log: Shelf,
    pub writes: VecDeque<Write>,
    /// It finishes no write until it is told to.
    pub held: bool,
    /// How long a write takes, from when the one before is done.
    pub latency: Duration,
}

/// A write under way: it is lost in a crash.
#[derive(Clone)]
pub struct Write {
    pub persist: Persist,
    pub entries: Vec<EntryHeader>,
    pub done: Duration,
}

/// A message under way.
pub struct Letter {
    pub message: Message,
    pub arrives: Duration,
}

/// How much went over a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub messages: u64,
    pub appends: u64,
    pub entries: u64,
    pub bytes: u64,
    pub rejections: u64,
}

/// Something for later in the same event.
pub enum Next {
    Event(NodeId, Event),
    WritesDone(NodeId),
}

/// How much of what happens a story tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    Nothing,
    /// Who leads, what is committed, what clients hear.
    Deeds,
    /// Every message, too.
    Words,
}

pub struct Cluster {
    pub now: Duration,
    pub nodes: BTreeMap<NodeId, Node>,
    pub membership: Membership,
    pub checker: Checker,
    pub latency: Duration,
    pub detail: Detail,
    pub story: Vec<String>,
    pub traffic: BTreeMap<(NodeId, NodeId), Traffic>,
    /// What clients were told, by request.
    pub answers: BTreeMap<String, String>,
    pub links: BTreeMap<(NodeId, NodeId), VecDeque<Letter>>,
    cut: BTreeSet<(NodeId, NodeId)>,
    pub next: VecDeque<Next>,
    pub requests: BTreeMap<Ticket, String>,
    tickets: u64,
    seed: u64,
}

impl Cluster {
    /// `voters` nodes with blank disks, numbered from 1, and learners after them.
    pub fn new(voters: u64, learners: u64, seed: u64, configure: impl Fn(&mut ServerConfig)) -> Self {
        let membership = Membership {
            learners: (voters + 1..=voters + learners).map(NodeId).collect(),
            ..Membership::of_voters((1..=voters).map(NodeId))
        };
        let mut cluster = Cluster {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            checker: Checker::new(membership.clone()),
            membership,
            latency: Duration::from_millis(1),
            detail: Detail::Nothing,
            story: Vec::new(),
            traffic: BTreeMap::new(),
            answers: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            next: VecDeque::new(),
            requests: BTreeMap::new(),
            tickets: 0,
            seed,
        };
        for id in cluster.membership.members() {
            let mut config = ServerConfig::new(id, ELECTION_TIMEOUT, HEARTBEAT_INTERVAL);
            configure(&mut config);
            let node = Node {
                config,
                server: None,
                log: Shelf::default(),
                disk: Disk::default(),
                machine: Vec::new(),
                applied: Index(0),
                forgetful: false,
                boots: 0,
                waiting: BTreeMap::new(),
            };
            cluster.nodes.insert(id, node);
            cluster.restart(id);
        }
        cluster
    }

    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).unwrap_or_else(|| panic!("there is no {}", words::node(id)))
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no {}", words::node(id)))
    }

    pub fn server(&self, id: NodeId) -> &Server {
        self.node(id).server.as_ref().unwrap_or_else(|| panic!("{} is down", words::node(id)))
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.values().filter_map(|node| node.server.as_ref())
    }

    /// The leader of the highest term that has one.
    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.running().filter(|server| server.role() == Role::Leader);
        leaders.max_by_key(|server| server.term()).map(Server::id)
    }

    pub fn tell(&mut self, detail: Detail, line: impl FnOnce() -> String) {
        if detail <= self.detail {
            self.story.push(line());
        }
    }

    // Starting and stopping.

    /// Starts a node from what its disk holds.
    pub fn restart(&mut self, id: NodeId) {
        let (now, seed, membership) = (self.now, self.seed, self.membership.clone());
        let node = self.node_mut(id);
        assert!(node.server.is_none(), "{} runs already", words::node(id));
        node.boots += 1;
        let disk = &node.disk;
        let covered = disk.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        let mut log = disk.log.clone();
        match &disk.snapshot {
            Some(snapshot) if log.last() < covered => log = Shelf::after(snapshot),
            Some(_) => log.compact(covered),
            None => {}
        }
        let base = disk.snapshot.as_ref().map_or_else(Default::default, |snapshot| (snapshot.index, snapshot.term));
        let mut remembered = Remembered {
            hard_state: disk.hard_state,
            snapshot: disk.snapshot.clone(),
            base,
            membership,
            ..Remembered::default()
        };
        log.from(covered.next()).iter().for_each(|header| remembered.append(header));
        let seed = seed.wrapping_mul(0x0001_0000_01b3).wrapping_add(id.0 * 1000 + node.boots);
        node.server = Some(Server::new(node.config.clone(), remembered, seed, now));
        node.disk.log = log.clone();
        node.log = log;
        node.applied = covered;
        self.checker.restarted(id, &self.nodes[&id].disk);
        self.node_mut(id).machine = self.checker.names(covered);
    }

    /// Starts a node again with this log and hard state on its disk, as if it had lived before.
    pub fn begin_with(&mut self, id: NodeId, term: Term, vote: Option<NodeId>, terms: &[u64]) {
        let entries = self.checker.imagine(terms, Index(0));
        let hard_state = HardState { term, vote };
        self.checker.remember(id, hard_state);
        let node = self.node_mut(id);
        node.server = None;
        node.disk = Disk { hard_state, ..Disk::default() };
        node.disk.log.append(&entries);
        self.restart(id);
    }

    /// A crash, and the disk is blank: the node comes back, but neither votes nor counts. Nothing of its earlier life arrives.
    pub fn rejoin(&mut self, id: NodeId) {
        self.node_mut(id).config.abstains = true;
        self.wipe(id);
    }

    /// A crash, and the node kept nothing, which its peers notice before they say anything to it.
    pub fn forget(&mut self, id: NodeId) {
        self.wipe(id);
        self.node_mut(id).forgetful = true;
        self.event(id, Event::Forgot);
    }

    fn wipe(&mut self, id: NodeId) {
        if self.node(id).server.is_some() {
            self.crash(id);
        }
        self.links.retain(|link, _| link.0 != id && link.1 != id);
        self.checker.wiped(id);
        let node = self.node_mut(id);
        node.disk = Disk { latency: node.disk.latency, ..Disk::default() };
        self.restart(id);
    }

    /// A crash: everything is lost but what the disk has written. Its connections break, which its peers notice.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.server = None;
        node.disk.writes.clear();
        let waiting = std::mem::take(&mut node.waiting);
        for waiter in waiting.into_values().flatten() {
            match waiter {
                Waiter::Write { name, .. } => self.answer(id, &name, "outcome unknown, the node is gone"),
                Waiter::Read { name } => self.answer(id, &name, "the node is gone"),
            }
        }
        for peer in self.ids() {
            if peer != id {
                self.event(peer, Event::Unreachable { peer: id });
            }
        }
    }

    // Links.

    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Only nodes of one group hear each other.
    pub fn partition(&mut self, groups: &[Vec<NodeId>]) {
        for from in self.ids() {
            for to in self.ids() {
                if !groups.iter().any(|group| group.contains(&from) && group.contains(&to)) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The links that have messages under way.
    pub fn busy_links(&self) -> Vec<(NodeId, NodeId)> {
        self.links.iter().filter(|(_, letters)| !letters.is_empty()).map(|(&link, _)| link).collect()
    }

    pub fn under_way(&self, from: NodeId, to: NodeId) -> usize {
        self.links.get(&(from, to)).map_or(0, VecDeque::len)
    }

    /// The first message of a link arrives. False if there is none.
    pub fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(letter) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        if self.cut.contains(&(from, to)) || self.nodes.get(&to).is_none_or(|node| node.server.is_none()) {
            self.lose(from, to, letter.message);
        } else {
            self.event(to, Event::Receive { from, message: letter.message });
        }
        true
    }

    /// The first message of a link gets lost. False if there is none.
    pub fn drop_first(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(letter) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        self.lose(from, to, letter.message);
        true
    }

    fn lose(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.tell(Detail::Words, || {
            format!("lost: {} → {}: {}", words::node(from), words::node(to), words::message(&message))
        });
        // A snapshot travels on its own connection: its sender notices.
        if matches!(message.body, MessageBody::InstallSnapshot { .. }) {
            self.event(from, Event::Unreachable { peer: to });
        }
    }

    /// The first message of a link will arrive twice.
    pub fn duplicate(&mut self, from: NodeId, to: NodeId) {
        if let Some(letters) = self.links.get_mut(&(from, to))
            && let Some(first) = letters.front()
        {
            let (message, arrives) = (first.message.clone(), first.arrives);
            letters.push_back(Letter { message, arrives });
        }
    }

    /// The first message of a link becomes its last.
    pub fn delay(&mut self, from: NodeId, to: NodeId) {
        if let Some(letters) = self.links.get_mut(&(from, to)) {
            letters.rotate_left(usize::from(!letters.is_empty()));
        }
    }

    /// A message as if `from` had sent it, whoever that may be.
    pub fn forge(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.event(to, Event::Receive { from, message });
    }

    // Clients.

    /// Clients propose these commands, of `size` bytes each, all at once.
    pub fn propose(&mut self, to: NodeId, names: &[String], size: u32) {
        let proposals = names.iter().map(|name| {
            self.tickets += 1;
            self.requests.insert(Ticket(self.tickets), name.clone());
            Proposal { ticket: Ticket(self.tickets), size, session: None }
        });
        let proposals: Vec<_> = proposals.collect();
        self.event(to, Event::Propose(proposals));
    }

    /// Clients read.
    pub fn read(&mut self, at: NodeId, names: &[String]) {
        let tickets = names.iter().map(|name| {
            self.tickets += 1;
            self.requests.insert(Ticket(self.tickets), name.clone());
            self.checker.read_begins(Ticket(self.tickets));
            Ticket(self.tickets)
        });
        let tickets = tickets.collect();
        self.event(at, Event::Read(tickets));
    }

    pub fn answer(&mut self, by: NodeId, name: &str, answer: &str) {
        self.tell(Detail::Deeds, || format!("{} answers {name}: {answer}", words::node(by)));
        let before = self.answers.insert(name.to_owned(), answer.to_owned());
        assert_eq!(before, None, "{name} is answered once");
    }

    // Disks.

    /// The disk finishes its oldest write. False if there is none.
    pub fn finish_write(&mut self, id: NodeId) -> bool {
        let Some(write) = self.node_mut(id).disk.writes.pop_front() else { return false };
        let token = write.persist.token;
        self.checker.written(id, self.nodes.get_mut(&id).expect("it exists"), &write.persist, &write.entries);
        self.event(id, Event::Persisted { token });
        true
    }

    /// The disk has no room for anything more, and the node learns so.
    pub fn disk_full(&mut self, id: NodeId) {
        self.node_mut(id).disk.held = true;
        self.event(id, Event::DiskFull);
    }

    /// There is space on the disk again, and the node learns so.
    pub fn disk_freed(&mut self, id: NodeId) {
        self.node_mut(id).disk.held = false;
        self.event(id, Event::DiskFreed);
    }

    /// The node's state machine has its state up to `upto` in a snapshot, and its log keeps what comes after `keep`.
    pub fn compact(&mut self, id: NodeId, upto: Index, keep: Index) {
        assert!(upto <= self.node(id).applied, "{} has not applied {upto}", words::node(id));
        let membership = self.membership.clone();
        let node = self.node_mut(id);
        let header = node.log.get(upto).expect("the log has the entry");
        let snapshot = SnapshotMeta { index: upto, term: header.term, time: header.time, membership };
        node.disk.snapshot = Some(snapshot.clone());
        node.disk.log.compact(keep);
        node.log.compact(keep);
        self.event(id, Event::SnapshotTaken { snapshot, keep_from: keep.next() });
    }

    // Time.

    /// What happens next by itself, and when.
    fn next_happening(&self) -> Option<(Duration, Happening)> {
        let letters = self.links.iter().filter_map(|(&(from, to), letters)| {
            letters.front().map(|letter| (letter.arrives, Happening::Arrives(from, to)))
        });
        let running = self.nodes.iter().filter(|(_, node)| node.server.is_some());
        let disks = running.clone().filter_map(|(&id, node)| {
            node.disk.writes.front().filter(|_| !node.disk.held).map(|write| (write.done, Happening::Written(id)))
        });
        let clocks = running.filter_map(|(&id, node)| {
            let server = node.server.as_ref()?;
            let deadlines = [server.election_deadline(), server.heartbeat_deadline()];
            deadlines.into_iter().flatten().min().map(|deadline| (deadline, Happening::Clock(id)))
        });
        letters.chain(disks).chain(clocks).map(|(at, what)| (at.max(self.now), what)).min()
    }

    /// Lets everything happen by itself until `end`, or until `enough`.
    pub fn run_until(&mut self, end: Duration, enough: impl Fn(&Cluster) -> bool) -> bool {
        let mut at_once = 0;
        while !enough(self) {
            let Some((at, what)) = self.next_happening().filter(|(at, _)| *at <= end) else {
                self.now = self.now.max(end);
                return enough(self);
            };
            at_once = if at == self.now { at_once + 1 } else { 0 };
            assert!(at_once < 10_000, "the cluster spins: {what:?} happens again and again while time stands still");
            self.now = at;
            match what {
                Happening::Arrives(from, to) => {
                    self.deliver(from, to);
                }
                Happening::Written(id) => {
                    self.finish_write(id);
                }
                Happening::Clock(id) => self.event(id, Event::Tick),
            }
        }
        true
    }

    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    /// Delivers until no message is under way, while time stands still.
    pub fn stabilize(&mut self) {
        for hop in 0.. {
            let links = self.busy_links();
            if links.is_empty() {
                return;
            }
            assert!(hop < 100_000, "the cluster never comes to rest");
            for (from, to) in links {
                self.deliver(from, to);
            }
        }
    }
}

/// What can happen by itself. Of what happens at the same time, messages come first, then disks, then clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives(NodeId, NodeId),
    Written(NodeId),
    Clock(NodeId),
}
