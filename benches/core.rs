//! What the protocol itself costs: entries per second through a leader and two followers, in one thread, with neither disk nor
//! network nor payloads. `cargo bench --bench core` prints it for batches of several sizes; with `-- --test` each runs for a blink.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use raft::consensus::{
    Effect, EntryHeader, Event, Index, Membership, Message, MessageBody, NodeId, Proposal, Remembered, Role, Server,
    ServerConfig, Ticket,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const LEADER: NodeId = NODES[0];
const ELECTION_TIMEOUT: Duration = Duration::from_millis(100);
const PAYLOAD_BYTES: u32 = 256;

/// Three servers, whose disks and links take no time.
struct Cluster {
    servers: BTreeMap<NodeId, Server>,
    now: Duration,
    /// Events that have yet to be handled, in order.
    events: VecDeque<(NodeId, Event)>,
    /// The leader's log from the first entry on that has not been committed by all.
    log: VecDeque<EntryHeader>,
    messages: u64,
}

impl Cluster {
    /// The servers, the first of which leads.
    fn new() -> Self {
        let membership = Membership::of_voters(NODES);
        let server = |id: NodeId| {
            let config = ServerConfig::new(id, ELECTION_TIMEOUT, ELECTION_TIMEOUT / 5);
            let remembered = Remembered { membership: membership.clone(), ..Remembered::default() };
            (id, Server::new(config, remembered, id.0, Duration::ZERO))
        };
        let servers = NODES.into_iter().map(server).collect();
        let (events, log) = (VecDeque::new(), VecDeque::new());
        let mut cluster = Cluster { servers, now: 2 * ELECTION_TIMEOUT, events, log, messages: 0 };
        cluster.events.push_back((LEADER, Event::Tick));
        cluster.run();
        assert_eq!(cluster.servers[&LEADER].role(), Role::Leader);
        cluster
    }

    /// Puts so many entries through the log, together.
    fn replicate(&mut self, count: u64) {
        let proposal = |ticket| Proposal { ticket: Ticket(ticket), size: PAYLOAD_BYTES, session: None };
        let before = self.servers[&LEADER].commit();
        self.events.push_back((LEADER, Event::Propose((0..count).map(proposal).collect())));
        self.run();
        assert_eq!(self.servers[&LEADER].commit(), Index(before.0 + count), "all are committed");
    }

    /// Until nothing is left to do.
    fn run(&mut self) {
        let mut effects = Vec::new();
        while let Some((id, event)) = self.events.pop_front() {
            self.servers.get_mut(&id).expect("a node").handle(self.now, event, &mut effects);
            effects.drain(..).for_each(|effect| self.carry_out(id, effect));
        }
        let everywhere = self.servers.values().map(|server| server.last_index()).min().expect("a node");
        while self.log.pop_front_if(|entry| entry.index <= everywhere).is_some() {}
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Append { entries } if id == LEADER => self.log.extend(entries),
            Effect::Persist(persist) => self.events.push_back((id, Event::Persisted { token: persist.token })),
            Effect::Commit { index } => self.events.push_back((id, Event::Applied { index })),
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::SendEntries { to, term, mut append, first, last } => {
                let start = self.log.front().map_or(first, |entry| entry.index);
                let range = (first.0 - start.0) as usize..=(last.0 - start.0) as usize;
                append.entries.extend(self.log.range(range).cloned());
                self.send(id, to, Message { term, body: MessageBody::AppendEntries(append) });
            }
            Effect::Append { .. } | Effect::RoleChanged { .. } => {}
            unexpected => panic!("{id}: {unexpected:?}"),
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.messages += 1;
        self.events.push_back((to, Event::Receive { from, message }));
    }
}

/// Prints a line of the table for batches of so many entries, measured for so long.
fn measure(batch: u64, time: Duration) {
    let mut cluster = Cluster::new();
    let (began, before, mut entries) = (Instant::now(), cluster.messages, 0);
    while began.elapsed() < time {
        cluster.replicate(batch);
        entries += batch;
    }
    let seconds = began.elapsed().as_secs_f64();
    let messages = (cluster.messages - before) as f64 / (entries / batch) as f64;
    println!("| {batch} | {:.0} | {:.0} | {messages:.1} |", entries as f64 / seconds, seconds * 1e9 / entries as f64);
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let time = if is_test { Duration::from_millis(1) } else { Duration::from_secs(2) };
    println!("| batch | entries / s | ns / entry | messages / batch |");
    println!("| ---: | ---: | ---: | ---: |");
    [1, 64, 256, 4096].into_iter().for_each(|batch| measure(batch, time));
}
