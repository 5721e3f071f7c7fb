//! The client: finds the leader, retries what is safe, and reports an unknown outcome as unknown.
//!
//! Any node serves any request, passing it on if it has to; going to the leader saves that hop. So the client asks a
//! node who leads, goes there, and remembers. A request that certainly had no effect (the connection was refused, the
//! node was not ready or overloaded) is repeated with growing pauses until the timeout, and so is every read.
//!
//! # Writes
//! A write takes effect **at most once**, and exactly once if there is an answer. With its first write a client opens a
//! session; each write has a number there, and is sent again with that number, to any node, when its answer is lost. The
//! cluster knows it by the number and gives the first answer again, also after leader changes and restarts. Only when
//! there is no answer until the timeout it ends as [`Error::Unknown`]: it may have taken effect, or still do so.
//!
//! A session ends an hour after its last use. The client then opens another; only a write whose earlier attempt may have
//! reached the old one is [`Error::Unknown`], too. What belongs to no session is never repeated once it may have
//! reached a node: [`Client::transfer`], [`Client::raw`], [`Client::pipeline`], and all writes of [`Client::only`].

mod connection;
mod error;
mod node;
mod queue;
mod resp;
mod routing;
mod session;

use std::fmt;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Config;
use crate::consensus::NodeId;
use crate::machine::command::Value;
use crate::runtime::{LogLine, NodeStatus};

use error::Effect;
use node::Node;
use routing::{BRIEF, LEADER, Route};
use session::Session;

pub use error::Error;
pub use node::NodeAddress;
pub use queue::Peeked;
pub use resp::Reply;
#[cfg(feature = "cli")]
pub(crate) use resp::encode;

/// How long a request may take, all attempts together, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// More would only be trouble to reckon with.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A client of a cluster. Blocking, one request at a time; make one for each thread.
pub struct Client {
    nodes: Vec<Node>,
    timeout: Duration,
    /// Requests go to the one node alone, which must not pass them on.
    only: bool,
    route: Option<Route>,
    /// Where the next search for the leader begins.
    search_from: usize,
    /// The leader that nodes name but that we cannot reach, and since when.
    cut_off: Option<(usize, Instant)>,
    /// Of the writes; opened by the first one.
    session: Option<Session>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader.
    pub id: NodeId,
    /// Its label.
    pub label: String,
    /// Its term.
    pub term: u64,
}

impl Client {
    /// A client of these nodes. Connects when there is something to send. `timeout` bounds each request; more than a day
    /// is a day.
    pub fn new(nodes: impl IntoIterator<Item = NodeAddress>, timeout: Duration) -> Client {
        let nodes = nodes.into_iter().map(Node::new).collect();
        Client {
            nodes,
            timeout: timeout.min(LONGEST_TIMEOUT),
            only: false,
            route: None,
            search_from: 0,
            cut_off: None,
            session: None,
        }
    }

    /// A client of the cluster that raft.ini describes.
    pub fn from_config(config: &Config, timeout: Duration) -> Client {
        Client::new(config.nodes.iter().map(NodeAddress::from), timeout)
    }

    /// A client of this node alone: the node serves its requests itself or refuses them, and nothing is retried.
    pub fn only(&self, id: NodeId) -> Result<Client, Error> {
        let node = self.nodes.iter().find(|node| node.address.id == id).ok_or_else(|| self.no_such_node(&id))?;
        Ok(Client { only: true, ..Client::new([node.address.clone()], self.timeout) })
    }

    /// The nodes, in the order of raft.ini.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeAddress> {
        self.nodes.iter().map(|node| &node.address)
    }

    /// The node with this id or label.
    pub fn find(&self, name: &str) -> Result<&NodeAddress, Error> {
        let id = name.parse().ok().map(NodeId);
        let by_id = self.nodes().find(|node| Some(node.id) == id);
        by_id.or_else(|| self.nodes().find(|node| node.label == name)).ok_or_else(|| self.no_such_node(&name))
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The value of a key.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Value>, Error> {
        match self.read(&[b"RAFT", b"GET", key])? {
            Reply::Nil => Ok(None),
            Reply::Array(parts) => match <[Reply; 2]>::try_from(parts) {
                Ok([bytes, revision]) => value(bytes, revision).map(Some),
                Err(parts) => Err(unexpected(&Reply::Array(parts))),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// How many of these keys exist; one named twice counts twice.
    pub fn exists(&mut self, keys: &[&[u8]]) -> Result<u64, Error> {
        count(self.read(&[&[&b"EXISTS"[..]], keys].concat())?).map_err(|reply| unexpected(&reply))
    }

    /// Some keys that begin with `prefix` and are above `after`, in order, with their values. Empty at the end: to see
    /// all, go on after the last key. Keys may change in between.
    pub fn list(&mut self, prefix: &[u8], after: Option<&[u8]>) -> Result<Vec<(Bytes, Value)>, Error> {
        let mut args = vec![&b"RAFT"[..], b"LIST", prefix];
        args.extend(after);
        let triples = match self.read(&args)? {
            Reply::Array(triples) => triples,
            other => return Err(unexpected(&other)),
        };
        let item = |triple| match triple {
            Reply::Array(parts) => match <[Reply; 3]>::try_from(parts) {
                Ok([Reply::Bulk(key), bytes, revision]) => Ok((key, value(bytes, revision)?)),
                Ok([other, ..]) => Err(unexpected(&other)),
                Err(parts) => Err(unexpected(&Reply::Array(parts))),
            },
            other => Err(unexpected(&other)),
        };
        triples.into_iter().map(item).collect()
    }

    /// Sets a key.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.write(&[b"SET", key, value], done)
    }

    /// Sets a key to `to` if its value is `from`; otherwise [`Error::Missing`] or [`Error::Different`].
    pub fn cas(&mut self, key: &[u8], from: &[u8], to: &[u8]) -> Result<(), Error> {
        self.write(&[b"RAFT", b"CAS", key, from, to], done)
    }

    /// Deletes keys: how many of them existed.
    pub fn delete(&mut self, keys: &[&[u8]]) -> Result<u64, Error> {
        self.write(&[&[&b"DEL"[..]], keys].concat(), count)
    }

    /// Hands leadership over to this node.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), Error> {
        let to = self.find(&to.to_string())?.id.to_string();
        let transferred = self.request(&[b"RAFT", b"TRANSFER", to.as_bytes()], Effect::Write, self.deadline())?;
        self.decode(transferred, done)?;
        self.route = None;
        Ok(())
    }

    /// Who leads, as the leader itself says.
    pub fn leader(&mut self) -> Result<Leader, Error> {
        self.route = None;
        leader(self.read(&LEADER)?)
    }

    /// How a node is, as it sees itself.
    pub fn status(&mut self, id: NodeId) -> Result<NodeStatus, Error> {
        self.ask(id, BRIEF, |node, deadline| node.json(&[b"RAFT", b"STATUS"], deadline))
    }

    /// How all nodes are, asked at the same time.
    pub fn status_of_all(&mut self) -> Vec<(NodeAddress, Result<NodeStatus, Error>)> {
        self.ask_all(BRIEF, |node, deadline| node.json(&[b"RAFT", b"STATUS"], deadline))
    }

    /// Entries of a node's log, from this index or else the last ones.
    pub fn log(&mut self, id: NodeId, from: Option<u64>) -> Result<Vec<LogLine>, Error> {
        let from = from.map(|index| index.to_string());
        let mut args = vec![&b"RAFT"[..], b"LOG"];
        args.extend(from.as_ref().map(|from| from.as_bytes()));
        self.ask(id, self.timeout, |node, deadline| node.json(&args, deadline))
    }

    /// The state of a node's machine and protocol, as JSON for people.
    pub fn state(&mut self, id: NodeId) -> Result<serde_json::Value, Error> {
        self.ask(id, self.timeout, |node, deadline| node.json(&[b"RAFT", b"STATE"], deadline))
    }

    /// Makes a node write its whole state to its log.
    pub fn debug(&mut self, id: NodeId) -> Result<(), Error> {
        self.ask(id, self.timeout, Node::debug)
    }

    /// Makes every node write its whole state to its log.
    pub fn debug_all(&mut self) -> Vec<(NodeAddress, Result<(), Error>)> {
        self.ask_all(self.timeout, Node::debug)
    }

    /// Sends any command to a node, once. Counts as a write: without a reply its outcome is unknown.
    pub fn raw(&mut self, id: NodeId, args: &[&[u8]]) -> Result<Reply, Error> {
        self.ask(id, self.timeout, |node, deadline| node.call(&resp::encode(args), Effect::Write, deadline))
    }

    /// Sends commands to a node without waiting for replies in between, once: one result for each, in order.
    pub fn pipeline(&mut self, id: NodeId, requests: &[Vec<&[u8]>]) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.ask(id, self.timeout, |node, deadline| Ok(node.pipeline(requests, deadline)))
    }

    fn read(&mut self, args: &[&[u8]]) -> Result<Reply, Error> {
        self.request(args, Effect::Read, self.deadline()).map(|(reply, _)| reply)
    }

    /// When a request that begins now must have its answer.
    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A write, in the session unless it is for one node only.
    fn write<T>(&mut self, args: &[&[u8]], decode: fn(Reply) -> Result<T, Reply>) -> Result<T, Error> {
        let answer = match self.only {
            true => self.request(args, Effect::Write, self.deadline())?,
            false => self.request_once(args)?,
        };
        self.decode(answer, decode)
    }

    /// What a write was answered. A reply that makes no sense says nothing about the outcome.
    fn decode<T>(&self, (reply, node): (Reply, usize), decode: fn(Reply) -> Result<T, Reply>) -> Result<T, Error> {
        decode(reply).map_err(|reply| match self.nodes.get(node) {
            Some(node) => Error::no_answer(&node.address, &unexpected(&reply).to_string(), Effect::Write),
            None => unexpected(&reply),
        })
    }

    /// Asks one node something that only it can answer. Nothing is retried.
    fn ask<T>(
        &mut self,
        id: NodeId,
        patience: Duration,
        question: impl FnOnce(&mut Node, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + patience.min(self.timeout);
        match self.nodes.iter_mut().find(|node| node.address.id == id) {
            Some(node) => question(node, deadline),
            None => Err(self.no_such_node(&id)),
        }
    }

    /// Asks all nodes at the same time.
    fn ask_all<T: Send>(
        &mut self,
        patience: Duration,
        question: impl Fn(&mut Node, Instant) -> Result<T, Error> + Sync,
    ) -> Vec<(NodeAddress, Result<T, Error>)> {
        let deadline = Instant::now() + patience.min(self.timeout);
        let question = &question;
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .nodes
                .iter_mut()
                .map(|node| scope.spawn(move || (node.address.clone(), question(node, deadline))))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn no_such_node(&self, name: &dyn fmt::Display) -> Error {
        let known: Vec<_> = self.nodes().map(|node| format!("{} ({})", node.id, node.label)).collect();
        Error::Usage(format!("no node {name}: raft.ini has {}", known.join(", ")))
    }
}

fn done(reply: Reply) -> Result<(), Reply> {
    match reply {
        Reply::Simple(_) => Ok(()),
        other => Err(other),
    }
}

fn count(reply: Reply) -> Result<u64, Reply> {
    match reply {
        Reply::Integer(count) if count >= 0 => Ok(count.unsigned_abs()),
        other => Err(other),
    }
}

fn value(bytes: Reply, revision: Reply) -> Result<Value, Error> {
    match (bytes, count(revision)) {
        (Reply::Bulk(bytes), Ok(revision)) => Ok(Value { bytes, revision }),
        (_, Err(other)) | (other, _) => Err(unexpected(&other)),
    }
}

fn leader(reply: Reply) -> Result<Leader, Error> {
    let parts = match reply {
        Reply::Array(parts) => parts,
        other => return Err(unexpected(&other)),
    };
    match parts.as_slice() {
        [Reply::Integer(id), Reply::Bulk(label), Reply::Integer(term)] if *id >= 0 && *term >= 0 => Ok(Leader {
            id: NodeId(id.unsigned_abs()),
            label: String::from_utf8_lossy(label).into_owned(),
            term: term.unsigned_abs(),
        }),
        _ => Err(unexpected(&Reply::Array(parts))),
    }
}

fn unexpected(reply: &Reply) -> Error {
    let kind = match reply {
        Reply::Simple(_) => "a status",
        Reply::Error(_) => "an error",
        Reply::Integer(_) => "a number",
        Reply::Bulk(_) => "a string",
        Reply::Nil => "nil",
        Reply::Array(_) => "an array",
    };
    Error::Protocol(format!(
        "the node's reply, {kind}, does not fit the request: is it another version, or no node of raft?"
    ))
}
