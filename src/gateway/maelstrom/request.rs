//! Requests to operations of the state machine, and what comes of them to answers. The workloads' own parts are in files of
//! their own.

use std::fmt::Write;

use bytes::Bytes;

use super::message::{Body, ErrorCode, Request};
use super::set::{ELEMENTS, MESSAGES};
use super::workload::Workload;
use super::{counter, kafka, lin_kv, txn};
use crate::codec::json::Object;
use crate::consensus::Payload;
use crate::machine::command::{Answer, Command, Query};
use crate::runtime::{Operation, Outcome, Response};
use crate::transport::Failure;

/// What to ask the state machine, and what to make of its answer.
pub struct Question {
    /// What to ask.
    pub operation: Operation,
    /// Takes the answer.
    pub asker: Asker,
}

/// What to make of an answer.
pub struct Asker(Box<Conclude>);

/// Fails with the answer if it is none to the question.
type Conclude = dyn FnOnce(Answer) -> Result<Next, Answer> + Send;

/// How a request goes on.
pub enum Next {
    /// With the answer for the client.
    Tell(Body),
    /// With another question.
    Ask(Question),
}

impl Question {
    /// What a request asks. Fails with the answer for the client.
    pub fn parse(request: &Request<'_>, workload: Workload) -> Result<Question, Body> {
        let malformed = |why: String| Body::error(ErrorCode::MalformedRequest, why);
        let kind = request.kind.as_ref().map_err(|why| malformed(why.clone()))?;
        let body = &request.body;
        let question = match kind.as_str() {
            "read" if body.get("key").is_none() => read(workload),
            "read" => lin_kv::read(body),
            "write" => lin_kv::write(body),
            "cas" => lin_kv::compare_and_set(body),
            "broadcast" => body.canonical("message").map(|message| MESSAGES.add(message.text)),
            "add" => add(body, workload),
            "send" => kafka::send(body),
            "poll" => kafka::poll(body),
            "commit_offsets" => kafka::commit(body),
            "list_committed_offsets" => kafka::list_committed(body),
            "txn" => txn::run(body, workload),
            "init" | "raft_init" => Err("this node has been initialised already".into()),
            _ => return Err(Body::error(ErrorCode::NotSupported, format!("there is no request of type {kind:?}"))),
        };
        question.map_err(malformed)
    }

    /// A question that needs no entry of the log.
    pub fn read(query: &Query, conclude: impl FnOnce(Answer) -> Result<Next, Answer> + Send + 'static) -> Question {
        Question { operation: Operation::Read(Payload(query.encode())), asker: Asker(Box::new(conclude)) }
    }

    /// A question that changes something.
    pub fn write(
        command: impl Into<Command>,
        conclude: impl FnOnce(Answer) -> Result<Next, Answer> + Send + 'static,
    ) -> Question {
        let operation = Operation::Write(Payload(command.into().encode()));
        Question { operation, asker: Asker(Box::new(conclude)) }
    }
}

/// A `read` without a key.
fn read(workload: Workload) -> Result<Question, String> {
    match workload {
        Workload::Broadcast => Ok(MESSAGES.read()),
        Workload::GSet => Ok(ELEMENTS.read()),
        Workload::GCounter | Workload::PnCounter => Ok(counter::read()),
        _ => {
            Err("the field `key` is missing; nodes started with --workload broadcast, g-set, g-counter or pn-counter \
                  know what a `read` without it means"
                .into())
        }
    }
}

fn add(body: &Object<'_>, workload: Workload) -> Result<Question, String> {
    match (body.get("element"), body.optional("delta")?) {
        (Some(_), None) => Ok(ELEMENTS.add(body.canonical("element")?.text)),
        (None, Some(delta)) if delta < 0 && workload == Workload::GCounter => {
            Err(format!("`delta` is {delta}, and the counter of g-counter only grows"))
        }
        (None, Some(delta)) => Ok(counter::add(delta)),
        _ => Err("an `add` has either an `element` or a `delta`".into()),
    }
}

impl Asker {
    /// How the request goes on.
    pub fn conclude(self, outcome: Outcome) -> Next {
        let answer = match outcome {
            Ok(Response::Answer(bytes)) => Answer::decode(&bytes).map_err(|error| error.to_string()),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => return Next::Tell(failed(failure)),
        };
        match answer.map(self.0) {
            Ok(Ok(next)) => next,
            Ok(Err(Answer::Malformed(why))) => Next::Tell(Body::error(ErrorCode::MalformedRequest, why)),
            Ok(Err(other)) => nonsense(format!("{other:?}")),
            Err(why) => nonsense(why),
        }
    }
}

fn nonsense(answer: String) -> Next {
    log::error!("a request was answered with {answer}, which makes no sense");
    Next::Tell(Body::error(ErrorCode::Crash, "the answer makes no sense: see this node's log"))
}

fn failed(failure: Failure) -> Body {
    let code = match failure {
        Failure::NotReady(_) | Failure::Overloaded(_) => ErrorCode::TemporarilyUnavailable,
        Failure::Refused(_) => ErrorCode::MalformedRequest,
        Failure::Unknown(_) => ErrorCode::Crash,
    };
    Body::error(code, failure.to_string())
}

/// A key of the store that is no register: `/`, with which no JSON begins, and the parts, a zero byte at the end, which no
/// JSON contains. So no such key is the beginning of another.
pub fn key(parts: &[&str]) -> Bytes {
    let mut key = String::new();
    for part in parts {
        let _ = write!(key, "/{part}");
    }
    key.push('\0');
    key.into()
}

/// Stored JSON. Whether it is any is seen when it is sent.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
