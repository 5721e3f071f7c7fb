//! Who is to be answered, how much is waiting for an answer, and which sinks to flush afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::consensus::NodeId;
use crate::runtime::{Life, Outcome, PeerReply, Reply, ReplySink, Response};

/// Who asked.
pub enum Asker {
    /// A client of this node.
    Client {
        /// Takes the answer.
        reply: Reply,
        /// Its share of this node's limits, given back with the answer.
        permit: Permit,
    },
    /// A client of another node, which forwarded the request.
    Peer {
        /// The other node.
        node: NodeId,
        /// The life in which it asked.
        life: Life,
        /// Its number for the request.
        sequence: u64,
    },
}

impl Asker {
    /// Answers: a client at once, a peer by the message that is returned for it.
    pub fn answer(self, outcome: Outcome, sinks: &mut Sinks) -> Option<PeerReply> {
        match self {
            Asker::Client { reply, permit: _ } => {
                sinks.add(reply.send(outcome));
                None
            }
            Asker::Peer { node, life, sequence } => {
                let outcome = outcome.map(|response| match response {
                    Response::Answer(bytes) => crate::consensus::Payload(bytes),
                    Response::Status(_) | Response::Log(_) | Response::Done => crate::consensus::Payload::EMPTY,
                });
                Some(PeerReply { to: node, life, sequence, outcome })
            }
        }
    }
}

/// Sinks that have answers to send out, each once.
#[derive(Default)]
pub struct Sinks(Vec<Arc<dyn ReplySink>>);

impl Sinks {
    /// Remembers to flush this sink.
    pub fn add(&mut self, sink: Arc<dyn ReplySink>) {
        if !self.0.last().is_some_and(|last| Arc::ptr_eq(last, &sink)) {
            self.0.push(sink);
        }
    }

    /// Flushes every sink once.
    pub fn flush(&mut self) {
        self.0.sort_unstable_by_key(|sink| Arc::as_ptr(sink).addr());
        self.0.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for sink in self.0.drain(..) {
            sink.flush();
        }
    }
}

/// What a node's own clients have asked and not been answered yet, kept below a limit.
#[derive(Debug)]
pub struct Load {
    requests: AtomicU64,
    bytes: AtomicU64,
    max_requests: u64,
    max_bytes: u64,
}

impl Load {
    /// Nothing yet, with these limits.
    pub fn new(max_requests: u64, max_bytes: u64) -> Arc<Self> {
        Arc::new(Load { requests: AtomicU64::new(0), bytes: AtomicU64::new(0), max_requests, max_bytes })
    }

    /// Takes a share for one request of so many bytes, unless that is too much. Only one thread takes shares, so that
    /// looking first and adding then is safe; any thread may give them back.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let fits = self.requests.load(Ordering::Relaxed) < self.max_requests
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.max_bytes;
        fits.then(|| {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            Permit { load: Arc::clone(self), bytes }
        })
    }

    /// Requests that wait for an answer.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One request's share of a [`Load`]; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    load: Arc<Load>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
