//! The way to the node and back: a request of HTTP becomes a request of the node, whose answer is awaited.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Gateway;
use super::answer::Refusal;
use crate::consensus::Payload;
use crate::machine::command::{Answer, Query};
use crate::runtime::{ClientRequest, NodeStatus, Operation, Outcome, Reply, ReplySink, Response};
use crate::transport::Failure;

/// HTTP connections are numbered from here. The controller counts its own from 1, library calls theirs from 2^63.
pub const HTTP_CONNECTIONS: u64 = 1 << 62;

/// Hands the one answer over to the task that awaits it.
struct Waiting(Mutex<Option<oneshot::Sender<Outcome>>>);

impl ReplySink for Waiting {
    fn reply(&self, _slot: u64, outcome: Outcome) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Whoever asked may be gone.
            let _ = sender.send(outcome);
        }
    }
}

fn reply() -> (Reply, oneshot::Receiver<Outcome>) {
    let (sender, receiver) = oneshot::channel();
    (Reply::new(Arc::new(Waiting(Mutex::new(Some(sender)))), 0), receiver)
}

/// Every reply is answered, when it is dropped at the latest.
async fn outcome(receiver: oneshot::Receiver<Outcome>) -> Outcome {
    receiver.await.unwrap_or_else(|_| Err(Failure::Unknown("outcome unknown: the node stopped meanwhile".into())))
}

impl Gateway {
    /// Asks the node, or through it the leader.
    async fn ask(&self, connection: u64, operation: Operation) -> Result<Bytes, Refusal> {
        if self.output_bytes.is_too_much() {
            self.traffic.too_many_bytes.add(1);
            let why = "too many bytes of answers wait for their clients; try again later";
            return Err(Failure::Overloaded(why.into()).into());
        }
        let (reply, receiver) = reply();
        let request = ClientRequest { connection, operation, forward: true, reply };
        if let Err(request) = self.node.request(request) {
            request.reply.send(Err(Failure::inbox_is_full()));
        }
        match outcome(receiver).await? {
            Response::Answer(bytes) => Ok(bytes),
            _ => Err(Refusal::unreadable("it is of another kind")),
        }
    }

    /// Puts a command through the log.
    pub async fn write(&self, connection: u64, command: Bytes) -> Result<Answer, Refusal> {
        decoded(&self.ask(connection, Operation::Write(Payload(command))).await?)
    }

    /// A linearizable read.
    pub async fn read(&self, connection: u64, query: Query) -> Result<Answer, Refusal> {
        decoded(&self.ask(connection, Operation::Read(Payload(query.encode()))).await?)
    }

    /// Reads this node's own state, whatever it is.
    pub async fn local_read(&self, connection: u64, query: Query) -> Result<Bytes, Refusal> {
        self.ask(connection, Operation::LocalRead(Payload(query.encode()))).await
    }

    /// How the node is. However many requests of clients wait, this does not wait behind them.
    pub async fn status(&self) -> Result<NodeStatus, Refusal> {
        let (reply, receiver) = reply();
        self.node.ask_status(reply);
        match outcome(receiver).await {
            Ok(Response::Status(status)) => Ok(*status),
            _ => Err(Failure::NotReady("this node has stopped".into()).into()),
        }
    }
}

/// The machine's answer.
pub fn decoded(bytes: &[u8]) -> Result<Answer, Refusal> {
    match Answer::decode(bytes) {
        Ok(Answer::Malformed(why)) => Err(Refusal::malformed(why)),
        Ok(Answer::WrongType) => Err(Refusal::wrong_type()),
        Ok(answer) => Ok(answer),
        Err(error) => Err(Refusal::unreadable(&error.to_string())),
    }
}
