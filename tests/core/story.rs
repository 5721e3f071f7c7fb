//! The language of the scripts: a cluster, and what one can do to it.
//!
//! Nothing happens by itself but what a node does at once: its disk writes without delay unless it is held, its state
//! machine applies what is committed. Messages wait to be delivered, clocks wait for `timeout`, `heartbeat` or `run`.
//! Every message is told when it is sent; while `run` or `stabilize` go on, only deeds are told.

use std::error::Error;
use std::time::Duration;

use goldenscript::Context;
use raft::consensus::{
    AppendEntries, EntryHeader, EntryKind, Event, Index, LogTime, Membership, Message, MessageBody, NodeId, Role,
    SnapshotMeta, Term,
};

use crate::cluster::{Cluster, Detail};
use crate::words;

/// What a script can say. `n` is a node's number; `a=1 b=2` are named arguments.
#[derive(goldenscript::Command)]
pub enum Command {
    /// `cluster 3 learners=1 prevote=false`: blank nodes, and what is special about them.
    Cluster {
        voters: u64,
        #[arg(key)]
        learners: Option<u64>,
        #[arg(key)]
        prevote: Option<bool>,
        #[arg(key)]
        checkquorum: Option<bool>,
        /// Most requests under way to a peer.
        #[arg(key)]
        window: Option<usize>,
        /// Most bytes of entries in a request.
        #[arg(key)]
        batch: Option<u64>,
        /// Most bytes waiting to be committed and applied.
        #[arg(key)]
        pending: Option<u64>,
        /// Milliseconds between two appends to a peer.
        #[arg(key)]
        interval: Option<u64>,
    },
    /// `start n term=5 vote=1 log="1 1 4"`: the node's disk holds this, and it starts anew.
    Start {
        node: u64,
        #[arg(key)]
        term: Option<u64>,
        #[arg(key)]
        vote: Option<u64>,
        #[arg(key)]
        log: Option<String>,
        #[arg(key)]
        prevote: Option<bool>,
        #[arg(key)]
        checkquorum: Option<bool>,
    },

    /// `imagine log="1 2 2" committed=2`: somewhere else there was a leader with this log, and committed so much of it.
    Imagine {
        #[arg(key)]
        log: String,
        #[arg(key)]
        committed: Option<u64>,
    },

    /// `timeout n`: time moves to the end of its election timeout, and its clock fires.
    Timeout(u64),
    /// `heartbeat n`: time moves to its next heartbeat, and its clock fires.
    Heartbeat(u64),
    /// `wait ms`: time passes, and nothing else happens.
    Wait(u64),
    /// `run ms`: time passes, and everything happens by itself.
    Run(u64),
    /// `elect n`: the node's election timeout ends, and everything that follows happens at once.
    Elect(u64),

    /// `deliver`, `deliver 1 to=2`: every message under way when the command begins arrives; one hop.
    Deliver {
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
    },
    /// `drop 1 to=2`: every message under way is lost.
    Drop {
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
    },
    /// `duplicate 1 to=2`: the first message will arrive twice, the second time after all others.
    Duplicate {
        from: u64,
        #[arg(key)]
        to: u64,
    },
    /// `delay 1 to=2`: the first message is overtaken by all others.
    Delay {
        from: u64,
        #[arg(key)]
        to: u64,
    },
    /// `stabilize`: messages are delivered until none is under way, while time stands still.
    Stabilize,
    /// `partition "1 2" "3 4 5"`: only nodes of one group hear each other.
    Partition(Vec<String>),
    /// `cut 1 to=2`: what 1 says to 2 is lost.
    Cut {
        from: u64,
        #[arg(key)]
        to: u64,
    },
    /// `heal`: everybody hears everybody again.
    Heal,

    /// `propose n a b`: clients of n propose commands a and b at once.
    Propose {
        node: u64,
        names: Vec<String>,
        #[arg(key)]
        size: Option<u32>,
    },
    /// `read n x y`: clients of n read, and call the reads x and y.
    Read {
        node: u64,
        names: Vec<String>,
    },
    /// `transfer n to=2`: n is asked to hand leadership over.
    Transfer {
        node: u64,
        #[arg(key)]
        to: Option<u64>,
    },

    /// `hold n`: its disk finishes no write until told to.
    Hold(u64),
    /// `persist n`, `persist n 1`: its disk finishes all writes, or so many, and stays held.
    Persist {
        node: u64,
        count: Option<usize>,
    },
    /// `release n`: its disk is no longer held.
    Release(u64),
    /// `crash n`: it loses everything that its disk has not written.
    Crash(u64),
    /// `restart n`
    Restart(u64),
    /// `rejoin n`: it crashes, its disk is wiped, and it comes back to receive the log: it neither votes nor counts.
    Rejoin(u64),
    /// `compact n 10 keep=2`: a snapshot covers everything up to 10; the log keeps the last two entries before.
    Compact {
        node: u64,
        upto: u64,
        #[arg(key)]
        keep: Option<u64>,
    },
    /// `forget n`: it crashes, and comes back blank: its peers know that, so it abstains until it has caught up.
    Forget(u64),
    /// `full n`: n's disk is full, and n knows it; `freed n`: there is space again, and what waited for it is written.
    Full(u64),
    /// Something falls due in the node's state machine at this log time; without one, nothing does any more.
    Due {
        node: u64,
        ms: Option<u64>,
    },
    Freed(u64),
    /// `unreachable n peer=2`: n learns that messages to 2 were lost.
    Unreachable {
        node: u64,
        #[arg(key)]
        peer: u64,
    },
    /// `send 9 append to=1 term=2 prev=3@1 entries="4@1 5@1" commit=3`: a message out of nowhere.
    Send {
        from: u64,
        what: String,
        #[arg(key)]
        to: u64,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        last: Option<String>,
        #[arg(key)]
        prev: Option<String>,
        #[arg(key)]
        entries: Option<String>,
        #[arg(key)]
        commit: Option<u64>,
        #[arg(key)]
        matched: Option<u64>,
        #[arg(key)]
        hint: Option<String>,
        #[arg(key)]
        round: Option<u64>,
    },

    /// `status`: every node in a line.
    Status,
    /// `peers n`: how a leader sees its peers.
    Peers(u64),
    /// `logs`: the terms of every log.
    Logs,
    /// `expect leader 2`, `expect term 1=2`, `expect commit 1=5 2=4`, `expect log 4="1 1 2"`, ...: the script fails otherwise.
    Expect(#[arg(pos)] Vec<String>, #[arg(key, many, optional)] Vec<(String, String)>),
}

/// Tells one script.
#[derive(Default)]
pub struct Story {
    cluster: Option<Cluster>,
}

type Told<T> = Result<T, Box<dyn Error>>;

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Told<String> {
        if let Command::Cluster { voters, learners, prevote, checkquorum, window, batch, pending, interval } = command {
            let cluster = Cluster::new(*voters, learners.unwrap_or(0), 1, |config| {
                config.pre_vote = prevote.unwrap_or(true);
                config.check_quorum = checkquorum.unwrap_or(true);
                config.max_inflight_requests = window.unwrap_or(config.max_inflight_requests);
                config.max_batch_bytes = batch.unwrap_or(config.max_batch_bytes);
                config.max_pending_bytes = pending.unwrap_or(config.max_pending_bytes);
                config.min_replication_interval = Duration::from_millis(interval.unwrap_or(0));
            });
            self.cluster = Some(cluster);
            return Ok(String::new());
        }
        let cluster = self.cluster.as_mut().ok_or("a story begins with `cluster`")?;
        cluster.detail = match command {
            Command::Run(_) | Command::Stabilize | Command::Elect(_) => Detail::Deeds,
            _ => Detail::Words,
        };
        act(cluster, command)?;
        Ok(std::mem::take(&mut cluster.story).join("\n"))
    }
}

fn act(cluster: &mut Cluster, command: &Command) -> Told<()> {
    match command {
        Command::Cluster { .. } => {}
        Command::Start { node, term, vote, log, prevote, checkquorum } => {
            let terms: Vec<u64> =
                log.iter().flat_map(|log| log.split(' ')).map(str::parse).collect::<Result<_, _>>()?;
            let config = &mut cluster.node_mut(NodeId(*node)).config;
            config.pre_vote = prevote.unwrap_or(config.pre_vote);
            config.check_quorum = checkquorum.unwrap_or(config.check_quorum);
            let term = term.or(terms.last().copied()).unwrap_or(0);
            cluster.begin_with(NodeId(*node), Term(term), vote.map(NodeId), &terms);
        }
        Command::Imagine { log, committed } => {
            cluster.checker.imagine(&terms(log)?, Index(committed.unwrap_or(0)));
        }
        Command::Timeout(node) => {
            let deadline = cluster.server(NodeId(*node)).election_deadline().ok_or("it leads")?;
            fire(cluster, NodeId(*node), deadline);
        }
        Command::Heartbeat(node) => {
            let deadline = cluster.server(NodeId(*node)).heartbeat_deadline().ok_or("it does not lead")?;
            fire(cluster, NodeId(*node), deadline);
        }
        Command::Wait(ms) => cluster.now += Duration::from_millis(*ms),
        Command::Run(ms) => cluster.run(Duration::from_millis(*ms)),
        Command::Elect(node) => {
            let deadline = cluster.server(NodeId(*node)).election_deadline().ok_or("it leads already")?;
            fire(cluster, NodeId(*node), deadline);
            cluster.stabilize();
        }
        Command::Deliver { from, to } => {
            let links: Vec<_> = chosen(cluster, *from, *to);
            let under_way: Vec<_> = links.into_iter().map(|link| (link, cluster.under_way(link.0, link.1))).collect();
            for ((from, to), count) in under_way {
                (0..count).for_each(|_| _ = cluster.deliver(from, to));
            }
        }
        Command::Drop { from, to } => {
            for (from, to) in chosen(cluster, *from, *to) {
                (0..cluster.under_way(from, to)).for_each(|_| _ = cluster.drop_first(from, to));
            }
        }
        Command::Duplicate { from, to } => cluster.duplicate(NodeId(*from), NodeId(*to)),
        Command::Delay { from, to } => cluster.delay(NodeId(*from), NodeId(*to)),
        Command::Stabilize => cluster.stabilize(),
        Command::Partition(groups) => {
            let groups: Vec<Vec<NodeId>> = groups.iter().map(|group| ids(group)).collect::<Told<_>>()?;
            cluster.heal();
            cluster.partition(&groups);
        }
        Command::Cut { from, to } => cluster.cut(NodeId(*from), NodeId(*to)),
        Command::Heal => cluster.heal(),
        Command::Propose { node, names, size } => cluster.propose(NodeId(*node), names, size.unwrap_or(10)),
        Command::Read { node, names } => cluster.read(NodeId(*node), names),
        Command::Transfer { node, to } => cluster.event(NodeId(*node), Event::Transfer { to: to.map(NodeId) }),
        Command::Hold(node) => cluster.node_mut(NodeId(*node)).disk.held = true,
        Command::Persist { node, count } => {
            for _ in 0..count.unwrap_or(usize::MAX) {
                if !cluster.finish_write(NodeId(*node)) {
                    break;
                }
            }
        }
        Command::Release(node) => {
            cluster.node_mut(NodeId(*node)).disk.held = false;
            while cluster.finish_write(NodeId(*node)) {}
        }
        Command::Forget(node) => cluster.forget(NodeId(*node)),
        Command::Full(node) => cluster.disk_full(NodeId(*node)),
        Command::Due { node, ms } => {
            cluster.event(NodeId(*node), Event::MachineDeadline { time: ms.map(LogTime) });
        }
        Command::Freed(node) => {
            cluster.disk_freed(NodeId(*node));
            while cluster.finish_write(NodeId(*node)) {}
        }
        Command::Crash(node) => cluster.crash(NodeId(*node)),
        Command::Restart(node) => cluster.restart(NodeId(*node)),
        Command::Rejoin(node) => cluster.rejoin(NodeId(*node)),
        Command::Compact { node, upto, keep } => {
            let kept = Index(upto.saturating_sub(keep.unwrap_or(0)));
            cluster.compact(NodeId(*node), Index(*upto), kept);
        }
        Command::Unreachable { node, peer } => {
            cluster.event(NodeId(*node), Event::Unreachable { peer: NodeId(*peer) });
        }
        Command::Send { from, to, term, .. } => {
            let message = Message { term: Term(*term), body: forged(command)? };
            cluster.forge(NodeId(*from), NodeId(*to), message);
        }
        Command::Status => status(cluster),
        Command::Peers(node) => {
            for peer in cluster.server(NodeId(*node)).status().peers {
                let (id, matched) = (words::node(peer.id), peer.matched);
                let abstains = if peer.abstains { ", abstains" } else { "" };
                cluster.story.push(format!("{id}: {}, has {matched}, next {}{abstains}", peer.state, peer.next));
            }
        }
        Command::Logs => {
            for id in cluster.ids() {
                let log = &cluster.node(id).log;
                let base = if log.base() > Index(0) { format!("(up to {}) ", log.base()) } else { String::new() };
                let line = format!("{}: {base}{}", words::node(id), log.terms());
                cluster.story.push(line.trim_end().to_owned());
            }
        }
        Command::Expect(what, values) => expect(cluster, what, values)?,
    }
    Ok(())
}

fn fire(cluster: &mut Cluster, node: NodeId, deadline: Duration) {
    cluster.now = cluster.now.max(deadline);
    cluster.event(node, Event::Tick);
}

fn chosen(cluster: &Cluster, from: Option<u64>, to: Option<u64>) -> Vec<(NodeId, NodeId)> {
    let is = |id: NodeId, wanted: Option<u64>| wanted.is_none_or(|wanted| wanted == id.0);
    cluster.busy_links().into_iter().filter(|link| is(link.0, from) && is(link.1, to)).collect()
}

fn terms(text: &str) -> Told<Vec<u64>> {
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

fn ids(text: &str) -> Told<Vec<NodeId>> {
    Ok(text.split_whitespace().map(|id| id.parse().map(NodeId)).collect::<Result<_, _>>()?)
}

fn at(text: &str) -> Told<(Index, Term)> {
    let (index, term) = text.split_once('@').ok_or("write index@term")?;
    Ok((Index(index.parse()?), Term(term.parse()?)))
}

fn forged(command: &Command) -> Told<MessageBody> {
    let Command::Send { what, last, prev, entries, commit, matched, hint, round, .. } = command else {
        return Err("not a message".into());
    };
    let place = |text: &Option<String>| text.as_deref().map_or(Ok(Default::default()), at);
    let ((last_index, last_term), (prev_index, prev_term)) = (place(last)?, place(prev)?);
    let (hint_index, hint_term) = place(hint)?;
    let (commit, matched, round) = (commit.unwrap_or(0), Index(matched.unwrap_or(0)), round.unwrap_or(0));
    Ok(match what.as_str() {
        "prevote" => MessageBody::RequestVote { pre: true, last_index, last_term, transfer: false },
        "vote" => MessageBody::RequestVote { pre: false, last_index, last_term, transfer: false },
        "prevote-granted" => MessageBody::RequestVoteResponse { pre: true, granted: true },
        "prevote-refused" => MessageBody::RequestVoteResponse { pre: true, granted: false },
        "granted" => MessageBody::RequestVoteResponse { pre: false, granted: true },
        "refused" => MessageBody::RequestVoteResponse { pre: false, granted: false },
        "append" => {
            let places = entries.iter().flat_map(|entries| entries.split(' ')).map(at).collect::<Told<Vec<_>>>()?;
            let header = |(index, term)| EntryHeader {
                index,
                term,
                kind: EntryKind::Command,
                time: LogTime(0),
                session: None,
                size: 10,
            };
            let entries = places.into_iter().map(header).collect();
            MessageBody::AppendEntries(AppendEntries { prev_index, prev_term, commit: Index(commit), round, entries })
        }
        "accepted" => MessageBody::AppendAccepted { matched, round, abstains: false },
        "rejected" => MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains: false },
        "snapshot" => {
            let (time, membership) = (LogTime(0), Membership::of_voters([1, 2, 3].map(NodeId)));
            MessageBody::InstallSnapshot {
                snapshot: SnapshotMeta { index: last_index, term: last_term, time, membership },
            }
        }
        "installed" => MessageBody::SnapshotInstalled { matched, abstains: false },
        "takeover" => MessageBody::TimeoutNow,
        // The answer to another question: nobody draws this nonce.
        "tell-term" => MessageBody::TellTerm { nonce: u64::MAX },
        other => return Err(format!("no message is called {other}").into()),
    })
}

fn status(cluster: &mut Cluster) {
    for id in cluster.ids() {
        let line = match &cluster.node(id).server {
            None => format!("{} is down", words::node(id)),
            Some(server) => {
                let status = server.status();
                let leader = match (status.role, status.leader) {
                    (Role::Follower, Some(leader)) => format!(" of {}", words::node(leader)),
                    _ => String::new(),
                };
                let vote = status.vote.map_or("none".to_owned(), words::node);
                let log = words::at(status.last, server.term_at(status.last).unwrap_or_default());
                format!(
                    "{}: {}{leader}, term {}, vote {vote}, log to {log}, committed {}",
                    words::node(id),
                    status.role,
                    status.term,
                    status.commit,
                )
            }
        };
        cluster.story.push(line);
    }
}

fn expect(cluster: &mut Cluster, what: &[String], values: &[(String, String)]) -> Told<()> {
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let equal = |name: &str, found: String, wanted: &str| -> Told<()> {
        if found == wanted { Ok(()) } else { Err(format!("expected {name} {wanted}, found {found}").into()) }
    };
    match what.as_slice() {
        ["leader", wanted] => {
            let leader = cluster.leader().map_or("none".to_owned(), |leader| leader.to_string());
            equal("leader", leader, wanted)?;
        }
        ["silence"] => equal("messages under way", cluster.busy_links().len().to_string(), "0")?,
        ["refusals", wanted] => equal("refusals", cluster.checker.refusals.to_string(), wanted)?,
        ["answer"] => {
            for (name, wanted) in values {
                let found = cluster.answers.get(name).cloned().unwrap_or("none".to_owned());
                equal(&format!("answer to {name}"), found, wanted)?;
            }
        }
        [one @ ("under-way" | "sent"), from, to] => {
            let (from, to) = (NodeId(from.parse()?), NodeId(to.parse()?));
            let found = match *one {
                "sent" => cluster.traffic.get(&(from, to)).map_or(0, |traffic| traffic.appends as usize),
                _ => cluster.under_way(from, to),
            };
            for (name, wanted) in values {
                equal(name, found.to_string(), wanted)?;
            }
        }
        [fact] => {
            for (node, wanted) in values {
                let node = NodeId(node.parse()?);
                if *fact == "rejections" {
                    let rejections = cluster.traffic.iter().filter(|(link, _)| link.0 == node);
                    let found: u64 = rejections.map(|(_, traffic)| traffic.rejections).sum();
                    equal(&format!("rejections by {}", words::node(node)), found.to_string(), wanted)?;
                    continue;
                }
                let status = cluster.server(node).status();
                let found = match *fact {
                    "role" => status.role.to_string(),
                    "leads" => (status.role == Role::Leader).to_string(),
                    "term" => status.term.to_string(),
                    "vote" => status.vote.map_or("none".to_owned(), |vote| vote.to_string()),
                    "follows" => status.leader.map_or("none".to_owned(), |leader| leader.to_string()),
                    "commit" => status.commit.to_string(),
                    "last" => status.last.to_string(),
                    "first" => status.first.to_string(),
                    "durable" => status.durable.to_string(),
                    "disk-term" => cluster.node(node).disk.hard_state.term.to_string(),
                    "log" => cluster.node(node).log.terms(),
                    "state" => cluster.node(node).machine.join(" "),
                    other => return Err(format!("nothing is called {other}").into()),
                };
                equal(&format!("{fact} of {}", words::node(node)), found, wanted)?;
            }
        }
        other => return Err(format!("cannot expect {}", other.join(" ")).into()),
    }
    Ok(())
}
