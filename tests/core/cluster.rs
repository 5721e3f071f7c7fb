//! A deterministic cluster: servers, the links between them, a disk and a state machine each, and virtual time. It plays
//! the driver's part for every server, and lets the [`Checker`] look after every single event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft::consensus::{
    AppendEntries, Effect, EntryKind, Event, HardState, Index, Membership, Message, MessageBody, NodeId, Persist,
    Proposal, Remembered, Role, Server, ServerConfig, SnapshotMeta, Term, Ticket,
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
    boots: u64,
    waiting: BTreeMap<Index, Vec<Waiter>>,
}

/// What waits for an index to be applied.
enum Waiter {
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
    persist: Persist,
    entries: Vec<raft::consensus::EntryHeader>,
    done: Duration,
}

/// A message under way.
struct Letter {
    message: Message,
    arrives: Duration,
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
enum Next {
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
    links: BTreeMap<(NodeId, NodeId), VecDeque<Letter>>,
    cut: BTreeSet<(NodeId, NodeId)>,
    next: VecDeque<Next>,
    requests: BTreeMap<Ticket, (String, u32)>,
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
        let entries: Vec<_> =
            (1..).zip(terms).map(|(index, &term)| Checker::past_entry(Index(index), Term(term))).collect();
        let hard_state = HardState { term, vote };
        self.checker.remember(id, hard_state, &entries);
        let node = self.node_mut(id);
        node.server = None;
        node.disk = Disk { hard_state, ..Disk::default() };
        node.disk.log.append(&entries);
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
            self.requests.insert(Ticket(self.tickets), (name.clone(), size));
            Proposal { ticket: Ticket(self.tickets), size, session: None }
        });
        let proposals: Vec<_> = proposals.collect();
        self.event(to, Event::Propose(proposals));
    }

    /// Clients read.
    pub fn read(&mut self, at: NodeId, names: &[String]) {
        let tickets = names.iter().map(|name| {
            self.tickets += 1;
            self.requests.insert(Ticket(self.tickets), (name.clone(), 0));
            self.checker.read_begins(Ticket(self.tickets));
            Ticket(self.tickets)
        });
        let tickets = tickets.collect();
        self.event(at, Event::Read(tickets));
    }

    fn answer(&mut self, by: NodeId, name: &str, answer: &str) {
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

    // The driver's part.

    /// A node takes an event, and everything that follows at once.
    pub fn event(&mut self, id: NodeId, event: Event) {
        self.next.push_back(Next::Event(id, event));
        while let Some(next) = self.next.pop_front() {
            match next {
                Next::Event(id, event) => self.handle(id, event),
                Next::WritesDone(id) => {
                    let node = self.node(id);
                    if !node.disk.held && node.disk.latency.is_zero() && node.server.is_some() {
                        while self.finish_write(id) {}
                    }
                }
            }
        }
    }

    fn handle(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(server) = &mut node.server else { return };
        self.checker.before(server, &node.log);
        let mut effects = Vec::new();
        server.handle(now, event.clone(), &mut effects);

        let mut proposed = match &event {
            Event::Propose(proposals) => proposals.iter().map(|proposal| proposal.ticket).collect(),
            _ => VecDeque::new(),
        };
        let mut effects = effects.into_iter().peekable();
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Send { to, message } => {
                    let mut receivers = vec![to];
                    while let Some(Effect::Send { to, .. }) =
                        effects.next_if(|next| matches!(next, Effect::Send { message: same, .. } if *same == message))
                    {
                        receivers.push(to);
                    }
                    self.send(id, &receivers, message);
                }
                effect => self.carry_out(id, effect, &mut proposed),
            }
        }
        self.checker.after(id, &event, &self.nodes);
        self.next.push_back(Next::WritesDone(id));
    }

    fn send(&mut self, from: NodeId, to: &[NodeId], message: Message) {
        self.tell(Detail::Words, || {
            let to: Vec<_> = to.iter().map(|&to| words::node(to)).collect();
            format!("{} → {}: {}", words::node(from), to.join(", "), words::message(&message))
        });
        self.checker.sent(from, &self.nodes[&from], &message);
        for &to in to {
            let traffic = self.traffic.entry((from, to)).or_default();
            traffic.messages += 1;
            traffic.rejections += u64::from(matches!(message.body, MessageBody::AppendRejected { .. }));
            if let MessageBody::AppendEntries(AppendEntries { entries, .. }) = &message.body {
                traffic.appends += u64::from(!entries.is_empty());
                traffic.entries += entries.len() as u64;
                traffic.bytes += entries.iter().map(|entry| u64::from(entry.size)).sum::<u64>();
            }
            let arrives = self.now + self.latency;
            self.links.entry((from, to)).or_default().push_back(Letter { message: message.clone(), arrives });
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect, proposed: &mut VecDeque<Ticket>) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        match effect {
            Effect::Send { .. } => unreachable!("sent together with others"),
            Effect::Append { entries } => {
                let leads = node.server.as_ref().is_some_and(|server| server.role() == Role::Leader);
                node.log.append(&entries);
                for entry in &entries {
                    if leads && entry.kind == EntryKind::Command {
                        let ticket = proposed.pop_front().expect("the command was proposed");
                        let (name, _) = self.requests.get(&ticket).expect("the ticket is known").clone();
                        self.checker.named(entry, &name);
                        let waiter = Waiter::Write { term: entry.term, name };
                        node.waiting.entry(entry.index).or_default().push(waiter);
                    }
                }
                self.checker.appended(&entries, leads, &node.log);
                self.tell(Detail::Words, || format!("{} appends {}", words::node(id), words::entries(&entries)));
            }
            Effect::Truncate { from } => {
                self.checker.truncated(id, from, node);
                let last = node.log.last();
                node.log.truncate(from);
                let lost = node.waiting.split_off(&from);
                self.tell(Detail::Deeds, || format!("{} removes {}", words::node(id), words::range(from, last)));
                for (index, waiter) in
                    lost.into_iter().flat_map(|(index, all)| all.into_iter().map(move |one| (index, one)))
                {
                    match waiter {
                        Waiter::Write { name, .. } => self.answer(id, &name, "outcome unknown, it was overwritten"),
                        // A read waits for an index, whatever will be there.
                        Waiter::Read { name } => self.await_read(id, index, name),
                    }
                }
            }
            Effect::Persist(persist) => {
                let entries = persist.append.map_or(Vec::new(), |(first, last)| node.log.range(first, last).to_vec());
                let begins = node.disk.writes.back().map_or(self.now, |before| before.done.max(self.now));
                let write = Write { persist, entries, done: begins + node.disk.latency };
                let told = (node.disk.held || !node.disk.latency.is_zero()).then(|| describe(&write));
                node.disk.writes.push_back(write);
                if let Some(what) = told {
                    self.tell(Detail::Words, || format!("{} begins to write {what}", words::node(id)));
                }
            }
            Effect::SendEntries { to, term, append, first, last } => {
                let entries = node.log.range(first, last).to_vec();
                let body = MessageBody::AppendEntries(AppendEntries { entries, ..append });
                self.send(id, &[to], Message { term, body });
            }
            Effect::SendSnapshot { to, at_least } => {
                let snapshot = node.disk.snapshot.clone().expect("what is not in the log is in a snapshot");
                assert!(snapshot.index >= at_least, "the newest snapshot covers enough");
                let term = node.server.as_ref().map(Server::term).unwrap_or_default();
                self.send(id, &[to], Message { term, body: MessageBody::InstallSnapshot { snapshot } });
            }
            Effect::InstallSnapshot { snapshot } => {
                self.checker.installed(id, &snapshot, node);
                node.log = Shelf::after(&snapshot);
                node.applied = snapshot.index;
                node.machine = self.checker.names(snapshot.index);
                let what = words::at(snapshot.index, snapshot.term);
                self.tell(Detail::Deeds, || format!("{} installs the snapshot up to {what}", words::node(id)));
                self.serve(id, Index(0));
            }
            Effect::Commit { index } => self.apply(id, index),
            Effect::ReadReady { ticket, index } => {
                self.checker.read_confirmed(ticket, index);
                let (name, _) = self.requests.get(&ticket).expect("the ticket is known").clone();
                self.await_read(id, index, name);
            }
            Effect::Reject { ticket, reason } => {
                let (name, _) = self.requests.get(&ticket).expect("the ticket is known").clone();
                self.answer(id, &name, &format!("rejected, {reason:?}"));
            }
            Effect::RoleChanged { role, term, leader, reason } => {
                self.tell(Detail::Deeds, || words::role(id, role, term, leader, reason));
            }
            Effect::Refused { from, reason } => {
                self.checker.refusals += 1;
                self.tell(Detail::Deeds, || format!("{} refuses: {} {reason}", words::node(id), words::node(from)));
            }
            Effect::TransferEnded { to, outcome } => self.tell(Detail::Deeds, || {
                let to = to.map_or("another node".to_owned(), words::node);
                let outcome = outcome.map_or_else(|reason| format!("failed, {reason}"), |()| "done".to_owned());
                format!("{}'s transfer to {to}: {outcome}", words::node(id))
            }),
            Effect::Fail(violation) => panic!("{}: {violation}", words::node(id)),
        }
    }

    fn apply(&mut self, id: NodeId, upto: Index) {
        self.checker.committed(id, upto, &self.nodes);
        let node = self.nodes.get_mut(&id).expect("it has a server");
        let first = node.applied.next();
        let mut names = Vec::new();
        while node.applied < upto {
            let entry = node.log.get(node.applied.next()).expect("what is committed is in the log");
            let name = self.checker.name_of(entry);
            node.applied = entry.index;
            names.push(name.unwrap_or("-").to_owned());
            node.machine.extend(name.map(str::to_owned));
        }
        if first <= upto {
            self.tell(Detail::Deeds, || {
                format!("{} commits {}: {}", words::node(id), words::range(first, upto), names.join(" "))
            });
        }
        self.serve(id, first);
    }

    /// Answers whoever waited for what is applied now, and tells the server.
    fn serve(&mut self, id: NodeId, first: Index) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        let applied = node.applied;
        let later = node.waiting.split_off(&applied.next());
        let due = std::mem::replace(&mut node.waiting, later);
        for (index, waiters) in due {
            let term = self.node(id).log.term_at(index).filter(|_| index >= first && first > Index(0));
            for waiter in waiters {
                match waiter {
                    Waiter::Write { term: own, name } if term == Some(own) => {
                        self.checker.acknowledged(index, &name);
                        self.answer(id, &name, "done");
                    }
                    Waiter::Write { name, .. } => self.answer(id, &name, "outcome unknown, a snapshot covers it"),
                    Waiter::Read { name } => self.await_read(id, index, name),
                }
            }
        }
        self.next.push_back(Next::Event(id, Event::Applied { index: applied }));
    }

    fn await_read(&mut self, id: NodeId, index: Index, name: String) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        if node.applied < index {
            node.waiting.entry(index).or_default().push(Waiter::Read { name });
        } else {
            let state = node.machine.last().map_or("nothing yet".to_owned(), |last| format!("all up to {last}"));
            self.answer(id, &name, &state);
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

fn describe(write: &Write) -> String {
    let Persist { token, hard_state, snapshot, truncate_from, append } = &write.persist;
    let vote = |vote: Option<NodeId>| vote.map_or("no vote".to_owned(), |vote| format!("vote {}", words::node(vote)));
    let parts = [
        hard_state.map(|hard| format!("term {} with {}", hard.term, vote(hard.vote))),
        snapshot.as_ref().map(|snapshot| format!("the snapshot up to {}", snapshot.index)),
        truncate_from.map(|from| format!("the removal from {from} on")),
        append.map(|_| words::entries(&write.entries)),
    ];
    format!("#{token}: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
