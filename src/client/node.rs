//! One node: its address, and the connection to it that is opened when needed and kept while it is good.

use std::fmt;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::error::Effect;
use super::resp::{self, Reply};
use super::routing::BRIEF;
use super::{Error, done, unexpected};
use crate::config::NodeConfig;
use crate::consensus::NodeId;

/// A pipeline sends so many bytes before it waits for replies. They fit into the sockets' buffers, so that a node that
/// waits for us to read never makes us wait for it to read.
const PIPELINE_BYTES: usize = 64 << 10;

/// Where clients reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its id.
    pub id: NodeId,
    /// Its label in raft.ini.
    pub label: String,
    /// Its host: a name or an address.
    pub host: String,
    /// Its `ClientPort`.
    pub client_port: u16,
}

pub(super) struct Node {
    pub(super) address: NodeAddress,
    connection: Option<Connection>,
}

impl Node {
    pub(super) fn new(address: NodeAddress) -> Node {
        Node { address, connection: None }
    }

    /// Makes sure that there is a connection.
    pub(super) fn reach(&mut self, deadline: Instant) -> Result<(), Error> {
        self.connection = Some(self.connect(deadline)?);
        Ok(())
    }

    /// The connection, if it is still good, or a new one.
    fn connect(&mut self, deadline: Instant) -> Result<Connection, Error> {
        match self.connection.take() {
            Some(connection) if connection.is_idle() => Ok(connection),
            _ => {
                let deadline = deadline.min(Instant::now() + BRIEF);
                Connection::open(&self.address.host, self.address.client_port, deadline)
                    .map_err(|error| Error::not_sent(&self.address, &error))
            }
        }
    }

    /// Sends a request and waits for its reply. The connection is kept only if the reply came: a late one must not be
    /// taken for the next request's.
    pub(super) fn call(&mut self, request: &[u8], effect: Effect, deadline: Instant) -> Result<Reply, Error> {
        let mut connection = self.connect(deadline)?;
        connection.send(request, deadline).map_err(|error| Error::not_sent(&self.address, &error))?;
        let reply = connection
            .receive(deadline)
            .map_err(|error| Error::no_answer(&self.address, &error.to_string(), effect))?;
        self.connection = Some(connection);
        self.check(reply, effect)
    }

    fn check(&self, reply: Reply, effect: Effect) -> Result<Reply, Error> {
        match reply {
            Reply::Error(text) => Err(Error::from_reply(&self.address, &text, effect)),
            reply => Ok(reply),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self, args: &[&[u8]], deadline: Instant) -> Result<T, Error> {
        match self.call(&resp::encode(args), Effect::Read, deadline)? {
            Reply::Bulk(json) => serde_json::from_slice(&json)
                .map_err(|error| Error::Protocol(format!("{} sent JSON that makes no sense: {error}", self.address))),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn debug(&mut self, deadline: Instant) -> Result<(), Error> {
        let reply = self.call(&resp::encode(&[b"RAFT", b"DEBUG"]), Effect::Read, deadline)?;
        done(reply).map_err(|reply| unexpected(&reply))
    }

    pub(super) fn pipeline(&mut self, requests: &[Vec<&[u8]>], deadline: Instant) -> Vec<Result<Reply, Error>> {
        let requests: Vec<_> = requests.iter().map(|args| resp::encode(args)).collect();
        let mut results = Vec::with_capacity(requests.len());
        let mut connection = match self.connect(deadline) {
            Ok(connection) => connection,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let mut unsent = requests.iter().peekable();
        while unsent.peek().is_some() {
            let mut chunk = Vec::new();
            let mut waiting = 0;
            while let Some(request) = unsent.next_if(|next| waiting == 0 || chunk.len() + next.len() <= PIPELINE_BYTES)
            {
                chunk.extend_from_slice(request);
                waiting += 1;
            }
            let mut lost = connection.send(&chunk, deadline).err();
            for _ in 0..waiting {
                let reply = match lost.take() {
                    None => connection.receive(deadline),
                    Some(error) => Err(error),
                };
                results.push(match reply {
                    Ok(reply) => self.check(reply, Effect::Write),
                    Err(error) => {
                        let result = Error::no_answer(&self.address, &error.to_string(), Effect::Write);
                        lost = Some(error);
                        Err(result)
                    }
                });
            }
            if let Some(error) = lost {
                results.extend(unsent.map(|_| Err(Error::not_sent(&self.address, &error))));
                return results;
            }
        }
        self.connection = Some(connection);
        results
    }
}

impl From<&NodeConfig> for NodeAddress {
    fn from(node: &NodeConfig) -> Self {
        NodeAddress { id: node.id, label: node.label.clone(), host: node.host.clone(), client_port: node.client_port }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({}) at {}:{}", self.id, self.label, self.host, self.client_port)
    }
}
