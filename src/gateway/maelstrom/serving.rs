//! What happens to each line once the node runs.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::value::RawValue;
use twox_hash::XxHash3_64;

use super::alone::Alone;
use super::message::{Address, Body, ErrorCode, Incoming, Request};
use super::request::{Asker, Next, Question};
use super::workload::Workload;
use super::{Init, excerpt};
use crate::consensus::NodeId;
use crate::runtime::{ClientRequest, Input, NodeHandle, Outcome, Reply, ReplySink};
use crate::transport::Failure;
use crate::transport::stdio::{Output, Received, Said};

/// A node that runs, and what the door needs to serve it.
pub struct Serving {
    init: Init,
    node: NodeHandle,
    alone: Alone,
    options: Options,
}

/// How a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Requests larger than this, in bytes, are refused.
    pub max_request_bytes: u64,
    /// What requests mean that do not say it themselves.
    pub workload: Workload,
}

impl Serving {
    /// Serves this node. Every peer can be reached from now on, as far as one can tell.
    pub fn new(init: Init, node: NodeHandle, alone: Alone, options: Options) -> Self {
        let names = init.names();
        log::info!("this is {}, node {} of {}", names.my_name(), names.me(), names.ids().count());
        for peer in names.ids().filter(|id| *id != names.me()) {
            node.deliver(Input::Link { peer, up: true });
        }
        Serving { init, node, alone, options }
    }

    /// Takes a line to whom it is for. Waits while nobody reads the answers.
    pub fn handle(&self, line: &[u8]) {
        self.init.output.wait_for_room();
        if let Err(why) = Incoming::parse(line).and_then(|message| self.dispatch(&message)) {
            log::warn!("ignored a line: {why}: {}", excerpt(line));
        }
    }

    fn dispatch(&self, message: &Incoming<'_>) -> Result<(), String> {
        let names = self.init.names();
        if let Ok(dest) = &message.dest
            && dest != names.my_name()
        {
            return Err(format!("this is {}", names.my_name()));
        }
        match names.id(&message.src) {
            Some(me) if me == names.me() => Err("this node never sends anything to itself".into()),
            Some(peer) => self.receive(peer, message.body),
            None => self.request(message),
        }
    }

    fn receive(&self, from: NodeId, body: &RawValue) -> Result<(), String> {
        match self.init.wire.decode(from, body)? {
            Some(Received { life, said: Said::Message(message) }) => {
                // What there is no room for is lost on the way: the protocol sends it again.
                self.node.try_deliver(Input::Peer { from, life, message });
            }
            Some(Received { said: Said::Chunk(chunk), .. }) => self.init.snapshots.receive(from, chunk),
            Some(Received { said: Said::ChunkAnswer(index, answer), .. }) => {
                self.init.snapshots.answered(from, index, answer);
            }
            None => log::debug!("dropped a message of an earlier life, from node {from}"),
        }
        Ok(())
    }

    fn request(&self, message: &Incoming<'_>) -> Result<(), String> {
        let Some(request) = message.request()? else {
            log::debug!("{} answered something that was never asked", message.src);
            return Ok(());
        };
        let client = message.address(self.init.names().my_name(), request.msg_id);
        let question = match self.question(message, &request) {
            Ok(question) => question,
            Err(answer) => {
                client.answer(&self.init.output, &answer);
                return Ok(());
            }
        };
        // Each client has one connection, whose requests take effect in order. Two of one hash share it, which does no
        // harm, and nobody has to be remembered. 53 bits, so that a number in JSON holds it.
        let connection = XxHash3_64::oneshot(message.src.as_bytes()) >> 11;
        let client = Client { address: client, connection, node: self.node.clone(), output: self.init.output.clone() };
        client.ask(question);
        Ok(())
    }

    /// What to ask the state machine. Fails with the answer if there is one already.
    fn question(&self, message: &Incoming<'_>, request: &Request<'_>) -> Result<Question, Body> {
        message.dest.as_ref().map_err(|why| malformed(why.clone()))?;
        let (bytes, allowed) = (message.body.get().len() as u64, self.options.max_request_bytes);
        if bytes > allowed {
            return Err(malformed(format!("{bytes} bytes; {allowed} are allowed")));
        }
        match self.alone.answer(request) {
            Some(answer) => Err(answer),
            None => Question::parse(request, self.options.workload),
        }
    }
}

fn malformed(why: String) -> Body {
    Body::error(ErrorCode::MalformedRequest, why)
}

/// Who waits for the answer to one request.
struct Client {
    address: Address,
    connection: u64,
    node: NodeHandle,
    output: Arc<Output>,
}

impl Client {
    fn ask(self, Question { operation, asker }: Question) {
        let (node, connection) = (self.node.clone(), self.connection);
        let sink = Arc::new(Asked { output: self.output.clone(), waiting: Mutex::new(Some((self, asker))) });
        // Each question has a sink of its own, so that the slot says nothing.
        let request = ClientRequest { connection, operation, forward: true, reply: Reply::new(sink, 0) };
        if let Err(request) = node.request(request) {
            let why = "too many requests are waiting at this node".to_owned();
            request.reply.send(Err(Failure::Overloaded(why))).flush();
        }
    }
}

/// A question that waits for its outcome.
struct Asked {
    output: Arc<Output>,
    /// Until there is one.
    waiting: Mutex<Option<(Client, Asker)>>,
}

impl ReplySink for Asked {
    fn reply(&self, _slot: u64, outcome: Outcome) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((client, asker)) = waiting else { return };
        match asker.conclude(outcome) {
            Next::Tell(answer) => client.address.queue(&client.output, &answer),
            Next::Ask(question) => client.ask(question),
        }
    }

    fn flush(&self) {
        self.output.flush();
    }
}
