//! What clients asked and were told, as the bodies of messages, whatever the workload.

use std::time::Duration;

use serde_json::{Value, json};

/// One request and what came of it. Times are counted from the start of the run, by one clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who asked. A process asks one thing at a time; once an outcome is unknown to it, another one goes on in its place.
    pub process: u64,
    /// Which node was asked: its place among all, from 0.
    pub node: usize,
    /// The body of the request, without `msg_id`.
    pub request: Value,
    /// What came of it.
    pub outcome: Outcome,
    /// No later than when the request was sent.
    pub began: Duration,
    /// No earlier than when the answer came, or the process gave up.
    pub ended: Duration,
    /// Asked at the end, when all faults were over and nobody asked for anything else any more.
    pub at_rest: bool,
}

/// What came of a request, as far as its process knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The body of the answer, which is no error.
    Answered(Value),
    /// A definite error: it never took effect, and never will.
    Refused {
        /// One of the protocol's codes that are definite.
        code: u64,
        /// What the node said about it.
        text: String,
    },
    /// No answer in time, or an indefinite error: it took effect at some time after its beginning, or will, or never does.
    Unknown(String),
}

impl Outcome {
    /// Whether the node did what it is there for: it answered, or refused for what it knows about the data (no such key, a key that
    /// exists, a precondition).
    pub fn is_served(&self) -> bool {
        matches!(self, Outcome::Answered(_) | Outcome::Refused { code: 20..=22, .. })
    }
}

impl Operation {
    /// The operation for other programs to read, times in seconds.
    pub fn to_json(&self) -> Value {
        let (kind, what) = match &self.outcome {
            Outcome::Answered(body) => ("answered", body.clone()),
            Outcome::Refused { code, text } => ("refused", json!({"code": code, "text": text})),
            Outcome::Unknown(why) => ("unknown", json!(why)),
        };
        json!({
            "process": self.process,
            "node": format!("n{}", self.node),
            "request": self.request,
            kind: what,
            "began": self.began.as_secs_f64(),
            "ended": self.ended.as_secs_f64(),
            "at_rest": self.at_rest,
        })
    }
}
